//! Follows the bucket over lost connections.

use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, Event};
use tokio::sync::watch;

use super::bucket::{self, IfMissing};
use super::feed::Feed;
use super::known::Loading;
use super::{BucketError, NatsRegistry};
use crate::memory;
use crate::protocol::uplink::Availability;
use crate::registry::Change;

/// Pause before the bucket is looked at again, at its shortest; up to as much again is added at random, so that replicas
/// which lost the same server do not return in step.
const PAUSE_MS: u64 = 250;

/// A connection is left at most this often.
const LEAVE_EVERY: Duration = Duration::from_secs(30);

/// Times that the connection was made and lost, as the client tells it.
type Links = watch::Receiver<u64>;

/// See [`NatsRegistry::follow`].
pub(super) async fn follow(registry: &NatsRegistry, mut report: impl FnMut(Change)) {
    let (sender, links) = watch::channel(0);
    let observer = registry.settings.observer.clone();
    let options = registry.settings.options.clone().retry_on_initial_connect().event_callback(move |event| {
        if let Some(observer) = &observer {
            observer.hear(&event);
        }
        if matches!(event, Event::Connected | Event::Disconnected | Event::Closed) {
            sender.send_modify(|links| *links += 1);
        }
        std::future::ready(())
    });
    let client = match options.connect(registry.settings.servers.clone()).await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "the NATS client refused the settings of the registry");
            return;
        }
    };
    let mut told = None;
    let mut left = None;
    loop {
        let error = live(registry, &client, links.clone(), &mut report, &mut told).await;
        if matches!(error, BucketError::Unreachable(_)) {
            leave(registry, &client, &mut left).await;
        }
        if registry.set_lost() {
            tracing::warn!(%error, "lost the registry: no new device is let in until it is back");
            report(Change::Availability(Availability::Away));
        } else if told.as_ref() != Some(&error) {
            if error.is_permanent() {
                tracing::error!(%error, "the registry cannot be used");
            } else {
                tracing::warn!(%error, "waiting for the registry");
            }
        }
        told = Some(error);
        // Without randomness there is no jitter, which costs politeness and nothing else.
        let jitter_ms = getrandom::u64().unwrap_or(0) % PAUSE_MS;
        tokio::time::sleep(Duration::from_millis(PAUSE_MS + jitter_ms)).await;
    }
}

/// Leaves a connection on which the bucket is asked for in vain: a server never gives back by itself what it has taken
/// away, the right to hear answers for example.
async fn leave(registry: &NatsRegistry, client: &Client, left: &mut Option<Instant>) {
    if left.is_some_and(|left| left.elapsed() < LEAVE_EVERY) || client.connection_state() != State::Connected {
        return;
    }
    *left = Some(Instant::now());
    if let Some(observer) = &registry.settings.observer {
        observer.leaves("the bridge left it: JetStream does not answer");
    }
    // An error means that the client has ended, which nothing outlives.
    let _ended = client.force_reconnect().await;
}

/// Reads the bucket and follows it until something goes wrong.
async fn live(
    registry: &NatsRegistry,
    client: &Client,
    mut links: Links,
    report: &mut impl FnMut(Change),
    told: &mut Option<BucketError>,
) -> BucketError {
    while client.connection_state() != State::Connected {
        if links.changed().await.is_err() {
            return BucketError::Lost;
        }
    }
    links.borrow_and_update();
    let reading = read(registry, client, &mut *report);
    let mut feed = tokio::select! {
        biased;
        _ = links.changed() => return BucketError::Lost,
        read = reading => match read {
            Ok(feed) => feed,
            Err(error) => return error,
        },
    };
    registry.set_live();
    *told = None;
    report(Change::Availability(Availability::Ok));
    loop {
        let entry = tokio::select! {
            biased;
            _ = links.changed() => return BucketError::Lost,
            entry = feed.next() => entry,
        };
        match entry {
            Ok(entry) => report(registry.apply(entry)),
            Err(error) => return error,
        }
    }
}

/// Reads everything and puts it in the place of what was known.
async fn read(registry: &NatsRegistry, client: &Client, report: &mut impl FnMut(Change)) -> Result<Feed, BucketError> {
    let settings = &registry.settings;
    // A bucket that was there and is gone may be on its way back from a backup, which an empty one would stop.
    let if_missing = if registry.was_reached() { IfMissing::Fail } else { IfMissing::Make };
    let stream = bucket::find(&bucket::context(client, settings), settings, if_missing).await?;
    let mut feed = Feed::open(&settings.bucket, &stream).await?;
    let mut loading = Loading::default();
    while !feed.is_current() {
        loading.take(feed.next().await?);
    }
    let (next, unreadable) = loading.finish(settings.product_secrets);
    report(registry.replace(next));
    unreadable.into_iter().for_each(report);
    memory::give_back();
    Ok(feed)
}
