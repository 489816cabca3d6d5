//! Asks the service, for all who wait at once.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::{Answer, Ask, HttpError, HttpRegistry, PROBE, RENEWALS_MAX, REQUESTS_MAX, WAITING_MAX};
use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Availability;
use crate::registry::Lookup;
use crate::registry::change::{Asked, Change};

/// How often records are looked at that are due, and whether a probe is.
const TICK: Duration = Duration::from_millis(250);

/// Pause between two probes, in ticks.
const PROBE_TICKS: u32 = 6;

/// Renewals under way at once while the service is away: few enough not to burden it, and still some, so that a service
/// that answers for devices and not for the probe keeps the promise about their sessions.
const RENEWALS_AWAY_MAX: usize = 4;

/// Why the service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Somebody waits.
    Connect,
    /// A session goes on.
    Renewal,
    /// To see whether it answers.
    Probe,
}

/// One request and what came of it.
struct Done {
    id: DeviceId,
    purpose: Purpose,
    took: Duration,
    result: Result<Answer, HttpError>,
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What is known of a device that the service is or will be asked for.
#[derive(Default)]
struct Pending {
    waiting: Vec<oneshot::Sender<Lookup>>,
    is_running: bool,
    is_renewal: bool,
}

struct Asking<'r, C, R> {
    registry: &'r HttpRegistry,
    is_connected: C,
    report: R,
    running: FuturesUnordered<Running>,
    renewals: usize,
    is_probing: bool,
    ticks_since_probe: u32,
    /// Whether something failed since the last probe. What is asked for comes from strangers, too, so the probe alone
    /// tells whether the service is away.
    is_in_doubt: bool,
    pending: HashMap<DeviceId, Pending>,
    asked: VecDeque<DeviceId>,
    due: VecDeque<DeviceId>,
    availability: Availability,
    told: Option<HttpError>,
    known: usize,
}

/// See [`HttpRegistry::follow`].
pub(super) async fn run(
    registry: &HttpRegistry,
    mut asks: mpsc::Receiver<Ask>,
    is_connected: impl Fn(&str) -> bool,
    report: impl FnMut(Change),
) {
    let mut asking = Asking {
        registry,
        is_connected,
        report,
        running: FuturesUnordered::new(),
        renewals: 0,
        is_probing: false,
        ticks_since_probe: PROBE_TICKS,
        is_in_doubt: false,
        pending: HashMap::new(),
        asked: VecDeque::new(),
        due: VecDeque::new(),
        availability: Availability::Starting,
        told: None,
        known: 0,
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(done) = asking.running.next(), if !asking.running.is_empty() => asking.take_answer(done),
            Some(ask) = asks.recv() => asking.take_ask(ask),
            _ = ticks.tick() => asking.tick(),
        }
        asking.start_requests();
    }
}

