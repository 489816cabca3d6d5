//! Result of a comparison.

use std::fmt;

use serde::Serialize;

/// How many examples a report gives of each fault.
pub const EXAMPLES_MAX: usize = 20;

/// The result of a comparison; its fields are those of the JSON output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The run.
    pub run: String,
    /// Whether the ledger is complete. If not, what its simulation did just before it was killed is not judged.
    pub ledger_ended: bool,
    /// Devices of the run.
    pub devices: u64,
    /// Messages that devices sent.
    pub sent: u64,
    /// Messages that devices sent again on a later connection.
    pub resent: u64,
    /// Messages that devices saw acknowledged.
    pub acknowledged: u64,
    /// Messages that are stored at least once.
    pub stored: u64,
    /// Messages acknowledged and not stored.
    pub lost: u64,
    /// The first of them.
    pub lost_first: Vec<Loss>,
    /// The rule by which the order was compared.
    pub rule: String,
    /// Messages acknowledged that a consumer which follows the rule takes before a message that was sent before them.
    pub out_of_order: u64,
    /// The first of them.
    pub out_of_order_first: Vec<Disorder>,
    /// Surplus copies of messages.
    pub duplicates_by_n: u64,
    /// Surplus copies under the same envelope id: those that consumers can drop.
    pub duplicates_by_id: u64,
    /// Different messages under the same envelope id: consumers that drop duplicates lose one.
    pub id_clashes: u64,
    /// Copies of a connection that was already replaced, after copies of the later one; no promise forbids them.
    pub late: u64,
    /// Messages of this run that no device of the ledger sent.
    pub unexpected: u64,
    /// Other envelopes.
    pub others: u64,
    /// Records that are no envelope, and batches that cannot be read.
    pub unreadable: u64,
}

/// An acknowledged message that is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The device that sent it.
    pub device: String,
    /// Its number.
    pub n: u64,
}

/// An acknowledged message that is stored at the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disorder {
    /// The device that sent it.
    pub device: String,
    /// Its number.
    pub n: u64,
    /// The message of lower number that is stored after it.
    pub ahead_of: u64,
}

impl Report {
    /// Whether the promises are kept: nothing lost, nothing out of order, no two messages under one id.
    pub fn is_well(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0 && self.id_clashes == 0
    }

    pub(super) fn add_loss(&mut self, loss: impl FnOnce() -> Loss) {
        self.lost += 1;
        if self.lost_first.len() < EXAMPLES_MAX {
            self.lost_first.push(loss());
        }
    }

    pub(super) fn add_disorder(&mut self, disorder: impl FnOnce() -> Disorder) {
        self.out_of_order += 1;
        if self.out_of_order_first.len() < EXAMPLES_MAX {
            self.out_of_order_first.push(disorder());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run           {} ({} devices)", self.run, self.devices)?;
        if !self.ledger_ended {
            writeln!(f, "ledger        incomplete: its simulation was killed")?;
        }
        writeln!(f, "sent          {} and {} again", self.sent, self.resent)?;
        writeln!(f, "acknowledged  {}", self.acknowledged)?;
        writeln!(f, "stored        {}", self.stored)?;
        writeln!(f, "lost          {}", self.lost)?;
        for Loss { device, n } in &self.lost_first {
            writeln!(f, "              {device}: {n}")?;
        }
        writeln!(f, "out of order  {} ({})", self.out_of_order, self.rule)?;
        for Disorder { device, n, ahead_of } in &self.out_of_order_first {
            writeln!(f, "              {device}: {n} before {ahead_of}")?;
        }
        writeln!(
            f,
            "duplicates    {} by number, {} of them under the same id",
            self.duplicates_by_n, self.duplicates_by_id
        )?;
        writeln!(f, "id clashes    {}", self.id_clashes)?;
        writeln!(f, "late copies   {}", self.late)?;
        writeln!(f, "unexpected    {}", self.unexpected)?;
        writeln!(f, "others        {} envelopes, {} unreadable records", self.others, self.unreadable)?;
        if self.acknowledged == 0 {
            writeln!(f, "nothing was acknowledged, so nothing is proved")?;
        }
        writeln!(f, "{}", if self.is_well() { "well" } else { "NOT WELL" })
    }
}
