//! Promises of an endpoint.

mod agreement;
mod codes;
mod diagnostics;
mod download;
mod flood;
mod layer;
mod link;
mod restart;
mod traces;
