//! One simulated device, without sockets and clock.
//!
//! 1. [`Client::open`]: a connection stands; CONNECT goes out.
//! 2. [`Client::receive`]: CONNACK makes the client live; acknowledgements empty its window; commands are answered.
//! 3. [`Client::produce`]: what a former connection left unacknowledged goes out first and in order, then new reports.
//! 4. [`Client::tick`]: pings, and giving up a silent server.
//! 5. [`Device::close`]: the connection is gone; what nobody acknowledged is kept for the next one.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::responder::{self, Response};
use super::window::{Acknowledged, Message, Window};
use crate::codec::mqtt::{
    self, Connect, ConnectCode, Credentials, Packet, PacketId, Publish, PublishHead, Qos, encode,
};
use crate::simulate::counters::{Counters, End};
use crate::simulate::driver::Device;
use crate::simulate::fleet::Step;
use crate::simulate::identities::Identity;
use crate::simulate::plan::Plan;
use crate::simulate::report::ReportFacts;

/// Nanoseconds that a server has for CONNACK.
const CONNACK_TIMEOUT_NS: u64 = 10_000_000_000;
/// A device that could not send for a while makes up for at most this much of its schedule.
const CATCH_UP_NS: u64 = 1_000_000_000;
/// Above any id that is in use while a SUBSCRIBE waits for its answer: windows count from 1 on each connection.
const SUBSCRIBE_ID: PacketId = PacketId::MAX;
/// Replies beyond this many messages in flight are not sent, so that packet ids stay unique.
const IN_FLIGHT_MAX: usize = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Disconnected,
    Asked { since_ns: u64 },
    Live,
}

/// A simulated device.
#[derive(Debug)]
pub(in crate::simulate) struct Client {
    index: u32,
    identity: Identity,
    report_topic: String,
    stage: Stage,
    window: Window,
    backlog: VecDeque<(u64, u64)>,
    last_n: u64,
    connection: u32,
    next_due_ns: u64,
    written_ns: u64,
    pinged_ns: Option<u64>,
    rest: Vec<u8>,
}

impl Client {
    /// A device that never was connected; its first report is due this long after its first CONNACK.
    pub(in crate::simulate) fn new(index: u32, identity: Identity, first_due_ns: u64) -> Self {
        let report_topic = format!("/{}/{}/properties/report", identity.product, identity.device);
        Self {
            index,
            identity,
            report_topic,
            stage: Stage::Disconnected,
            window: Window::default(),
            backlog: VecDeque::new(),
            last_n: 0,
            connection: 0,
            next_due_ns: first_due_ns,
            written_ns: 0,
            pinged_ns: None,
            rest: Vec::new(),
        }
    }

    /// Whether it would produce more at this moment, were it asked again.
    pub(super) fn is_eager(&self, plan: &Plan) -> bool {
        self.is_connected() && plan.qos == Qos::AtMostOnce && plan.interval_ns == 0 && self.last_n < plan.count
    }

