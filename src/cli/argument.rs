//! Arguments that are a text or where it is.

use std::fs;
use std::io::{self, Read};

/// The text itself, what is in the file after `@`, or for `-` what comes from stdin.
///
/// # Errors
/// The system's, with the name of the file.
pub fn text_or_file(argument: &str) -> io::Result<Vec<u8>> {
    if argument == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}"))),
        None => Ok(argument.as_bytes().to_vec()),
    }
}
