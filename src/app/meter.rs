//! Counts and logs the reports of a worker: both in one place, so that metrics and log agree.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use super::notices::{DeviceNotices, Notice, product_of};
use crate::protocol::envelope::Reason;
use crate::protocol::id::ProductId;
use crate::protocol::limit::Load;
use crate::protocol::uplink::Availability;
use crate::session::coap::{self, PeerKey};
use crate::session::mqtt::{Ending, Event};
use crate::session::step::{Action, Peer, Step};
use crate::telemetry::follow::WorkerFollowers;
use crate::telemetry::health::Health;
use crate::telemetry::metric::{
    CoapRefusal, CommandOutcome, ConnectOutcome, ConnectionState, HandshakeOutcome, Label as _, TlsHandshakeKind,
    Transport, WorkerMetrics,
};
use crate::transport::{
    Clock, ConnectionLimit, Handshake, Meter, Pauses, Peers, Refused, Refusing, Traffic, TransportKind,
};

/// Bytes of a peer's text in a line of the log, at most; a valid topic is no longer.
const SHOWN_BYTES_MAX: usize = 512;

/// The meter of one worker.
pub struct WorkerMeter {
    worker: usize,
    metrics: Arc<WorkerMetrics>,
    health: Arc<Health>,
    connection_limit: Arc<ConnectionLimit>,
    notices: Arc<DeviceNotices>,
    followers: WorkerFollowers,
    clock: Clock,
    /// Whether the log's last word about the queue is that it is away; true at first, so that its first readiness is logged.
    queue_away: bool,
}

impl WorkerMeter {
    /// The meter of the worker with that number, from 0; everything else but the clock is shared with other workers.
    pub fn new(
        worker: usize,
        metrics: Arc<WorkerMetrics>,
        health: Arc<Health>,
        connection_limit: Arc<ConnectionLimit>,
        notices: Arc<DeviceNotices>,
        followers: WorkerFollowers,
        clock: Clock,
    ) -> Self {
        Self { worker, metrics, health, connection_limit, notices, followers, clock, queue_away: true }
    }
}

impl WorkerMeter {
    fn set_traffic(&self, transport: Transport, traffic: &Traffic) {
        self.metrics.received_bytes[transport].set(traffic.received());
        self.metrics.sent_bytes[transport].set(traffic.sent());
    }

    /// Counts a rejected message for the lines that the log has of each product.
    fn note_rejected(&self, device: &str, peer: &dyn Display, reason: Reason, topic: &str, detail: &str) {
        let notice = Notice { reason: reason.as_str(), device, peer, topic, detail: &detail };
        self.notices.rejections.note(Some(product_of(topic)), &notice);
    }

    /// Logs an event of a CoAP port.
    fn log_coap(peer: PeerKey, device: &str, event: &coap::Event<'_>) {
        let device = shown(device);
        match *event {
            coap::Event::Refused(coap::Refused { refusal: coap::Refusal::KeyLength, .. }) => {
                let peer = peer.to_string();
                tracing::warn!(device, peer, "a device cannot use CoAP without DTLS: its secureKey has not 16 bytes");
            }
            coap::Event::Refused(refused) => tracing::debug!(
                device,
                peer = peer.to_string(),
                reason = CoapRefusal::from(refused.refusal).text(),
                clock_off = refused.clock_off.map(|off| off.to_string()),
                detail = shown(&refused.to_string()),
                "request refused"
            ),
            coap::Event::Message(Event::Foreign { topic }) => {
                let (peer, topic) = (peer.to_string(), shown(topic));
                tracing::warn!(device, peer, topic, "a request on the path of another device was refused");
            }
            coap::Event::Message(Event::RefusedByQueue { reason, topic, cause, .. }) => {
                tracing::warn!(
                    device,
                    peer = peer.to_string(),
                    reason = reason.as_str(),
                    topic = shown(topic),
                    cause,
                    "the queue never takes a message: a rejected envelope takes its place"
                );
            }
            coap::Event::Message(Event::Rejected { reason, topic, detail, .. }) => {
                let (reason, topic) = (reason.as_str(), shown(topic));
                let detail = shown(detail);
                tracing::debug!(device, peer = peer.to_string(), reason, topic, detail, "a message was rejected");
            }
            coap::Event::Dropped(reason) => {
                let reason = reason.text();
                tracing::debug!(device, peer = peer.to_string(), reason, "a message was dropped");
            }
            coap::Event::TokenIssued => tracing::debug!(device, peer = peer.to_string(), "a device was given a token"),
            coap::Event::Answered(code) => tracing::trace!(peer = peer.to_string(), %code, "a request was answered"),
            coap::Event::Message(_)
            | coap::Event::Noise
            | coap::Event::Duplicate
            | coap::Event::TokenAccepted
            | coap::Event::Retransmitted => {}
        }
    }
}

