//! Results of looks at a server, for tools that say what is wrong before the bridge runs.

use tokio::sync::mpsc::UnboundedSender;

/// Result of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the thing that was looked at: `topic jetlinks.device`.
    pub subject: String,
    /// Whether it is well.
    pub result: FindingResult,
    /// Words for it, and for a trouble what to do.
    pub text: String,
}

/// Whether what was looked at is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingResult {
    /// The bridge can work with it.
    Ok,
    /// Not proved, or worth knowing; no obstacle.
    Note,
    /// The bridge cannot work with it.
    Trouble,
}

impl FindingResult {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingResult::Ok => "ok",
            FindingResult::Note => "note",
            FindingResult::Trouble => "trouble",
        }
    }
}

/// Takes findings one after the other, from any thread.
#[derive(Debug, Clone)]
pub struct Findings(UnboundedSender<Finding>);

impl Findings {
    /// Hands findings to this channel. A look makes some ten.
    pub fn new(sender: UnboundedSender<Finding>) -> Self {
        Self(sender)
    }

    /// Adds something that is well.
    pub fn ok(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(subject.into(), FindingResult::Ok, text.into());
    }

    /// Adds something that was not proved, or that is worth knowing.
    pub fn note(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(subject.into(), FindingResult::Note, text.into());
    }

    /// Adds a trouble.
    pub fn trouble(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(subject.into(), FindingResult::Trouble, text.into());
    }

    fn add(&self, subject: String, result: FindingResult, text: String) {
        // Whoever wanted to know has stopped waiting.
        let _late = self.0.send(Finding { subject, result, text });
    }
}
