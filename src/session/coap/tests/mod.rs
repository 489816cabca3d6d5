//! Promises of an endpoint.

mod agreement;
mod codes;
mod download;
mod flood;
mod layer;
mod link;
mod restart;
mod traces;