/// The first [`SHOWN_BYTES_MAX`] bytes of a peer's text. The log escapes control characters.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

fn outcome(reason: Refused) -> ConnectOutcome {
    match reason {
        Refused::Version => ConnectOutcome::UnsupportedVersion,
        Refused::ClientId => ConnectOutcome::EmptyClientId,
        Refused::Identity(refusal) => refusal.into(),
        Refused::RegistryAway => ConnectOutcome::RegistryAway,
        Refused::QueueAway => ConnectOutcome::QueueAway,
        Refused::Draining => ConnectOutcome::Draining,
        Refused::ConnectionLimit => ConnectOutcome::ConnectionLimit,
        Refused::Crowded => ConnectOutcome::Crowded,
        Refused::TakeoverLimit => ConnectOutcome::TakeoverLimit,
        Refused::ReconnectLimit => ConnectOutcome::ReconnectLimit,
        Refused::Certificate => ConnectOutcome::WrongCertificate,
        Refused::ProxyHeader => ConnectOutcome::ProxyHeader,
        Refused::TlsHandshake => ConnectOutcome::TlsHandshake,
        Refused::WebSocketHandshake => ConnectOutcome::WebSocketHandshake,
        Refused::Malformed(_) | Refused::TimedOut => ConnectOutcome::Malformed,
        Refused::ConnectionLost => ConnectOutcome::Gone,
    }
}

/// Whether somebody can do something about a refusal, by changing the device, its record or the configuration; the log
/// names these by product. An outage, a drain and an overload pass by themselves, and are logged where they are found.
fn has_remedy(reason: Refused) -> bool {
    reason.is_fault() || matches!(reason, Refused::TakeoverLimit | Refused::ReconnectLimit)
}

fn transport(kind: TransportKind) -> Transport {
    match kind {
        TransportKind::Tcp => Transport::Mqtt,
        TransportKind::Tls => Transport::MqttTls,
        TransportKind::WebSocket => Transport::WebSocket,
        TransportKind::WebSocketTls => Transport::WebSocketTls,
    }
}

impl Meter for WorkerMeter {
    fn opened(&mut self, kind: TransportKind) {
        self.metrics.connections[(transport(kind), ConnectionState::Opening)].inc();
    }

    fn closed(&mut self, kind: TransportKind, had_session: bool) {
        let state = if had_session { ConnectionState::Open } else { ConnectionState::Opening };
        self.metrics.connections[(transport(kind), state)].dec();
    }

    fn turn_began(&mut self, waited_us: u64) {
        self.metrics.accept_wait.observe_us(waited_us);
    }

    fn waiting(&mut self, connections: usize) {
        self.metrics.connections_waiting.set(connections as u64);
    }

    fn connected(&mut self, kind: TransportKind, device: &str, peer: &str) {
        self.metrics.accept();
        self.metrics.connections[(transport(kind), ConnectionState::Opening)].dec();
        self.metrics.connections[(transport(kind), ConnectionState::Open)].inc();
        tracing::debug!(device, peer, "a session began");
    }

    fn refused(&mut self, peer: &str, refusing: &Refusing) {
        let outcome = outcome(refusing.reason);
        self.metrics.connects[outcome].inc();
        let (device, reason) = (shown(&refusing.device), outcome.text());
        if has_remedy(refusing.reason) {
            let notice = Notice { reason, device, peer: &peer, topic: "", detail: refusing };
            self.notices.refusals.note(refusing.product.as_ref().map(ProductId::as_str), &notice);
        }
        if self.is_followed() {
            let product = refusing.product.as_ref().map_or("", ProductId::as_str);
            let detail = refusing.to_string();
            let action = Action::Refuse { reason, detail: &detail };
            self.step(Peer::Text(peer), &Step { product, device, about: device, action });
        }
        tracing::debug!(
            device,
            peer,
            reason,
            clock_off = refusing.clock_off().map(|off| off.to_string()),
            detail = refusing.to_string(),
            "connection refused"
        );
    }

    fn took_over(&mut self, device: &str) {
        self.metrics.takeovers.inc();
        tracing::debug!(device, "a newer connection of the device takes over");
    }

    fn session(&mut self, device: &str, peer: &str, event: Event<'_>) {
        self.metrics.count(&event);
        match event {
            Event::Received(_)
            | Event::Stored { .. }
            | Event::Outcome { .. }
            | Event::Unreadable
            | Event::NoCaller
            | Event::Unacknowledged => {}
            Event::Rejected { reason, topic, detail, .. } => {
                self.note_rejected(device, &peer, reason, topic, detail);
                let (reason, topic) = (reason.as_str(), shown(topic));
                tracing::debug!(device, peer, reason, topic, detail = shown(detail), "a message was rejected");
            }
            Event::RefusedByQueue { reason, topic, cause, .. } => {
                let topic = shown(topic);
                tracing::warn!(
                    device,
                    peer,
                    reason = reason.as_str(),
                    topic,
                    cause,
                    "the queue never takes a message: a rejected envelope takes its place"
                );
            }
            Event::Foreign { topic } => {
                tracing::warn!(
                    device,
                    peer,
                    topic = shown(topic),
                    "a message on the topic of another device closes its connection"
                );
            }
            Event::Dropped(_) => tracing::debug!(device, peer, "a message was dropped"),
            Event::Ended(Ending::NotAcknowledged) => {
                tracing::debug!(device, peer, "a session ended: the queue did not acknowledge in time");
            }
            Event::Ended(ending) => tracing::debug!(device, peer, ?ending, "a session ended"),
        }
    }

