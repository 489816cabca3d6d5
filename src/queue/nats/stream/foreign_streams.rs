//! Streams of others over the bridge's subjects: looked for with each connection, and while it lasts.
//!
//! One that stores commands acknowledges them, and that answers the caller in the device's place. One that stores what
//! devices say takes a copy. Both are the operator's to change, so they are named, once for each change.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use serde::Deserialize;
use tokio::sync::watch;

use super::api::{Api, ApiError};
use crate::queue::nats::connection::{self, Client, LinkState, Violation};
use crate::queue::nats::{NatsSettings, NatsStats};

/// The request that names streams.
const NAMES: &str = "STREAM.NAMES";

/// The kind of messages that the streams would store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Commands,
    Messages,
}

/// One side of the bridge, that looks for streams over its subjects.
#[derive(Debug)]
pub(crate) struct ForeignStreams {
    kind: Kind,
    filters: Vec<String>,
    /// The bridge's own stream, whose place it is to store this.
    own: Option<String>,
    domain: Option<String>,
    every: Duration,
    stats: Arc<NatsStats>,
    /// Requests that the user may not send: not asked again on this connection, as each would be told in the log. At most
    /// one per API.
    forbidden: RefCell<BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Names {
    streams: Option<Vec<String>>,
}

impl ForeignStreams {
    /// Those that store commands; no stream may.
    pub(crate) fn over_commands(settings: &NatsSettings, stats: Arc<NatsStats>) -> Rc<Self> {
        let filters = vec![format!("{}.command.>", settings.prefix)];
        Self::new(Kind::Commands, filters, None, settings, stats)
    }

    /// Those that store what devices say, beside the bridge's own.
    pub(crate) fn over_messages(settings: &NatsSettings, stats: Arc<NatsStats>) -> Rc<Self> {
        let filters = super::subjects(&settings.prefix).into();
        Self::new(Kind::Messages, filters, Some(settings.stream.clone()), settings, stats)
    }

    fn new(
        kind: Kind,
        filters: Vec<String>,
        own: Option<String>,
        settings: &NatsSettings,
        stats: Arc<NatsStats>,
    ) -> Rc<Self> {
        let (domain, every, forbidden) = (settings.domain.clone(), settings.foreign_streams_every, RefCell::default());
        Rc::new(Self { kind, filters, own, domain, every, stats, forbidden })
    }

    /// Looks until the connection's task has ended. Workers share the looks, with the statistics.
    pub(crate) async fn watch(self: Rc<Self>, api: Rc<Api<impl Client>>, mut link: watch::Receiver<LinkState>) {
        while let Some(seen) = connection::connected(&mut link).await {
            if self.stats.begin_look(self.every / 2) {
                self.look(&api).await;
            }
            tokio::select! {
                biased;
                () = connection::lost(&mut link, seen) => self.forbidden.borrow_mut().clear(),
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    /// Whether the violation is about a request of this.
    pub(crate) fn was_refused(&self, violation: &Violation) -> bool {
        match violation {
            Violation::Publish(subject) if subject.starts_with("$JS.") && subject.ends_with(NAMES) => {
                self.forbidden.borrow_mut().insert(subject.clone());
                true
            }
            _ => false,
        }
    }

    /// At the server itself, and in the domain of the stream where that is another one.
    async fn look(&self, api: &Api<impl Client>) {
        let here = api.client().domain();
        let own = self.own.as_deref();
        let is_same = self.domain.is_none() || self.domain == here;
        self.look_in(api, None, own.filter(|_| is_same)).await;
        if !is_same {
            self.look_in(api, self.domain.as_deref(), own).await;
        }
    }

    async fn look_in<C: Client>(&self, api: &Api<C>, domain: Option<&str>, own: Option<&str>) {
        if self.forbidden.borrow().contains(&Api::<C>::subject(domain, NAMES)) {
            return;
        }
        let mut found = BTreeSet::new();
        for filter in &self.filters {
            let query = serde_json::json!({ "subject": filter });
            match api.ask::<Response<Names>>(domain, NAMES, &query).await {
                // At most 1,024 of 255 bytes.
                Ok(Response::Ok(names)) => found.extend(names.streams.into_iter().flatten()),
                Err(ApiError::NoResponders) => {}
                // What is not known has not changed.
                Ok(Response::Err { .. }) | Err(ApiError::Failed(_)) => return,
            }
        }
        found.retain(|name| own != Some(name.as_str()));
        let (appeared, gone) = self.stats.note_foreign_streams(domain.unwrap_or_default(), found);
        for name in appeared {
            self.tell(&name, domain);
        }
        for name in gone {
            tracing::info!(stream = name, domain, "the other stream does not store these subjects any more");
        }
    }

    fn tell(&self, name: &str, domain: Option<&str>) {
        let subjects = self.filters.join(", ");
        match self.kind {
            Kind::Commands => tracing::error!(
                stream = name,
                domain,
                subjects,
                "a stream stores commands: its acknowledgement answers callers in the device's place; take these subjects \
                 out of the stream's (nats stream edit)"
            ),
            Kind::Messages => tracing::warn!(
                stream = name,
                domain,
                subjects,
                "another stream stores what devices say, too: it keeps a copy, and acknowledges nothing for the bridge; \
                 where that is not meant, take these subjects out of the stream's (nats stream edit)"
            ),
        }
    }
}
