//! Asks the service, for all who wait at once.
//!
//! MQTT, DTLS, CoAP alone and the renewals share the requests: the next one goes to the kind that has the fewest under way.
//! Within a protocol the networks take turns. So whoever asks for many devices keeps only his own network waiting.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::{Answer, Ask, HttpError, HttpRegistry, PROBE, RENEWALS_SHARE, WAITING_MAX};
use crate::protocol::id::DeviceId;
use crate::protocol::network::Protocol;
use crate::protocol::shares::Waiting;
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

/// The log tells of look-ups that waited in vain at most this often.
const TELL_LATE: Duration = Duration::from_secs(60);

/// Weight of an answer in the mean of their times, as a divisor: about one round of requests.
const TIME_WEIGHT: u32 = 32;

/// Why the service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Somebody waits who speaks that.
    Lookup(Protocol),
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

/// Requests for those who wait.
#[derive(Default)]
struct Lookups {
    /// Requests under way, by protocol.
    running: [usize; Protocol::ALL.len()],
    /// Those for whose devices nobody asks yet, by protocol.
    waiting: [Waiting<Ask>; Protocol::ALL.len()],
}

/// Requests for devices that have a session.
#[derive(Default)]
struct Renewals {
    /// Requests under way.
    running: usize,
    /// Devices to ask for.
    due: VecDeque<DeviceId>,
    /// The same.
    is_due: HashSet<DeviceId>,
}

/// The request that shows whether the service answers. Ids come from unauthenticated peers, too, so it alone tells whether
/// the service is away.
struct Probe {
    is_running: bool,
    ticks_since: u32,
    /// Whether something failed since the last one.
    is_in_doubt: bool,
}

struct Asking<'r, C, R> {
    registry: &'r HttpRegistry,
    is_connected: C,
    report: R,
    running: FuturesUnordered<Running>,
    /// Devices that are asked for, without the probe, and who waits for each.
    under_way: HashMap<DeviceId, Vec<oneshot::Sender<Lookup>>>,
    lookups: Lookups,
    renewals: Renewals,
    /// Mean of the times of answers; zero before the first.
    time: Duration,
    probe: Probe,
    availability: Availability,
    /// The failure in the last line of the log.
    told: Option<HttpError>,
    known: usize,
    /// Look-ups that waited in vain and were told of, and when.
    late_told: (u64, Option<Instant>),
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
        under_way: HashMap::new(),
        lookups: Lookups::default(),
        renewals: Renewals::default(),
        time: Duration::ZERO,
        probe: Probe { is_running: false, ticks_since: PROBE_TICKS, is_in_doubt: false },
        availability: Availability::Starting,
        told: None,
        known: 0,
        late_told: (0, None),
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
        let waiting = asking.lookups.waiting.iter().map(Waiting::len).sum();
        registry.waiting.store(waiting, Ordering::Relaxed);
    }
}

