//! The task that opens and closes the uplink: it waits for the stream, opens the uplink, watches it, and closes it when
//! records can no longer be stored. Then it starts again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::acknowledgement::StreamIdentity;
use super::in_flight::{Loss, STALL};
use super::publisher::Outlet;
use super::{Shared, Trouble};
use crate::protocol::backoff::Backoff;
use crate::protocol::uplink::Availability;
use crate::queue::count;
use crate::queue::nats::NatsSettings;
use crate::queue::nats::connection::{
    self, Access, Client, Connection, ConnectionRole, DirectClient, Echo, IfRefused, LinkState, Violation,
};
use crate::queue::nats::stream::{self, Api, ForeignStreams, LEAST_BYTES, StreamInfo, StreamTrouble};
use crate::queue::{LastTrouble, backoff};

/// Interval of the checks whether a `max_payload` that was too small has grown.
const LIMIT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the checks for records whose acknowledgements are overdue.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

type Link = Connection<DirectClient>;

/// Connects, starts the tasks of the uplink, and keeps it open while the stream takes records.
pub(super) async fn run(shared: Rc<Shared>, access: Access) {
    let settings = access.settings.clone();
    // Other streams that store the subjects of device messages, too.
    let foreign_streams = ForeignStreams::over_messages(&settings, Arc::clone(&shared.stats));
    let (for_violations, lookups) = (Rc::clone(&shared), Rc::clone(&foreign_streams));
    let on_violation = move |violation| match violation {
        violation if lookups.was_refused(&violation) => {}
        Violation::Publish(subject) => for_violations.forbid(&subject),
        Violation::Payload => for_violations.note_payload_violation(),
        Violation::Subscription(_) => {}
    };
    let traffic = Rc::clone(&shared);
    let connection = connection::connect_direct(access, ConnectionRole::Uplink, traffic, on_violation);
    let Some(echo) = Echo::start(&connection, &settings.prefix).await else { return };
    let Some(api) = Api::start(&connection).await.map(Rc::new) else { return };
    let acknowledgements = format!("{}.*", connection.client.traffic_inbox());
    let Some(mut acknowledgements) = connection.control.listen(acknowledgements, IfRefused::Leave).await else {
        return;
    };
    // It is set here alone.
    let _set = shared.outlet.set(Outlet::new(connection.client.clone(), Rc::clone(&connection.control)));
    let mut tasks = JoinSet::new();
    // It yields nothing, and is asked again and again so that a subscription which was refused gives way to the next.
    tasks.spawn_local(async move { while acknowledgements.next().await.is_some() {} });
    tasks.spawn_local(foreign_streams.watch(Rc::clone(&api), connection.link.clone()));
    serve(&shared, &settings, &connection, &echo, &api).await;
}

/// Waits for the stream, opens the uplink, waits for trouble and closes the uplink, in a loop. Returns when the client has
/// ended.
async fn serve(
    shared: &Shared,
    settings: &NatsSettings,
    connection: &Link,
    echo: &Echo<DirectClient>,
    api: &Api<DirectClient>,
) {
    let mut link = connection.link.clone();
    let mut backoff = backoff();
    let mut logged_stall = LastTrouble::default();
    let mut logged_retention = LastTrouble::default();
    let mut silences = 0;
    let mut logged_limit = LastTrouble::default();
    loop {
        let Some(seen) = connection::connected(&mut link).await else { return };
        let max_payload = connection.client.max_payload();
        shared.max_payload.set(Some(max_payload));
        // The user's limit was derived from the end of an earlier connection. It is dropped where the server's limit
        // explains that end.
        shared.allowance.set(shared.allowance.get().filter(|(bytes, _)| *bytes < max_payload));
        if max_payload < LEAST_BYTES {
            if logged_limit.is_news(&()) {
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
        logged_limit.clear();
        let Some(info) = prepare(shared, settings, connection, (echo, api), seen, &mut backoff).await else {
            hold_back_after_silence(shared, settings, &link, &mut silences);
            continue;
        };
        warn_of_retention(&info, settings, &mut logged_retention);
        shared.identity.replace(StreamIdentity::new(&settings.stream, info.domain.as_deref()));
        // Lets the connection take the acknowledgements that have arrived: their records need not be sent again.
        tokio::task::yield_now().await;
        // After an overflow of the local queue a new epoch is enough: sessions send what was refused.
        let mut trouble = Trouble::Overflowed;
        while trouble == Trouble::Overflowed {
            shared.close();
            shared.open();
            shared.inbox.begin_epoch();
            trouble = watch_for_trouble(shared, &mut link, seen, &mut logged_stall).await;
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
        // A stream may refuse records right after it was ready. The pause keeps sessions from sending in a tight loop.
        if trouble != Trouble::Disconnected {
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// Leaves a connection on which JetStream does not answer. A server that hangs (`is_hung`) is left only for another server:
/// a new connection to the same server would hang, too, and this one continues when the server does.
async fn leave(shared: &Shared, settings: &NatsSettings, connection: &Link, is_hung: bool) {
    let control = &connection.control;
    if is_hung && !control.knows_others().await {
        return;
    }
    if control.leave("JetStream does not answer").await && is_hung {
        shared.hold_back(settings.ack_timeout);
    }
}

/// Holds records back after a connection was lost because its server fell silent. That server may still have copies of
/// them. `known` is the number of such losses that were handled.
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

/// Asks for the stream until it is ready. `None` when the connection was lost first.
async fn prepare(
    shared: &Shared,
    settings: &NatsSettings,
    connection: &Link,
    (echo, api): (&Echo<DirectClient>, &Api<DirectClient>),
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

/// Warns when the stream acknowledges records and drops them, once until that changes.
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

/// Waits until records can no longer be stored over this connection, and returns the cause.
async fn watch_for_trouble(
    shared: &Shared,
    link: &mut watch::Receiver<LinkState>,
    seen: LinkState,
    logged_stall: &mut LastTrouble<()>,
) -> Trouble {
    let opened = Instant::now();
    let mut has_asked = false;
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
        if shared.is_confirmed.get() {
            logged_stall.clear();
        }
        shared.in_flight.borrow_mut().forget_refusals(Instant::now());
        let loss = shared.in_flight.borrow_mut().look(Instant::now());
        let silence = if shared.is_confirmed.get() { shared.stored_at.get().elapsed() } else { opened.elapsed() };
        // The user may not publish to some subjects, and perhaps no record has another subject. Then only a heartbeat tells
        // whether the stream still stores records.
        let is_doubtful = shared.is_confirmed.get() && shared.is_forbidden.get();
        if !is_doubtful || silence < STALL / 2 {
            has_asked = false;
        } else if !std::mem::replace(&mut has_asked, true) {
            shared.inbox.ask_for_heartbeat();
        }
        let is_unconfirmed = (is_doubtful || !shared.is_confirmed.get()) && silence >= STALL;
        match loss {
            Some(Loss::Skipped) => {
                count(&shared.stats.acknowledgements_skipped);
                tracing::warn!("JetStream acknowledged later records and not earlier ones");
                return Trouble::AcknowledgementsLost;
            }
            None if !is_unconfirmed => {}
            None | Some(Loss::Stalled) => {
                count(&shared.stats.stalls);
                if logged_stall.is_news(&()) {
                    tracing::warn!("JetStream acknowledged nothing for five seconds");
                }
                return Trouble::Stalled;
            }
        }
    }
}