    /// Starts a connection.
    pub(super) fn open(&mut self, step: &mut Step<'_>) {
        let credentials = (!step.plan.anonymous).then(|| self.identity.credentials(step.wall_ms));
        let connect = Connect {
            version: step.plan.version,
            clean_session: true,
            keep_alive_secs: step.plan.keep_alive_secs,
            client_id: &self.identity.device,
            will: None,
            credentials: Credentials {
                username: credentials.as_ref().map(|(username, _)| username.as_str()),
                password: credentials.as_ref().map(|(_, password)| password.as_bytes()),
            },
        };
        encode::connect(step.out, &connect);
        self.stage = Stage::Asked { since_ns: step.now_ns };
        self.written_ns = step.now_ns;
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// The connection must be closed, for the reason returned.
    pub(super) fn receive(&mut self, bytes: &[u8], step: &mut Step<'_>) -> Result<(), End> {
        self.pinged_ns = None;
        if self.rest.is_empty() {
            let used = self.take_packets(bytes, step)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let used = self.take_packets(&rest, step)?;
            rest.drain(..used);
            if !rest.is_empty() {
                self.rest = rest;
            }
        }
        Ok(())
    }

    /// Sends what is due: at most the plan's window is unacknowledged afterwards. New reports only if `fresh`.
    pub(super) fn produce(&mut self, fresh: bool, step: &mut Step<'_>) {
        if !self.is_connected() {
            return;
        }
        // At QoS 0 nothing fills the window, so it bounds one step instead.
        let mut unconfirmed = 0;
        while self.window.len() + unconfirmed < step.plan.window {
            if let Some((n, timestamp_ms)) = self.backlog.pop_front() {
                step.counters.count_resent(self.index, n);
                self.report(n, timestamp_ms, step);
                continue;
            }
            if !fresh || self.last_n >= step.plan.count {
                break;
            }
            if step.plan.interval_ns > 0 {
                if step.now_ns < self.next_due_ns {
                    break;
                }
                let next = self.next_due_ns + step.plan.interval_ns;
                self.next_due_ns = next.max(step.now_ns.saturating_sub(CATCH_UP_NS));
            }
            self.last_n += 1;
            step.counters.count_sent(self.index, self.last_n);
            self.report(self.last_n, step.wall_ms, step);
            unconfirmed += usize::from(step.plan.qos == Qos::AtMostOnce);
        }
        if !step.out.is_empty() {
            self.written_ns = step.now_ns;
        }
    }

    /// Keeps the connection alive, or gives it up.
    ///
    /// # Errors
    /// The server answers neither CONNECT nor pings: the connection must be closed.
    pub(super) fn tick(&mut self, step: &mut Step<'_>) -> Result<(), End> {
        if step.now_ns < self.watch_ns(step.plan) {
            return Ok(());
        }
        match self.stage {
            Stage::Disconnected => Ok(()),
            Stage::Asked { .. } => Err(End::NoConnack),
            Stage::Live if self.pinged_ns.is_some() => Err(End::NoPingresp),
            Stage::Live => {
                step.out.extend_from_slice(&encode::PINGREQ);
                self.pinged_ns = Some(step.now_ns);
                self.written_ns = step.now_ns;
                Ok(())
            }
        }
    }

    /// When it must be given a turn again even if nothing arrives; `u64::MAX`: never. `fresh` as for `produce`.
    pub(super) fn deadline_ns(&self, fresh: bool, plan: &Plan) -> u64 {
        let has_schedule = fresh && self.is_connected() && plan.interval_ns > 0 && self.last_n < plan.count;
        let due_ns = if has_schedule && self.window.len() < plan.window { self.next_due_ns } else { u64::MAX };
        due_ns.min(self.watch_ns(plan))
    }

    /// Says goodbye.
    pub(super) fn disconnect(&self, out: &mut Vec<u8>) {
        if self.is_connected() {
            out.extend_from_slice(&encode::DISCONNECT);
        }
    }

    fn watch_ns(&self, plan: &Plan) -> u64 {
        let keep_alive_ns = u64::from(plan.keep_alive_secs) * 1_000_000_000;
        match (self.stage, self.pinged_ns) {
            (Stage::Disconnected, _) => u64::MAX,
            (Stage::Asked { since_ns }, _) => since_ns + CONNACK_TIMEOUT_NS,
            (Stage::Live, _) if keep_alive_ns == 0 => u64::MAX,
            (Stage::Live, Some(pinged_ns)) => pinged_ns + keep_alive_ns,
            (Stage::Live, None) => self.written_ns + keep_alive_ns / 4 * 3,
        }
    }

    fn report(&mut self, n: u64, timestamp_ms: u64, step: &mut Step<'_>) {
        step.scratch.clear();
        step.template.append(step.scratch, ReportFacts { n, connection: self.connection, timestamp_ms });
        let packet_id = (step.plan.qos != Qos::AtMostOnce)
            .then(|| self.window.push(Message::Report { n, timestamp_ms }, step.now_ns));
        publish(step.out, step.plan.qos, &self.report_topic, packet_id, step.scratch);
    }

    fn take_packets(&mut self, bytes: &[u8], step: &mut Step<'_>) -> Result<usize, End> {
        let mut used = 0;
        while let Some(frame) = mqtt::frame(&bytes[used..]).map_err(|_| End::Malformed)? {
            let end = used + frame.total_bytes();
            let Some(body) = bytes.get(used + frame.header_bytes..end) else { break };
            let packet = mqtt::decode(step.plan.version, frame.first_byte, body).map_err(|_| End::Malformed)?;
            self.take(&packet, step)?;
            used = end;
        }
        Ok(used)
    }

    fn take(&mut self, packet: &Packet<'_>, step: &mut Step<'_>) -> Result<(), End> {
        match (self.stage, packet) {
            (Stage::Asked { .. }, Packet::Connack(_, code)) if *code == ConnectCode::Accepted as u8 => {
                self.accept(step);
                Ok(())
            }
            (Stage::Asked { .. }, Packet::Connack(_, code)) => Err(End::Refused(*code)),
            (Stage::Live, packet) => self.take_live(packet, step),
            _ => Err(End::Malformed),
        }
    }

    fn accept(&mut self, step: &mut Step<'_>) {
        self.stage = Stage::Live;
        step.counters.count_connect(self.was_connected(), step.now_ns);
        if !self.was_connected() {
            self.next_due_ns += step.now_ns;
        }
        self.connection += 1;
        if let Some(qos) = step.plan.subscribe {
            let filter = format!("/{}/{}/#", self.identity.product, self.identity.device);
            encode::subscribe(step.out, SUBSCRIBE_ID, &[(&filter, qos)]);
        }
    }

    fn take_live(&mut self, packet: &Packet<'_>, step: &mut Step<'_>) -> Result<(), End> {
        match packet {
            Packet::Puback(id) => {
                let acknowledged = self.window.take_puback(*id);
                self.count(acknowledged, step);
            }
            Packet::Pubrec(id) => {
                let acknowledged = self.window.take_pubrec(*id);
                self.count(acknowledged, step);
                step.out.extend_from_slice(&encode::pubrel(*id));
            }
            Packet::Pubcomp(id) => self.window.take_pubcomp(*id),
            Packet::Pubrel(id) => step.out.extend_from_slice(&encode::pubcomp(*id)),
            Packet::Publish(publish) => self.take_command(publish, step),
            Packet::Pingresp | Packet::Suback(..) | Packet::Unsuback(_) => {}
            Packet::Connect(_)
            | Packet::ConnectOfOtherVersion
            | Packet::Connack(..)
            | Packet::Subscribe(..)
            | Packet::Unsubscribe(..)
            | Packet::Pingreq
            | Packet::Disconnect => return Err(End::Malformed),
        }
        Ok(())
    }

    fn count(&self, acknowledged: Option<Acknowledged>, step: &mut Step<'_>) {
        if let Some(Acknowledged { message: Message::Report { n, .. }, sent_ns }) = acknowledged {
            step.counters.count_acknowledged(self.index, n, step.now_ns.saturating_sub(sent_ns));
        }
    }

    fn take_command(&mut self, command: &Publish<'_>, step: &mut Step<'_>) {
        match (command.head.qos, command.head.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => step.out.extend_from_slice(&encode::puback(id)),
            (Qos::ExactlyOnce, Some(id)) => step.out.extend_from_slice(&encode::pubrec(id)),
            _ => {}
        }
        let suffix = responder::suffix(command.head.topic);
        match step.counters.commands.get_mut(suffix) {
            Some(count) => *count += 1,
            None => drop(step.counters.commands.insert(suffix.to_owned(), 1)),
        }
        if !step.plan.respond || self.window.len() >= IN_FLIGHT_MAX {
            return;
        }
        let response = responder::respond(&self.identity.device, command.head.topic, command.payload);
        if let Response::Reply { topic, body } = response {
            let packet_id = (step.plan.qos != Qos::AtMostOnce).then(|| self.window.push(Message::Reply, step.now_ns));
            publish(step.out, step.plan.qos, &topic, packet_id, &body);
            step.counters.replies += 1;
        }
    }
}

impl Device for Client {
    /// The packets of a half-written buffer are the caller's to drop.
    fn close(&mut self, counters: &mut Counters) {
        if self.is_connected() {
            counters.connected -= 1;
        }
        self.stage = Stage::Disconnected;
        self.pinged_ns = None;
        self.rest = Vec::new();
        // The backlog is younger than the window: it waited for room in it.
        let younger = std::mem::take(&mut self.backlog);
        self.backlog.extend(self.window.restart());
        self.backlog.extend(younger);
    }

    fn is_connected(&self) -> bool {
        self.stage == Stage::Live
    }

    fn was_connected(&self) -> bool {
        self.connection > 0
    }

    fn is_settled(&self) -> bool {
        self.window.len() == 0 && self.backlog.is_empty()
    }

    fn is_done(&self, plan: &Plan) -> bool {
        self.last_n >= plan.count && plan.count > 0 && self.is_settled()
    }

    fn is_refusal(end: End) -> bool {
        matches!(end, End::Refused(code) if code != 3)
    }
}

fn publish(out: &mut Vec<u8>, qos: Qos, topic: &str, packet_id: Option<PacketId>, payload: &[u8]) {
    let head = PublishHead { dup: false, qos, retain: false, topic, packet_id };
    encode::publish(out, &Publish { head, payload });
}
