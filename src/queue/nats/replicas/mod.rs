//! Messages between replicas: claims, commands for a device that another replica holds, and requests of operators.

mod claims;
mod operator;
mod requests;

pub use claims::NatsClaims;