impl<C: Fn(&str) -> bool, R: FnMut(Change)> Asking<'_, C, R> {
    /// Takes somebody in who waits. Whoever is dropped is told at once that the registry is away.
    fn take_ask(&mut self, ask: Ask) {
        let Some(ask) = self.join(ask) else { return };
        let protocol = ask.source.protocol;
        let room = self.room(protocol);
        let _refused = self.lookups.waiting[protocol as usize].push(ask.source.network, ask, room);
    }

    /// Answers from what is known meanwhile, or lets somebody wait for a request that is under way; `None`: done.
    fn join(&mut self, ask: Ask) -> Option<Ask> {
        let now_us = self.registry.now_us();
        let known = self.registry.cache.read().unwrap_or_else(PoisonError::into_inner).fresh(ask.id.as_str(), now_us);
        if let Some(known) = known {
            // Whoever does not wait any more has told its device to come later.
            let _gone = ask.answer.send(known);
            return None;
        }
        match self.under_way.get_mut(&ask.id) {
            Some(waiting) => {
                // One that is dropped is told at once.
                if waiting.len() < WAITING_MAX {
                    ask.is_asked.store(true, Ordering::Relaxed);
                    waiting.push(ask.answer);
                }
                None
            }
            None => Some(ask),
        }
    }

    /// How many may wait who speak that: as many as get their turn within the time that they wait, each protocol its share.
    fn room(&self, protocol: Protocol) -> usize {
        if self.time.is_zero() {
            return WAITING_MAX;
        }
        let competing = Protocol::ALL
            .iter()
            .filter(|&&other| other == protocol || !self.lookups.waiting[other as usize].is_empty());
        let requests_max = self.registry.requests_max;
        let at_once = (requests_max.saturating_sub(self.renewals.running) / competing.count()).max(1);
        let rounds = self.registry.timeout.as_secs_f64() / self.time.as_secs_f64();
        // A float becomes the nearest number that there is.
        ((at_once as f64 * rounds) as usize).clamp(at_once, WAITING_MAX)
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
            _ => RENEWALS_AWAY_MAX.saturating_sub(self.renewals.due.len()),
        };
        for id in due.into_iter().take(room) {
            if self.renewals.is_due.insert(id.clone()) {
                self.renewals.due.push_back(id);
            }
        }
        self.probe.ticks_since = self.probe.ticks_since.saturating_add(1);
        let needs_probe = self.availability != Availability::Ok || self.probe.is_in_doubt;
        if needs_probe && !self.probe.is_running && self.probe.ticks_since >= PROBE_TICKS {
            self.start_probe();
        }
        self.report_known();
        self.tell_late();
    }

    /// Logs that the service is too slow for all who ask.
    fn tell_late(&mut self) {
        let late = self.registry.late.load(Ordering::Relaxed);
        let (told, since) = self.late_told;
        if late == told || since.is_some_and(|since| since.elapsed() < TELL_LATE) {
            return;
        }
        self.late_told = (late, Some(Instant::now()));
        let concurrency = self.registry.requests_max;
        let answer_ms = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        let devices = late - told;
        tracing::warn!(
            devices,
            answer_ms,
            concurrency,
            "the registry answers too slowly for all who connect: devices are told to try again later"
        );
    }

    fn start_probe(&mut self) {
        // The text is an id, as a test of this file shows.
        let Ok(id) = DeviceId::new(PROBE) else { return };
        self.probe.is_running = true;
        self.probe.is_in_doubt = false;
        self.probe.ticks_since = 0;
        self.running.push(self.request(id, Purpose::Probe));
    }

    fn start_requests(&mut self) {
        while self.running.len() < self.registry.requests_max {
            let Some((id, purpose, waiting)) = self.next_request() else { break };
            match purpose {
                Purpose::Lookup(protocol) => self.lookups.running[protocol as usize] += 1,
                Purpose::Renewal => self.renewals.running += 1,
                Purpose::Probe => {}
            }
            self.under_way.insert(id.clone(), waiting);
            self.running.push(self.request(id, purpose));
        }
    }

    /// The device to ask for next, of the kind that has the fewest requests under way, and who waits for it.
    fn next_request(&mut self) -> Option<(DeviceId, Purpose, Vec<oneshot::Sender<Lookup>>)> {
        let share = (self.registry.requests_max / RENEWALS_SHARE).max(1);
        let renewals_max = if self.availability == Availability::Ok { share } else { share.min(RENEWALS_AWAY_MAX) };
        loop {
            let waiting =
                Protocol::ALL.into_iter().filter(|protocol| !self.lookups.waiting[*protocol as usize].is_empty());
            let next = waiting.min_by_key(|protocol| self.lookups.running[*protocol as usize]);
            let may_renew = !self.renewals.due.is_empty() && self.renewals.running < renewals_max;
            match next {
                Some(protocol) if !may_renew || self.lookups.running[protocol as usize] <= self.renewals.running => {
                    let Some(ask) = self.lookups.waiting[protocol as usize].pop() else { continue };
                    // Whoever does not wait any more needs no answer.
                    if ask.answer.is_closed() {
                        continue;
                    }
                    if let Some(Ask { id, answer, is_asked, .. }) = self.join(ask) {
                        is_asked.store(true, Ordering::Relaxed);
                        return Some((id, Purpose::Lookup(protocol), vec![answer]));
                    }
                }
                _ if may_renew => {
                    let Some(id) = self.renewals.due.pop_front() else { continue };
                    self.renewals.is_due.remove(&id);
                    if !self.under_way.contains_key(&id) {
                        return Some((id, Purpose::Renewal, Vec::new()));
                    }
                }
                _ => return None,
            }
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
            Purpose::Probe => self.probe.is_running = false,
            Purpose::Renewal => self.renewals.running -= 1,
            Purpose::Lookup(protocol) => self.lookups.running[protocol as usize] -= 1,
        }
        self.time = match self.time {
            Duration::ZERO => took,
            time => (time * (TIME_WEIGHT - 1) + took) / TIME_WEIGHT,
        };
        let outcome = match &result {
            Ok(Answer::Found(_)) => Asked::Found,
            Ok(Answer::Unknown) => Asked::Unknown,
            Err(HttpError::Record(_)) => Asked::Unreadable,
            Err(error) if error.refuses_id() => Asked::Refused,
            Err(_) => Asked::Failed,
        };
        (self.report)(Change::Asked { outcome, took });
        let is_probe = purpose == Purpose::Probe;
        let waiting = if is_probe { None } else { self.under_way.remove(&id) };
        let lookup = match result {
            Ok(answer) => {
                self.set_available();
                if is_probe { Lookup::Away } else { self.keep(&id, answer) }
            }
            Err(error) => {
                if is_probe {
                    self.lose(error)
                } else {
                    self.note_failure(&id, purpose, error)
                }
                Lookup::Away
            }
        };
        for waiting in waiting.unwrap_or_default() {
            // Whoever does not wait any more has told its device to come later.
            let _gone = waiting.send(lookup.clone());
        }
    }

    /// Puts an answer in force; the lookup that follows from it.
    fn keep(&mut self, id: &DeviceId, answer: Answer) -> Lookup {
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
        self.registry.is_answering.store(true, Ordering::Relaxed);
        if std::mem::replace(&mut self.availability, Availability::Ok) != Availability::Ok {
            (self.report)(Change::Availability(Availability::Ok));
        }
    }

    /// Takes in that there is no answer for a device. Its record stays, and the probe shall tell about the service.
    fn note_failure(&mut self, id: &DeviceId, purpose: Purpose, error: HttpError) {
        let now_us = self.registry.now_us();
        self.registry.cache.write().unwrap_or_else(PoisonError::into_inner).postpone(id, now_us);
        self.probe.is_in_doubt = true;
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
            self.registry.is_answering.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "lost the registry: devices that are not known are told to try again later");
            (self.report)(Change::Availability(Availability::Away));
        } else if self.told.as_ref() != Some(&error) {
            if error.is_permanent() {
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
