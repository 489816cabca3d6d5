//! Messages between replicas: claims, and commands for a device that another replica holds.

mod claims;
mod requests;

pub use claims::NatsClaims;
