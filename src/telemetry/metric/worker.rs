//! What a worker counts.

use super::coap::{CoapCode, CoapDrop, CoapRefusal, HandshakeOutcome};
use super::family::{Family, Metric};
use super::histogram::Histogram;
use super::label::{CloseCause, CommandOutcome, ConnectOutcome, ConnectionState, MessageResult, Transport};
use super::pair::{CounterByTwo, GaugeByTwo};
use super::process::LookupResult;
use super::render::Page;
use super::scalar::{Counter, CounterBy, Gauge, Seconds};
use crate::protocol::envelope::Reason;
use crate::protocol::limit::Load;
use crate::protocol::topic::MessageKind;
use crate::session::coap;
use crate::session::mqtt::{DropReason, Event};

/// Declares a struct of metrics together with their names and meanings, so that none of the three can be forgotten.
macro_rules! metrics {
    ($(#[$doc:meta])* $type:ident { $($field:ident: $metric:ty = $name:literal, $help:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $type {
            $(#[doc = $help] pub $field: $metric,)+
        }

        impl $type {
            /// Name, kind, labels and meaning of each, in the order of the page.
            pub(super) fn families() -> Vec<Family> {
                vec![$(Family {
                    name: concat!("jetlinks_bridge_", $name).to_owned(),
                    kind: <$metric as Metric>::KIND,
                    labels: <$metric as Metric>::labels(),
                    help: $help,
                }),+]
            }

            /// Writes each, added up over all writers.
            pub(super) fn write<'m>(writers: impl Iterator<Item = &'m Self> + Clone, page: &mut Page) {
                let mut families = Self::families().into_iter();
                $(
                    // The list was made of the same fields, in the same order.
                    let family = families.next().expect("a family for each field");
                    page.write::<$metric>(&family, writers.clone().map(|writer| &writer.$field));
                )+
            }
        }
    };
}
pub(super) use metrics;

metrics! {
    /// The numbers of one worker; that worker alone writes them. Some 4 KiB.
    WorkerMetrics {
        connections: GaugeByTwo<Transport, ConnectionState> = "connections",
            "Connections of devices, by how far they have got.";
        sessions: Gauge = "sessions",
            "Sessions of devices.";
        connects: CounterBy<ConnectOutcome> = "connects_total",
            "Connections of devices, by what became of them up to CONNACK.";
        closed: CounterBy<CloseCause> = "sessions_closed_total",
            "Sessions that ended, by cause.";
        takeovers: Counter = "takeovers_total",
            "Sessions that took the place of an older one of the same device on this replica.";
        registry_lookups: CounterBy<LookupResult> = "registry_lookups_total",
            "Devices that were looked up, for a CONNECT or a CoAP request, by what the registry said.";
        received_bytes: CounterBy<Transport> = "received_bytes_total",
            "Bytes that devices sent, TLS, WebSocket and DTLS included.";
        sent_bytes: CounterBy<Transport> = "sent_bytes_total",
            "Bytes that were sent to devices, TLS, WebSocket and DTLS included.";
        messages: CounterByTwo<MessageKind, MessageResult> = "messages_total",
            "Messages of devices, by type and whether they were understood.";
        rejected: CounterBy<Reason> = "rejected_total",
            "Messages of devices that were not understood or that the queue never takes, by reason; a rejected envelope holds each.";
        foreign_topics: Counter = "foreign_topics_total",
            "Messages on the topic of another device; each closed its connection, or was answered 4.03.";
        stored: Counter = "stored_total",
            "Messages of devices, rejected ones included, that the queue has acknowledged.";
        dropped: CounterBy<DropReason> = "dropped_total",
            "Messages given up that nobody was promised, by reason.";
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
        inflight_messages: Gauge = "inflight_messages",
            "Records on their way to the queue.";
        inflight_bytes: Gauge = "inflight_bytes",
            "Bytes of the records on their way to the queue.";
        commands: CounterBy<CommandOutcome> = "commands_total",
            "Commands, by outcome.";
        commands_pending: Gauge = "commands_pending",
            "Commands that wait for their outcome.";
        command: Histogram = "command_duration_seconds",
            "Time from the receipt of a command to its outcome.";
        coap_requests: CounterBy<CoapCode> = "coap_requests_total",
            "CoAP requests, by the code that they were answered with; duplicates are not counted again.";
        coap_refused: CounterBy<CoapRefusal> = "coap_refused_total",
            "CoAP requests that were answered 4.01, by reason.";
        coap_dropped: CounterBy<CoapDrop> = "coap_dropped_total",
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
        dtls_handshakes: CounterBy<HandshakeOutcome> = "dtls_handshakes_total",
            "DTLS handshakes that showed a good cookie, by outcome.";
        dtls_unauthenticated: Counter = "dtls_unauthenticated_total",
            "DTLS sessions that ended before a device had authenticated over them: its time was over, or others needed the place.";
    }
}

impl WorkerMetrics {
    /// Counts a session that began; [`Event::Ended`] is its end.
    pub fn accept(&self) {
        self.sessions.inc();
        self.connects.inc(ConnectOutcome::Accepted);
    }

    /// Counts an event of a session.
    pub fn count(&self, event: &Event<'_>) {
        match *event {
            Event::Received(kind) => self.messages.inc(kind, MessageResult::Accepted),
            Event::Rejected { kind, reason, .. } => {
                self.messages.inc(kind, MessageResult::Rejected);
                self.rejected.inc(reason);
            }
            // It was counted as accepted when it came.
            Event::RefusedByQueue { reason, .. } => self.rejected.inc(reason),
            Event::Foreign { .. } => self.foreign_topics.inc(),
            Event::Stored { latency_us, queue_us } => {
                self.stored.inc();
                self.acknowledgement.observe_us(latency_us);
                self.queue.observe_us(queue_us);
            }
            Event::Dropped(reason) => self.dropped.inc(reason),
            Event::Unacknowledged => self.unacknowledged.inc(),
            Event::Outcome { code, latency_us } => {
                self.commands.inc(code.into());
                self.command.observe_us(latency_us);
            }
            Event::Unreadable => self.commands.inc(CommandOutcome::Unreadable),
            Event::Unasked => self.commands.inc(CommandOutcome::Unasked),
            Event::Ended(ending) => {
                self.sessions.dec();
                self.closed.inc(ending.into());
            }
        }
    }

    /// Counts an event of a CoAP port.
    pub fn count_coap(&self, event: &coap::Event<'_>) {
        match *event {
            coap::Event::Message(event) => self.count(&event),
            coap::Event::Noise => self.coap_noise.inc(),
            coap::Event::Duplicate => self.coap_duplicates.inc(),
            coap::Event::Refused(refusal) => self.coap_refused.inc(refusal.into()),
            coap::Event::Granted => self.coap_tokens.inc(),
            coap::Event::Dropped(reason) => self.coap_dropped.inc(reason.into()),
            coap::Event::Answered(code) => self.coap_requests.inc(code.into()),
            coap::Event::Vouched => {}
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
