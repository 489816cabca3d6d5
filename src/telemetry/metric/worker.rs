//! Metrics of a worker.

use super::declare::metrics;
use super::family::Family;
use super::histogram::Histogram;
use super::label::{
    CoapCode, CoapRefusal, CommandOutcome, ConnectOutcome, ConnectionState, HandshakeOutcome, LookupResult,
    MessageResult, TlsHandshakeKind, Transport,
};
use super::number::{Counter, Gauge, Seconds};
use crate::protocol::envelope::Reason;
use crate::protocol::limit::Load;
use crate::protocol::topic::MessageKind;
use crate::session::coap;
use crate::session::mqtt::{DropReason, Ending, Event};

metrics! {
    /// The numbers of one worker; that worker alone writes them. Some 4 KiB.
    WorkerMetrics {
        connections: Family<Gauge, (Transport, ConnectionState)> = "connections",
            "Connections of devices, by transport and state.";
        sessions: Gauge = "sessions",
            "Sessions of devices.";
        connects: Family<Counter, ConnectOutcome> = "connects_total",
            "Connections of devices, by their outcome up to CONNACK.";
        connections_waiting: Gauge = "connections_waiting",
            "Connections that were accepted and wait for their turn.";
        accept_wait: Histogram = "accept_wait_seconds",
            "Time from accepting a connection to its turn, of those whose turn came.";
        closed: Family<Counter, Ending> = "sessions_closed_total",
            "Sessions that ended, by cause.";
        takeovers: Counter = "takeovers_total",
            "Sessions that took the place of an older one of the same device on this replica.";
        registry_lookups: Family<Counter, LookupResult> = "registry_lookups_total",
            "Devices that were looked up in the registry, for a CONNECT or a CoAP request, by result.";
        received_bytes: Family<Counter, Transport> = "received_bytes_total",
            "Bytes that devices sent, TLS, WebSocket and DTLS included.";
        sent_bytes: Family<Counter, Transport> = "sent_bytes_total",
            "Bytes that were sent to devices, TLS, WebSocket and DTLS included.";
        messages: Family<Counter, (MessageKind, MessageResult)> = "messages_total",
            "Messages of devices, by type and whether they were understood.";
        rejected: Family<Counter, Reason> = "rejected_total",
            "Messages of devices that were not understood or that the queue never takes, by reason; a rejected envelope holds each.";
        foreign_topics: Counter = "foreign_topics_total",
            "Messages on the topic of another device; each closed its connection, or was answered 4.03.";
        stored: Counter = "stored_total",
            "Messages of devices, rejected ones included, that the queue has acknowledged.";
        dropped: Family<Counter, DropReason> = "dropped_total",
            "Messages given up that were not to be acknowledged (QoS 0), by reason.";
        unacknowledged: Counter = "unacknowledged_total",
            "Messages given up without an acknowledgement to their device, which sends them again.";
        acknowledgement: Histogram = "acknowledgement_duration_seconds",
            "Time from the receipt of a message to its acknowledgement: after that of the queue, and in its turn.";
        queue: Histogram = "queue_duration_seconds",
            "Time from handing a message to the queue, the last time if it was sent again, to the queue's receipt.";
        paused: Gauge = "paused_connections",
            "Connections that are not read at this moment, as too much waits for the queue or memory is short.";
        paused_seconds: Seconds = "paused_connection_seconds_total",
            "Time that connections were not read, as too much waited for the queue or memory was short, added up.";
        tls_handshakes: Family<Counter, TlsHandshakeKind> = "tls_handshakes_total",
            "TLS handshakes of devices that were finished, by kind.";
        inflight_messages: Gauge = "inflight_messages",
            "Records on their way to the queue.";
        inflight_bytes: Gauge = "inflight_bytes",
            "Bytes of the records on their way to the queue.";
        commands: Family<Counter, CommandOutcome> = "commands_total",
            "Commands, by outcome.";
        commands_pending: Gauge = "commands_pending",
            "Commands that wait for their outcome.";
        command: Histogram = "command_duration_seconds",
            "Time from the receipt of a command to its outcome.";
        coap_requests: Family<Counter, CoapCode> = "coap_requests_total",
            "CoAP requests, by the code that they were answered with; duplicates are not counted again.";
        coap_refused: Family<Counter, CoapRefusal> = "coap_refused_total",
            "CoAP requests that were answered 4.01, by reason.";
        coap_dropped: Family<Counter, coap::DropReason> = "coap_dropped_total",
            "CoAP messages given up that asked for no acknowledgement (NON), by reason.";
        coap_tokens: Counter = "coap_tokens_total",
            "Tokens given out over DTLS.";
        coap_duplicates: Counter = "coap_duplicates_total",
            "CoAP requests that came again.";
        coap_retransmissions: Counter = "coap_retransmissions_total",
            "CoAP answers that were sent again, as the device did not acknowledge them.";
        coap_noise: Counter = "coap_noise_total",
            "Datagrams that are no CoAP message, of no DTLS session, or that no DTLS handshake needs.";
        dtls_sessions: Gauge = "dtls_sessions",
            "DTLS sessions whose handshake is finished.";
        dtls_cookies: Counter = "dtls_cookies_total",
            "First messages of DTLS handshakes; each was asked for a cookie and forgotten.";
        dtls_handshakes: Family<Counter, HandshakeOutcome> = "dtls_handshakes_total",
            "DTLS handshakes that showed a good cookie, by outcome.";
        dtls_unauthenticated: Counter = "dtls_unauthenticated_total",
            "DTLS sessions that ended before a device had authenticated over them: its time was over, or others needed the place.";
    }
}