impl<C: Fn(&str) -> bool, R: FnMut(Change)> Asking<'_, C, R> {
    fn take_ask(&mut self, Ask { id, answer }: Ask) {
        // Answered meanwhile, for somebody before.
        let now_us = self.registry.now_us();
        let known = self.registry.cache.read().unwrap_or_else(PoisonError::into_inner).look(id.as_str(), now_us);
        if known != Lookup::Away {
            // Whoever does not wait any more has told its device to come later.
            let _gone = answer.send(known);
            return;
        }
        if self.asked.len() >= WAITING_MAX && !self.pending.contains_key(&id) {
            return;
        }
        let pending = self.pending.entry(id.clone()).or_default();
        pending.waiting.push(answer);
        if !pending.is_running && pending.waiting.len() == 1 {
            self.asked.push_back(id);
        }
    }

    fn tick(&mut self) {
        let now_us = self.registry.now_us();
        let due = {
            let mut cache = self.registry.cache.write().unwrap_or_else(PoisonError::into_inner);
            cache.take_due(now_us, &self.is_connected)
        };
        // The others were put off, and are due again in a while.
        let room = match self.availability {
            Availability::Ok => usize::MAX,
            _ => RENEWALS_AWAY_MAX.saturating_sub(self.due.len()),
        };
        for id in due.into_iter().take(room) {
            let pending = self.pending.entry(id.clone()).or_default();
            if !pending.is_running && !std::mem::replace(&mut pending.is_renewal, true) {
                self.due.push_back(id);
            }
        }
        self.ticks_since_probe = self.ticks_since_probe.saturating_add(1);
        let needs_probe = self.availability != Availability::Ok || self.is_in_doubt;
        if needs_probe && !self.is_probing && self.ticks_since_probe >= PROBE_TICKS {
            self.probe();
        }
        self.report_known();
    }

    fn probe(&mut self) {
        // The text is an id, as a test of this file shows.
        let Ok(id) = DeviceId::new(PROBE) else { return };
        self.is_probing = true;
        self.is_in_doubt = false;
        self.ticks_since_probe = 0;
        self.running.push(self.request(id, Purpose::Probe));
    }

    fn start_requests(&mut self) {
        let renewals_max = if self.availability == Availability::Ok { RENEWALS_MAX } else { RENEWALS_AWAY_MAX };
        while self.running.len() < REQUESTS_MAX {
            let next = match self.asked.pop_front() {
                Some(id) => Some((id, Purpose::Connect)),
                None if self.renewals < renewals_max => self.due.pop_front().map(|id| (id, Purpose::Renewal)),
                None => None,
            };
            let Some((id, purpose)) = next else { break };
            let Some(pending) = self.pending.get_mut(&id).filter(|pending| !pending.is_running) else { continue };
            pending.waiting.retain(|waiting| !waiting.is_closed());
            if purpose == Purpose::Connect && pending.waiting.is_empty() {
                // Nobody waits any more; a renewal has its own turn.
                if !pending.is_renewal {
                    self.pending.remove(&id);
                }
                continue;
            }
            pending.is_running = true;
            self.renewals += usize::from(purpose == Purpose::Renewal);
            self.running.push(self.request(id, purpose));
        }
    }

    fn request(&self, id: DeviceId, purpose: Purpose) -> Running {
        let client = self.registry.client.clone();
        Box::pin(async move {
            let begin = Instant::now();
            let result = client.ask(&id).await;
            Done { id, purpose, took: begin.elapsed(), result }
        })
    }

    fn take_answer(&mut self, done: Done) {
        let Done { id, purpose, took, result } = done;
        match purpose {
            Purpose::Probe => self.is_probing = false,
            Purpose::Renewal => self.renewals -= 1,
            Purpose::Connect => {}
        }
        let outcome = match &result {
            Ok(Answer::Found(_)) => Asked::Found,
            Ok(Answer::Unknown) => Asked::Unknown,
            Err(HttpError::Record(_)) => Asked::Unreadable,
            Err(error) if error.refuses_id() => Asked::Refused,
            Err(_) => Asked::Failed,
        };
        (self.report)(Change::Asked { outcome, took });
        let pending = if purpose == Purpose::Probe { None } else { self.pending.remove(&id) };
        let lookup = match result {
            Ok(answer) => {
                self.set_available();
                self.keep(&id, answer, pending.is_some())
            }
            Err(error) if purpose == Purpose::Probe => {
                self.lose(error);
                Lookup::Away
            }
            Err(error) => {
                self.put_off(&id, purpose, error);
                Lookup::Away
            }
        };
        for waiting in pending.map(|pending| pending.waiting).unwrap_or_default() {
            // As above.
            let _gone = waiting.send(lookup.clone());
        }
    }

    /// Puts an answer in force; the lookup that follows from it.
    fn keep(&mut self, id: &DeviceId, answer: Answer, was_asked: bool) -> Lookup {
        if !was_asked {
            return Lookup::Away;
        }
        let now_us = self.registry.now_us();
        let (ended, lookup) = {
            let mut cache = self.registry.cache.write().unwrap_or_else(PoisonError::into_inner);
            let ended = match answer {
                Answer::Found(device) => cache.put(device, now_us, &self.is_connected),
                Answer::Unknown => cache.put_unknown(id, now_us),
            };
            (ended, cache.last_known(id.as_str()))
        };
        if !ended.is_empty() {
            let known = self.known;
            (self.report)(Change::Devices { known, ended });
        }
        self.report_known();
        lookup
    }

    fn report_known(&mut self) {
        let known = self.registry.cache.read().unwrap_or_else(PoisonError::into_inner).len();
        if std::mem::replace(&mut self.known, known) != known {
            (self.report)(Change::Known(known));
        }
    }

    fn set_available(&mut self) {
        self.told = None;
        if std::mem::replace(&mut self.availability, Availability::Ok) != Availability::Ok {
            (self.report)(Change::Availability(Availability::Ok));
        }
    }

    /// Takes in that there is no answer for a device. Its record stays, and the probe shall tell about the service.
    fn put_off(&mut self, id: &DeviceId, purpose: Purpose, error: HttpError) {
        let now_us = self.registry.now_us();
        self.registry.cache.write().unwrap_or_else(PoisonError::into_inner).put_off(id, now_us);
        self.is_in_doubt = true;
        let device = id.as_str();
        match error {
            HttpError::Record(mistakes) => {
                (self.report)(Change::Unreadable { record: device.to_owned(), mistakes });
            }
            error if purpose == Purpose::Renewal && error.refuses_id() => {
                tracing::warn!(device, %error, "the registry refuses a device that is connected; its session goes on");
            }
            error => tracing::debug!(device, %error, "the registry gave no record"),
        }
    }

    /// Takes in that the probe was not answered as it should be.
    fn lose(&mut self, error: HttpError) {
        if self.availability == Availability::Ok {
            self.availability = Availability::Away;
            tracing::warn!(%error, "lost the registry: devices that are not known are told to come later");
            (self.report)(Change::Availability(Availability::Away));
        } else if self.told.as_ref() != Some(&error) {
            if error.needs_a_human() {
                tracing::error!(%error, "the registry cannot be used");
            } else {
                tracing::warn!(%error, "waiting for the registry");
            }
        }
        self.told = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_asks_for_something_that_is_an_id() {
        assert!(DeviceId::new(PROBE).is_ok());
    }
}