    fn reply_subject_refused(&mut self) {
        self.metrics.commands[CommandOutcome::ReplySubjectRefused].inc();
    }

    fn commands_lost(&mut self, count: u64) {
        self.metrics.commands[CommandOutcome::Lost].add(count);
        tracing::error!(worker = self.worker, count, "commands were lost without an answer: more came than can wait");
    }

    fn coap(&mut self, peer: PeerKey, device: &str, event: coap::Event<'_>) {
        self.metrics.count_coap(&event);
        match event {
            coap::Event::Message(Event::Rejected { reason, topic, detail, .. }) => {
                self.note_rejected(device, &peer, reason, topic, detail);
            }
            // `log_coap` warns of each such device.
            coap::Event::Refused(coap::Refused { refusal: coap::Refusal::KeyLength, .. }) => {}
            coap::Event::Refused(refused) => {
                let reason = CoapRefusal::from(refused.refusal).text();
                let notice = Notice { reason, device, peer: &peer, topic: "", detail: &refused };
                self.notices.refusals.note(refused.product, &notice);
            }
            _ => {}
        }
        Self::log_coap(peer, device, &event);
    }

    fn tls_handshake(&mut self, is_resumed: bool) {
        let kind = if is_resumed { TlsHandshakeKind::Resumed } else { TlsHandshakeKind::Full };
        self.metrics.tls_handshakes[kind].inc();
    }

    fn dtls_handshake(&mut self, peer: SocketAddr, outcome: Handshake) {
        let counted = match outcome {
            Handshake::Noise => return self.metrics.coap_noise.inc(),
            Handshake::CookieRequested => return self.metrics.dtls_cookies.inc(),
            Handshake::Unauthenticated => return self.metrics.dtls_unauthenticated.inc(),
            Handshake::Finished => HandshakeOutcome::Finished,
            Handshake::Failed => HandshakeOutcome::Failed,
            Handshake::TimedOut => HandshakeOutcome::TimedOut,
            Handshake::Refused => HandshakeOutcome::Refused,
        };
        self.metrics.dtls_handshakes[counted].inc();
        tracing::debug!(peer = peer.to_string(), outcome = counted.text(), "a DTLS handshake ended");
    }

    fn peers(&mut self, peers: &Peers) {
        let connections = &self.metrics.connections;
        connections[(Transport::Coap, ConnectionState::Open)].set(peers.addresses as u64);
        connections[(Transport::Dtls, ConnectionState::Opening)].set(peers.handshakes as u64);
        connections[(Transport::Dtls, ConnectionState::Open)].set(peers.sessions as u64);
        self.metrics.dtls_sessions.set(peers.sessions as u64);
    }

    fn mqtt_traffic(&mut self, kind: TransportKind, traffic: &Traffic) {
        self.set_traffic(transport(kind), traffic);
    }

    fn coap_traffic(&mut self, plain: &Traffic, secured: &Traffic) {
        self.set_traffic(Transport::Coap, plain);
        self.set_traffic(Transport::Dtls, secured);
    }

    fn pauses(&mut self, pauses: Pauses) {
        self.metrics.paused.set(pauses.connections());
        self.metrics.paused_seconds.set_us(pauses.total_us());
    }

    fn is_followed(&self) -> bool {
        self.followers.is_followed()
    }

    fn step(&mut self, peer: Peer<'_>, step: &Step<'_>) {
        let clock = self.clock;
        self.followers.step(peer, step, || clock.now().unix_ms);
    }

    /// Comes about ten times a second, so it also shows that the worker turns, and writes the notices that are due.
    fn load(&mut self, load: &Load, queue: Availability, commands: Availability) {
        self.metrics.set_load(load);
        self.health.turned(self.worker);
        self.health.set_used(self.connection_limit.used_percent());
        self.notices.tell();
        self.health.queue.set(self.worker, queue);
        self.health.set_commands(self.worker, commands);
        let away = queue != Availability::Ok;
        if away != self.queue_away {
            self.queue_away = away;
            if away {
                tracing::warn!(worker = self.worker, "the queue is away: new devices are told to try again later");
            } else {
                tracing::info!(worker = self.worker, "queue is ready");
            }
        }
    }
}
