//! Simplified sessions at an uplink: they keep records until their receipt, send them again at each epoch.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use jetlinks_bridge::protocol::uplink::{
    Availability, Channel, DeliveryId, Handover, Inbox, Receipt, Record, RecordRefusal, Report, SlotId, Uplink,
};

use super::worker::PATIENCE;

/// A number of connections that each send records in order with a bounded window.
pub(crate) struct Sessions {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) report: Report,
    pub(crate) refused: usize,
    pub(crate) failed: usize,
    /// Records that the queue never stores.
    pub(crate) unstorable: Vec<(DeliveryId, RecordRefusal)>,
    /// Sendings beyond the first one of each record.
    pub(crate) repeated: usize,
    /// Records of no session that the queue has asked for.
    pub(crate) proofs: usize,
    /// Bytes that each record is longer than it need be.
    pub(crate) padding: usize,
    windows: Vec<Window>,
    window_max: usize,
    scratch: Vec<Receipt>,
}

/// Of no session.
const PROOF: DeliveryId = DeliveryId::NOBODY;

fn proof() -> Record {
    Record {
        channel: Channel::Replica,
        address: Bytes::from_static(b"jetlinks.bridge.replica.test"),
        ..Sessions::record(0, 0)
    }
}

#[derive(Default)]
struct Window {
    next_number: u64,
    next_sequence: u16,
    waiting: VecDeque<Waiting>,
    stored: Vec<u64>,
    is_stopped: bool,
}

struct Waiting {
    number: u64,
    sequence: Option<u16>,
    is_stored: bool,
}

impl Sessions {
    pub(crate) fn new(inbox: Arc<Inbox>, count: usize, window_max: usize) -> Self {
        let report = Report { availability: inbox.availability(), epoch: 0, wants_heartbeat: false };
        let windows = (0..count).map(|_| Window::default()).collect();
        let (unstorable, scratch) = (Vec::new(), Vec::new());
        Self {
            inbox,
            report,
            refused: 0,
            failed: 0,
            unstorable,
            repeated: 0,
            proofs: 0,
            padding: 0,
            windows,
            window_max,
            scratch,
        }
    }

