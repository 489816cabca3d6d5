//! The uplink over time: the stream is looked at, the uplink opened, watched and closed, over and over.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::{ConnectOptions, ServerAddr};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::acknowledgement::StreamIdentity;
use super::outstanding::{Loss, STALL};
use super::reply_subject::ReplySubjects;
use super::{Shared, Trouble, gatherer, writer};
use crate::protocol::backoff::Backoff;
use crate::protocol::uplink::Availability;
use crate::queue::nats::NatsSettings;
use crate::queue::nats::connection::{self, Capacity, Connection, Echo, IfRefused, LinkState, Violation};
use crate::queue::nats::stats::count;
use crate::queue::nats::stream::{self, Api, ForeignStreams, LEAST_BYTES, StreamInfo, StreamTrouble};
use crate::queue::{LastTrouble, backoff};

/// Operations that wait for the connection's task: two of its write buffers at the usual size of an envelope.
const OPERATIONS: usize = 256;

/// Acknowledgements that may wait for the gatherer: as many as records can be under way.
const ACKNOWLEDGEMENTS: usize = 1 << 20;

/// How often it is looked whether a limit that is too small has grown.
const LIMIT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often lost records are looked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Connects, and keeps the uplink open as long as the stream takes records.
pub(super) async fn run(shared: Rc<Shared>, settings: NatsSettings, servers: Vec<ServerAddr>, options: ConnectOptions) {
    let capacity = Capacity { operations: OPERATIONS, subscription: ACKNOWLEDGEMENTS };
    let foreign = ForeignStreams::over_messages(&settings, Arc::clone(&shared.stats));
    let (judging, looking) = (Rc::clone(&shared), Rc::clone(&foreign));
    let attend = move |violation| match violation {
        violation if looking.was_refused(&violation) => {}
        Violation::Publish(subject) => judging.forbid(&subject),
        Violation::Payload => judging.note_payload_violation(),
        Violation::Subscription(_) => {}
    };
    let Some(connection) =
        connection::connect_attended(servers, options, capacity, "uplink", settings.ping_interval, attend).await
    else {
        return;
    };
    let Some(echo) = Echo::start(&connection, &settings.prefix).await else { return };
    let Some(api) = Api::start(&connection).await.map(Rc::new) else { return };
    let inbox = connection.client.new_inbox();
    let Some(acknowledgements) = connection.control.listen(format!("{inbox}.*"), IfRefused::Leave).await else {
        return;
    };
    // Tasks of their own, so that neither spends the other's share of the scheduler; they end with this one.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(writer::write(
        Rc::clone(&shared),
        connection.client.clone(),
        Rc::clone(&connection.control),
        ReplySubjects::new(&inbox),
    ));
    tasks.spawn_local(gatherer::gather(Rc::clone(&shared), acknowledgements));
    tasks.spawn_local(foreign.watch(Rc::clone(&api), connection.link.clone()));
    serve(&shared, &settings, &connection, &echo, &api).await;
}

