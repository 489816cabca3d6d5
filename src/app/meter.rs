//! Counts and logs what a worker reports: one place, so that numbers and lines agree.

use std::net::SocketAddr;
use std::sync::Arc;

use super::rejections::Rejections;
use crate::protocol::limit::Load;
use crate::protocol::uplink::Availability;
use crate::session::coap::{self, PeerKey, Refusal};
use crate::session::mqtt::{Ending, Event};
use crate::telemetry::health::Health;
use crate::telemetry::metric::{
    CommandOutcome, ConnectOutcome, ConnectionState, HandshakeOutcome, Transport, WorkerMetrics,
};
use crate::transport::{ConnectionLimit, Handshake, Meter, Pauses, Peers, Refused, Traffic, TransportKind};

/// Bytes of a peer's text in a line of the log: as long as a topic may be.
const SHOWN_BYTES_MAX: usize = 512;

/// The meter of one worker.
pub struct WorkerMeter {
    worker: usize,
    metrics: Arc<WorkerMetrics>,
    health: Arc<Health>,
    connection_limit: Arc<ConnectionLimit>,
    rejections: Arc<Rejections>,
    queue_away: bool,
}

impl WorkerMeter {
    /// A meter that writes there.
    pub fn new(
        worker: usize,
        metrics: Arc<WorkerMetrics>,
        health: Arc<Health>,
        connection_limit: Arc<ConnectionLimit>,
        rejections: Arc<Rejections>,
    ) -> Self {
        Self { worker, metrics, health, connection_limit, rejections, queue_away: true }
    }
}

impl WorkerMeter {
    fn set_traffic(&self, transport: Transport, traffic: &Traffic) {
        self.metrics.received_bytes[transport].set(traffic.received());
        self.metrics.sent_bytes[transport].set(traffic.sent());
    }

    fn log_coap(peer: PeerKey, device: &str, event: &coap::Event<'_>) {
        match *event {
            coap::Event::Refused(Refusal::KeyLength) => {
                tracing::warn!(device, ?peer, "a device cannot use CoAP without DTLS: its secureKey has not 16 bytes");
            }
            coap::Event::Refused(refusal) => {
                tracing::debug!(device, ?peer, reason = refusal.as_str(), "a request is not authenticated");
            }
            coap::Event::Message(Event::Foreign { topic }) => {
                tracing::warn!(device, ?peer, topic, "a request on the path of another device was refused");
            }
            coap::Event::Message(Event::RefusedByQueue { reason, topic, cause, .. }) => {
                tracing::warn!(
                    device,
                    ?peer,
                    reason = reason.as_str(),
                    topic,
                    cause,
                    "the queue never takes a message: a rejected envelope takes its place"
                );
            }
            coap::Event::Message(Event::Rejected { reason, topic, .. }) => {
                tracing::debug!(device, ?peer, reason = reason.as_str(), topic, "a message was rejected");
            }
            coap::Event::Dropped(reason) => tracing::debug!(device, ?peer, ?reason, "a message was dropped"),
            coap::Event::TokenIssued => tracing::debug!(device, ?peer, "a device was given a token"),
            coap::Event::Answered(code) => tracing::trace!(?peer, %code, "a request was answered"),
            coap::Event::Message(_)
            | coap::Event::Noise
            | coap::Event::Duplicate
            | coap::Event::TokenAccepted
            | coap::Event::Retransmitted => {}
        }
    }
}

/// As much of a peer's text as a line of the log may hold. Control characters are escaped by the log.
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
        Refused::Malformed | Refused::TimedOut => ConnectOutcome::Malformed,
        Refused::ConnectionLost => ConnectOutcome::Gone,
    }
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

    fn refused(&mut self, device: &str, peer: &str, reason: Refused) {
        self.metrics.connects[outcome(reason)].inc();
        tracing::debug!(device = shown(device), peer, ?reason, "connection refused");
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
            Event::Rejected { reason, topic, .. } => {
                self.rejections.note(topic, device, reason);
                tracing::debug!(device, peer, reason = reason.as_str(), topic = shown(topic), "a message was rejected");
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
        if let coap::Event::Message(Event::Rejected { reason, topic, .. }) = event {
            self.rejections.note(topic, device, reason);
        }
        Self::log_coap(peer, device, &event);
    }

    fn handshake(&mut self, peer: SocketAddr, outcome: Handshake) {
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
        tracing::debug!(%peer, ?outcome, "a DTLS handshake ended");
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

    fn load(&mut self, load: &Load, queue: Availability, commands: Availability) {
        self.metrics.set_load(load);
        self.health.turned(self.worker);
        self.health.set_used(self.connection_limit.used_percent());
        self.rejections.tell();
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