    /// Payload of record `number` of session `slot`.
    pub(crate) fn record(slot: usize, number: u64) -> Record {
        Record {
            channel: Channel::Device,
            address: Bytes::from(format!("jetlinks.device.product1.device{slot}.event.e")),
            payload: Bytes::from(format!(r#"{{"slot":{slot},"number":{number}}}"#)),
            attributes: Vec::new(),
            recorded_ms: 1_700_000_000_000 + number,
            trace: None,
        }
    }

    /// Sends until every session has `number` records under way or stored; stops at full windows and refusals.
    pub(crate) fn send(&mut self, uplink: &mut impl Uplink, number: u64) {
        for slot in 0..self.windows.len() {
            while self.windows[slot].next_number < number && self.windows[slot].waiting.len() < self.window_max {
                let next = self.windows[slot].next_number;
                self.windows[slot].next_number += 1;
                self.windows[slot].waiting.push_back(Waiting { number: next, sequence: None, is_stored: false });
                let last = self.windows[slot].waiting.len() - 1;
                if !self.windows[slot].is_stopped {
                    self.hand_over(uplink, slot, last);
                }
            }
        }
        uplink.flush();
    }

    /// Sends and follows the inbox until every session has `number` records stored.
    pub(crate) async fn send_until_stored(&mut self, uplink: &mut impl Uplink, number: u64) {
        loop {
            self.send(uplink, number);
            if self.windows.iter().all(|window| window.stored.len() as u64 >= number) {
                return;
            }
            self.turn(uplink).await;
        }
    }

    /// Waits for one emptying of the inbox and does what it says.
    pub(crate) async fn turn(&mut self, uplink: &mut impl Uplink) {
        let taking = poll_fn(|cx| self.inbox.poll_take(cx, &mut self.scratch));
        let report = tokio::time::timeout(PATIENCE, taking).await.expect("the queue says something in time");
        for receipt in std::mem::take(&mut self.scratch) {
            match receipt {
                Receipt::Stored(id) => self.stored(id),
                Receipt::Refused(id, refusal) => self.unstorable.push((id, *refusal)),
                Receipt::Failed(id) => {
                    self.failed += 1;
                    if let Some(window) = self.windows.get_mut(id.slot.index as usize) {
                        window.is_stopped = true;
                    }
                }
            }
        }
        let is_new_epoch = report.epoch > self.report.epoch;
        self.report = report;
        if is_new_epoch {
            for slot in 0..self.windows.len() {
                self.windows[slot].is_stopped = false;
                // What is stored behind a gap goes again too: order is judged by last copies.
                for place in 0..self.windows[slot].waiting.len() {
                    self.repeated += usize::from(self.windows[slot].waiting[place].sequence.is_some());
                    self.windows[slot].waiting[place].is_stored = false;
                    self.hand_over(uplink, slot, place);
                }
            }
            uplink.flush();
        }
        // As a worker does: where no session has a record that could prove that the queue stores any.
        if report.wants_heartbeat && self.windows.iter().all(|window| window.waiting.is_empty()) {
            self.proofs += usize::from(uplink.publish(PROOF, &proof()) == Handover::Taken);
            uplink.flush();
        }
    }

    pub(crate) async fn until_report(&mut self, uplink: &mut impl Uplink, is_meant: impl Fn(Report) -> bool) {
        while !is_meant(self.report) {
            self.turn(uplink).await;
        }
    }

    pub(crate) async fn until_available(&mut self, uplink: &mut impl Uplink) {
        self.until_report(uplink, |report| report.availability == Availability::Ok).await;
    }

    /// Numbers of the stored records of a session, in the order of their receipts.
    pub(crate) fn stored_of(&self, slot: usize) -> &[u64] {
        &self.windows[slot].stored
    }

    fn hand_over(&mut self, uplink: &mut impl Uplink, slot: usize, place: usize) {
        let window = &mut self.windows[slot];
        let sequence = window.next_sequence;
        window.next_sequence = sequence.wrapping_add(1);
        window.waiting[place].sequence = Some(sequence);
        let id = DeliveryId { slot: SlotId { index: slot as u32, generation: 1 }, sequence };
        let mut record = Self::record(slot, window.waiting[place].number);
        if self.padding > 0 {
            let payload = String::from_utf8_lossy(&record.payload).replace('}', "");
            record.payload = format!(r#"{payload},"padding":"{}"}}"#, "x".repeat(self.padding)).into();
        }
        match uplink.publish(id, &record) {
            Handover::Taken => {}
            Handover::NotTaken => {
                window.is_stopped = true;
                self.refused += 1;
            }
        }
    }

    fn stored(&mut self, id: DeliveryId) {
        if id == PROOF {
            return;
        }
        let Some(window) = self.windows.get_mut(id.slot.index as usize) else { panic!("{id:?}") };
        if let Some(waiting) = window.waiting.iter_mut().find(|waiting| waiting.sequence == Some(id.sequence)) {
            waiting.is_stored = true;
        }
        while window.waiting.front().is_some_and(|waiting| waiting.is_stored) {
            let done = window.waiting.pop_front().expect("it was just seen");
            window.stored.push(done.number);
        }
    }
}

/// Checks that for every session all records are stored, and that their last copies are in the order sent.
pub(crate) fn assert_stored_in_order(stored: impl Iterator<Item = Vec<u8>>, sessions: usize, number: u64) {
    let mut last_copies: Vec<HashMap<u64, usize>> = vec![HashMap::new(); sessions];
    for (position, payload) in stored.enumerate() {
        let value: serde_json::Value = serde_json::from_slice(&payload).expect("payloads are JSON");
        let slot = value["slot"].as_u64().expect("a slot") as usize;
        last_copies[slot].insert(value["number"].as_u64().expect("a number"), position);
    }
    for (slot, copies) in last_copies.iter().enumerate() {
        let positions: Vec<usize> =
            (0..number).map(|n| *copies.get(&n).unwrap_or_else(|| panic!("{slot}/{n} is not stored"))).collect();
        assert!(positions.is_sorted(), "session {slot}: last copies are out of order");
    }
}