/// Waits for the stream, opens the uplink, waits for trouble, closes it, over and over.
async fn serve(shared: &Shared, settings: &NatsSettings, connection: &Connection, echo: &Echo, api: &Api) {
    let mut link = connection.link.clone();
    let mut backoff = backoff();
    let mut silence = LastTrouble::default();
    let mut retention = LastTrouble::default();
    let mut silences = 0;
    let mut limit = LastTrouble::default();
    let mut connects = 0;
    loop {
        let Some(seen) = connection::connected(&mut link).await else { return };
        let max_payload = connection.client.max_payload();
        shared.max_payload.set(Some(max_payload));
        if std::mem::replace(&mut connects, seen.connects) != seen.connects {
            shared.is_disputed.set(false);
            shared.in_flight.borrow_mut().disconnect();
        }
        // Where the server's own limit explains why the last connection ended, the user's is none.
        shared.allowance.set(shared.allowance.get().filter(|(bytes, _)| *bytes < max_payload));
        if max_payload < LEAST_BYTES {
            if limit.is_news(&()) {
                tracing::error!(
                    max_payload,
                    needed = LEAST_BYTES,
                    "the NATS server takes too small messages: no record can be sent"
                );
            }
            connection.control.doubt_limits();
            tokio::select! {
                () = connection::lost(&mut link, seen) => {}
                () = tokio::time::sleep(LIMIT_CHECK_INTERVAL) => {}
            }
            continue;
        }
        limit.clear();
        let Some(info) = prepare(shared, settings, connection, (echo, api), seen, &mut backoff).await else {
            hold_back_after_silence(shared, settings, &link, &mut silences);
            continue;
        };
        warn_of_retention(&info, settings, &mut retention);
        shared.identity.replace(StreamIdentity::new(&settings.stream, info.domain.as_deref()));
        // Acknowledgements that are already here spare their records a second sending.
        tokio::task::yield_now().await;
        let mut trouble = Trouble::Overflowed;
        while trouble == Trouble::Overflowed {
            shared.close();
            shared.open();
            shared.inbox.begin_epoch();
            trouble = watch_for_trouble(shared, &mut link, seen, &mut silence).await;
        }
        shared.close();
        hold_back_after_silence(shared, settings, &link, &mut silences);
        if shared.is_confirmed.get() {
            count(&shared.stats.outages);
            shared.inbox.report(Availability::Away);
        }
        tracing::debug!(?trouble, is_proved = shared.is_confirmed.get(), "the uplink is away");
        if shared.is_confirmed.get() || trouble == Trouble::Disconnected {
            backoff.reset();
        }
        // A stream that refuses what it just promised to take must not make every session send in a tight loop.
        if trouble != Trouble::Disconnected {
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// Leaves a connection on which JetStream does not answer. One that hangs and is the only one there is does no better on
/// another connection, and goes on with this one when it wakes.
async fn leave(shared: &Shared, settings: &NatsSettings, connection: &Connection, is_hung: bool) {
    let control = &connection.control;
    if is_hung && !control.knows_others().await {
        return;
    }
    if control.leave("JetStream does not answer").await && is_hung {
        shared.hold_back(settings.ack_timeout);
    }
}

/// Holds records back that a server may still have which fell silent until the connection was lost.
fn hold_back_after_silence(
    shared: &Shared,
    settings: &NatsSettings,
    link: &watch::Receiver<LinkState>,
    known: &mut u64,
) {
    let silences = link.borrow().silences;
    if std::mem::replace(known, silences) != silences {
        shared.hold_back(settings.ack_timeout);
    }
}

/// Asks for the stream until it is ready; `None` when the connection was lost meanwhile.
async fn prepare(
    shared: &Shared,
    settings: &NatsSettings,
    connection: &Connection,
    (echo, api): (&Echo, &Api),
    seen: LinkState,
    backoff: &mut Backoff,
) -> Option<StreamInfo> {
    let link = &mut connection.link.clone();
    let prepared = async || {
        echo.call().await;
        stream::prepare(api, settings).await
    };
    let mut last = LastTrouble::default();
    loop {
        let trouble = tokio::select! {
            biased;
            () = connection::lost(link, seen) => return None,
            prepared = prepared() => match prepared {
                Ok(info) => return Some(info),
                Err(trouble) => trouble,
            },
        };
        if last.is_news(&trouble) {
            let name = settings.stream.as_str();
            if trouble.needs_a_human() {
                tracing::error!(stream = name, cause = %trouble, "the stream cannot be used");
            } else {
                tracing::warn!(stream = name, cause = %trouble, "waiting for the stream");
            }
        }
        if matches!(trouble, StreamTrouble::Unanswered(_)) {
            leave(shared, settings, connection, !echo.is_heard()).await;
        }
        tokio::select! {
            biased;
            () = connection::lost(link, seen) => return None,
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }
}

fn warn_of_retention(info: &StreamInfo, settings: &NatsSettings, last: &mut LastTrouble<()>) {
    if !info.keeps_nothing() {
        last.clear();
    } else if last.is_news(&()) {
        tracing::warn!(
            stream = settings.stream,
            "the stream acknowledges records and drops them: its retention is interest, and it has no consumer"
        );
    }
}

async fn watch_for_trouble(
    shared: &Shared,
    link: &mut watch::Receiver<LinkState>,
    seen: LinkState,
    told_silence: &mut LastTrouble<()>,
) -> Trouble {
    let opened = Instant::now();
    let mut is_asked = false;
    loop {
        tokio::select! {
            biased;
            () = connection::lost(link, seen) => return Trouble::Disconnected,
            () = shared.troubled.notified() => {}
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        if let Some(trouble) = shared.trouble.take() {
            return trouble;
        }
        let dropped = link.borrow().dropped - seen.dropped;
        if dropped > 0 {
            shared.stats.acknowledgements_dropped.fetch_add(dropped, Ordering::Relaxed);
            return Trouble::AcknowledgementsLost;
        }
        if shared.is_confirmed.get() {
            told_silence.clear();
        }
        shared.in_flight.borrow_mut().forget_refusals(Instant::now());
        let loss = shared.outstanding.borrow_mut().look(Instant::now());
        let silence = if shared.is_confirmed.get() { shared.stored_at.get().elapsed() } else { opened.elapsed() };
        // Where subjects are forbidden and nothing else is sent, only a record of the bridge's own tells whether it is the
        // fault of a few subjects.
        let is_doubtful = shared.is_confirmed.get() && shared.is_forbidden.get();
        if !is_doubtful || silence < STALL / 2 {
            is_asked = false;
        } else if !std::mem::replace(&mut is_asked, true) {
            shared.inbox.ask_for_heartbeat();
        }
        let is_unconfirmed = (is_doubtful || !shared.is_confirmed.get()) && silence >= STALL;
        match loss {
            Some(Loss::Skipped) => {
                tracing::warn!("JetStream acknowledged later records and not earlier ones");
                return Trouble::AcknowledgementsLost;
            }
            None if !is_unconfirmed => {}
            None | Some(Loss::Stalled) => {
                count(&shared.stats.stalls);
                if told_silence.is_news(&()) {
                    tracing::warn!("JetStream acknowledged nothing for five seconds");
                }
                return Trouble::Stalled;
            }
        }
    }
}
