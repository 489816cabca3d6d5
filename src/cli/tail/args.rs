//! The command line of `tail`.

use clap::Args;
use strsim::levenshtein;

use crate::cli::examples;
use crate::protocol::envelope::EnvelopeType;

/// Prints envelopes as they are stored, one a line, until ctrl-C
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = examples::TAIL)]
pub struct TailArgs {
    /// Only envelopes about this device, or about a child behind it; may be repeated
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,

    /// Only this type: properties.report, org.jetlinks.device.properties.report or REPORT_PROPERTY; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    pub kind: Vec<String>,

    /// Begin with the last N that are stored already, 1,000 at most; with a filter, the last N that pass it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub last: Option<u16>,

    /// Print those and end
    #[arg(long, requires = "last")]
    pub no_follow: bool,

    /// End after so many envelopes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// The type itself, when there is an envelope of it.
fn parse_type(text: &str) -> Result<String, String> {
    let names = |kind: EnvelopeType| {
        let message_type = match kind {
            EnvelopeType::Device(message_type) => Some(message_type.name().to_owned()),
            _ => None,
        };
        [Some(kind.end().to_owned()), Some(kind.to_string()), message_type].into_iter().flatten()
    };
    let all: Vec<String> = EnvelopeType::all().flat_map(names).collect();
    if all.iter().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    let nearest = all.iter().min_by_key(|name| levenshtein(name, text)).filter(|name| levenshtein(name, text) <= 4);
    let advice = nearest.map(|name| format!("did you mean {name}? ")).unwrap_or_default();
    let ends: Vec<&str> = EnvelopeType::all().map(EnvelopeType::end).collect();
    Err(format!("{advice}Envelopes have {}", ends.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_no_envelope_has_is_refused_with_the_one_that_was_meant() {
        for name in ["properties.report", "org.jetlinks.device.properties.report", "REPORT_PROPERTY", "rejected"] {
            assert_eq!(parse_type(name).as_deref(), Ok(name));
        }
        for (wrong, meant) in [
            ("property.report", Some("properties.report")),
            ("REPORT_PROPERTIES", Some("REPORT_PROPERTY")),
            ("org.jetlinks.bridge.reject", Some("org.jetlinks.bridge.rejected")),
            ("nosuchthingatall", None),
        ] {
            let refusal = parse_type(wrong).unwrap_err();
            assert_eq!(refusal.starts_with("did you mean "), meant.is_some(), "{refusal}");
            assert!(refusal.contains(&format!("did you mean {}?", meant.unwrap_or_default())) == meant.is_some());
            assert!(refusal.contains("properties.report, ") && refusal.contains("command.failed"), "{refusal}");
        }
        assert!(parse_type("properties.read").is_err(), "no envelope is a command");
    }
}
