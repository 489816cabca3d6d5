//! Findings of a check, as text or as JSON.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::EXIT_CONFIGURATION;
use super::connect::Part;
use crate::cli::output::{Output, escaped, escaped_lines};
use crate::queue::{Finding, FindingResult};

/// Result of a check.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Reasons for which the bridge does not start.
    pub mistakes: Vec<String>,
    /// Settings that it starts with, and that probably are not meant.
    pub warnings: Vec<String>,
    /// Devices in the file of the registry, where it was read.
    pub devices: Option<usize>,
    /// Findings about servers, where they were asked.
    pub findings: Option<Vec<(Part, Finding)>>,
}

impl Report {
    pub(super) fn new(mistakes: Vec<String>) -> Self {
        Self { mistakes, ..Self::default() }
    }

    /// 78 with a mistake (or a warning, where those are denied), 1 with a trouble of a server, else 0.
    pub(super) fn exit_code(&self, denies_warnings: bool) -> ExitCode {
        if !self.mistakes.is_empty() || (denies_warnings && !self.warnings.is_empty()) {
            return ExitCode::from(EXIT_CONFIGURATION);
        }
        if self.has_trouble() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn has_trouble(&self) -> bool {
        self.findings.iter().flatten().any(|(_, finding)| finding.result == FindingResult::Trouble)
    }

    /// Prints everything; `resolved` is the configuration.
    pub(super) fn print(&self, resolved: &str, output: Output, out: &mut dyn Write, err: &mut dyn Write) {
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}\n"));
        let told: String = warnings.chain(self.mistakes.iter().map(|mistake| format!("{mistake}\n"))).collect();
        let text = match output {
            Output::Json => self.json(resolved),
            Output::Text => {
                // Nobody is left to tell when stderr is closed; the exit code still tells.
                let _ = err.write_all(escaped_lines(&told).as_bytes());
                self.text(resolved)
            }
        };
        // Nobody is left to tell when stdout is closed; the exit code still tells.
        let _ = out.write_all(escaped_lines(&text).as_bytes());
    }

    fn text(&self, resolved: &str) -> String {
        if !self.mistakes.is_empty() {
            return String::new();
        }
        if let Some(findings) = &self.findings {
            let line = |(part, finding): &(Part, Finding)| {
                let Finding { subject, result, text } = finding;
                let text = format!("{subject}: {text}");
                format!("{:<11}  {:<7}  {}\n", part.as_str(), result.as_str(), escaped(&text))
            };
            return findings.iter().map(line).collect();
        }
        let devices = self.devices.map(|devices| format!("\n# devices in the registry: {devices}\n"));
        format!("{resolved}{}", devices.unwrap_or_default())
    }

    fn json(&self, resolved: &str) -> String {
        let finding = |(part, finding): &(Part, Finding)| {
            json!({
                "part": part.as_str(), "subject": finding.subject,
                "result": finding.result.as_str(), "text": finding.text,
            })
        };
        let object = json!({
            "ok": self.mistakes.is_empty() && !self.has_trouble(),
            "mistakes": self.mistakes,
            "warnings": self.warnings,
            "configuration": Some(resolved).filter(|_| self.mistakes.is_empty()),
            "devices": self.devices,
            "findings": self.findings.as_ref().map(|findings| findings.iter().map(finding).collect::<Vec<_>>()),
        });
        format!("{object}\n")
    }
}
