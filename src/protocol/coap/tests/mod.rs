//! What an endpoint promises.

mod codes;
mod flood;
mod layer;
mod link;
mod traces;
