//! Clients of the brokers: their properties, the topics that they need, and why a broker is not reached.

mod causes;
pub(super) mod properties;
pub(super) mod topics;

pub(super) use self::causes::{Causes, Subject, cause_of, is_about_a_connection, log_line};
