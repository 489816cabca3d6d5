//! What a simulation counts.

use std::collections::BTreeMap;

use super::latency::LatencyHistogram;
use super::ledger::LedgerWriter;
use crate::codec::coap::Code;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// The simulation is over.
    Finished,
    /// The server closed it.
    Closed,
    /// CONNACK said no, with this code.
    Refused(u8),
    /// The socket failed, or could not be connected.
    Failed(std::io::ErrorKind),
    /// No answer to CONNECT in time.
    NoConnack,
    /// No answer to a ping in time.
    NoPingresp,
    /// The server sent what the protocol does not allow.
    Malformed,
    /// No DTLS session came about, or it broke.
    Dtls,
    /// No answer to a CoAP request, however often it was sent.
    NoAnswer,
    /// A CoAP request was answered with this code.
    Answered(Code),
}

impl End {
    /// The reason in words, for counters.
    pub(super) fn name(self) -> String {
        match self {
            End::Finished => "finished".to_owned(),
            End::Closed => "closed by server".to_owned(),
            End::Refused(code) => format!("refused with code {code}"),
            End::Failed(kind) => kind.to_string(),
            End::NoConnack => "no answer to CONNECT".to_owned(),
            End::NoPingresp => "no answer to ping".to_owned(),
            End::Malformed => "malformed packet from server".to_owned(),
            End::Dtls => "DTLS failed".to_owned(),
            End::NoAnswer => "no answer".to_owned(),
            End::Answered(code) => format!("answered {code}"),
        }
    }
}

/// Counters of all devices, and the ledger.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Reports sent for the first time.
    pub sent: u64,
    /// Reports sent again on another connection.
    pub resent: u64,
    /// Reports whose acknowledgement was read; at QoS 0 none.
    pub acknowledged: u64,
    /// From sending a report to its acknowledgement.
    pub latency: LatencyHistogram,
    /// Connections that are accepted and open.
    pub connected: u64,
    /// Accepted CONNECTs.
    pub connects: u64,
    /// Accepted CONNECTs of devices that were connected before.
    pub reconnects: u64,
    /// Devices that were connected at least once.
    pub ever_connected: u64,
    /// When the first device was connected, in nanoseconds since the start.
    pub first_connected_ns: Option<u64>,
    /// When the latest device was connected for the first time, in nanoseconds since the start.
    pub last_connected_ns: u64,
    /// Refused CONNECTs by return code.
    pub refused: BTreeMap<u8, u64>,
    /// Ends of connections and of attempts, without refusals and those that this side wanted.
    pub ended: BTreeMap<String, u64>,
    /// Commands that arrived, by topic suffix.
    pub commands: BTreeMap<String, u64>,
    /// Replies to commands sent.
    pub replies: u64,
    /// The ledger, when one is kept.
    pub ledger: Option<LedgerWriter>,
}

impl Tally {
    /// Counts the end of a connection or of an attempt.
    pub(super) fn count_end(&mut self, end: End) {
        match end {
            End::Finished => {}
            End::Refused(code) => *self.refused.entry(code).or_default() += 1,
            other => *self.ended.entry(other.name()).or_default() += 1,
        }
    }

    /// Counts a report, just handed over for the first time.
    pub(super) fn count_sent(&mut self, device: u32, n: u64) {
        self.sent += 1;
        if let Some(ledger) = &mut self.ledger {
            ledger.sent(device, n);
        }
    }

    /// Counts a report's acknowledgement.
    pub(super) fn count_acknowledged(&mut self, device: u32, n: u64, latency_ns: u64) {
        self.acknowledged += 1;
        self.latency.record(latency_ns / 1_000);
        if let Some(ledger) = &mut self.ledger {
            ledger.acknowledged(device, n);
        }
    }

    /// Counts a report that is sent once more.
    pub(super) fn count_resent(&mut self, device: u32, n: u64) {
        self.resent += 1;
        if let Some(ledger) = &mut self.ledger {
            ledger.resent(device, n);
        }
    }
}