impl WorkerMetrics {
    /// Counts a session that began; [`Event::Ended`] is its end.
    pub fn accept(&self) {
        self.sessions.inc();
        self.connects[ConnectOutcome::Accepted].inc();
    }

    /// Counts an event of a session.
    pub fn count(&self, event: &Event<'_>) {
        match *event {
            Event::Received(kind) => self.messages[(kind, MessageResult::Accepted)].inc(),
            Event::Rejected { kind, reason, .. } => {
                self.messages[(kind, MessageResult::Rejected)].inc();
                self.rejected[reason].inc();
            }
            // It was counted as accepted when it came.
            Event::RefusedByQueue { reason, .. } => self.rejected[reason].inc(),
            Event::Foreign { .. } => self.foreign_topics.inc(),
            Event::Stored { latency_us, queue_us } => {
                self.stored.inc();
                self.acknowledgement.observe_us(latency_us);
                self.queue.observe_us(queue_us);
            }
            Event::Dropped(reason) => self.dropped[reason].inc(),
            Event::Unacknowledged => self.unacknowledged.inc(),
            Event::Outcome { code, latency_us } => {
                self.commands[code.into()].inc();
                self.command.observe_us(latency_us);
            }
            Event::Unreadable => self.commands[CommandOutcome::Unreadable].inc(),
            Event::NoCaller => self.commands[CommandOutcome::NoCaller].inc(),
            Event::Ended(ending) => {
                self.sessions.dec();
                self.closed[ending].inc();
            }
        }
    }

    /// Counts an event of a CoAP port.
    pub fn count_coap(&self, event: &coap::Event<'_>) {
        match *event {
            coap::Event::Message(event) => self.count(&event),
            coap::Event::Noise => self.coap_noise.inc(),
            coap::Event::Duplicate => self.coap_duplicates.inc(),
            coap::Event::Refused(refused) => self.coap_refused[refused.refusal.into()].inc(),
            coap::Event::TokenIssued => self.coap_tokens.inc(),
            coap::Event::Dropped(reason) => self.coap_dropped[reason].inc(),
            coap::Event::Answered(code) => self.coap_requests[code.into()].inc(),
            coap::Event::TokenAccepted => {}
            coap::Event::Retransmitted => self.coap_retransmissions.inc(),
        }
    }

    /// Takes over what the sessions of the worker hold at this moment; once a tick is enough.
    pub fn set_load(&self, load: &Load) {
        self.inflight_messages.set(load.held_records as u64);
        self.inflight_bytes.set(load.held_bytes as u64);
        self.commands_pending.set(load.commands as u64);
    }
}
