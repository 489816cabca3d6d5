//! The queue of spans and the thread that exports them.
#![expect(clippy::disallowed_methods, reason = "waits for batches, deadlines and a collector on a thread of its own")]

use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::client::{Collector, Export};
use super::{ExportError, SpanSettings, otlp};
use crate::protocol::backoff::Backoff;
use crate::protocol::throttle::Throttle;
use crate::protocol::trace::{Span, SpanSink};
use crate::telemetry::metric::{SpanMetrics, SpanOutcome};

/// Spans that may wait, about 300 bytes each; one more is dropped.
const WAITING_MAX: usize = 4096;

/// Spans of one batch.
const BATCH_MAX: usize = 512;

/// Time for which a batch is gathered.
const LINGER: Duration = Duration::from_secs(1);

/// Interval at which more spans are taken out meanwhile.
const TAKE_INTERVAL: Duration = Duration::from_millis(50);

/// Time for which a batch is offered to a collector that is away, before it is given up for the ones behind it.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// The first pause before a batch is offered again, at its longest; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Time that the last spans may take.
const FLUSH: Duration = Duration::from_secs(2);

/// Pause between two warnings.
const WARNING_PAUSE: Duration = Duration::from_secs(300);

/// The export of spans; cheap to clone.
#[derive(Debug, Clone)]
pub struct Spans {
    queue: mpsc::Sender<Span>,
    stop: Arc<Notify>,
    ended: watch::Receiver<()>,
}

/// An export that is not started yet.
pub struct SpanExport {
    settings: SpanSettings,
    collector: Collector,
}

impl SpanExport {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`ExportError`] when the settings cannot be used.
    pub fn new(settings: SpanSettings) -> Result<Self, ExportError> {
        let collector = Collector::new(&settings)?;
        Ok(Self { settings, collector })
    }

    /// Exports nothing once, for tools: a collector answers that as it answers spans.
    ///
    /// # Errors
    /// The cause, in words.
    pub async fn ask(&self) -> Result<(), String> {
        match self.collector.post(otlp::request(&self.settings, []).encode_to_vec().into()).await {
            Export::Taken { .. } => Ok(()),
            Export::Away(cause) | Export::Refused(cause) => Err(cause),
        }
    }

    /// Starts the thread; a collector that is away is waited for. `metrics` are written by that thread alone.
    ///
    /// # Errors
    /// [`ExportError::Thread`].
    pub fn start(self, metrics: Arc<SpanMetrics>) -> Result<Spans, ExportError> {
        let Self { settings, collector } = self;
        let (queue, spans) = mpsc::channel(WAITING_MAX);
        let (ending, ended) = watch::channel(());
        let stop = Arc::new(Notify::new());
        // Without randomness there is no jitter, which costs politeness and nothing else.
        let backoff = Backoff::new(PAUSE, RETRY_FOR, u128::from(getrandom::u64().unwrap_or(1)));
        let log = Log { warnings: Throttle::new(WARNING_PAUSE), is_away: false };
        let exporter = Exporter { settings, collector, spans, stop: Arc::clone(&stop), metrics, backoff, log };
        let run = move || {
            let _ending = ending;
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(exporter.run()),
                Err(error) => tracing::error!(%error, "the export of spans has no runtime"),
            }
        };
        let thread = thread::Builder::new().name("spans".to_owned()).spawn(run);
        thread.map_err(|error| ExportError::Thread(error.kind()))?;
        Ok(Spans { queue, stop, ended })
    }
}

impl Spans {
    /// A sink for one thread, which alone writes these `metrics`.
    pub fn sink(&self, metrics: Arc<SpanMetrics>) -> Box<dyn SpanSink + Send> {
        Box::new(Sink { queue: self.queue.clone(), metrics })
    }

    /// Exports what is left, two seconds at most. Later spans are dropped.
    pub async fn finish(&self) {
        self.stop.notify_one();
        let mut ended = self.ended.clone();
        // The thread drops its end when it is done.
        if timeout(FLUSH, async { while ended.changed().await.is_ok() {} }).await.is_err() {
            tracing::debug!("the last spans are lost");
        }
    }
}

/// The sink of one thread.
struct Sink {
    queue: mpsc::Sender<Span>,
    metrics: Arc<SpanMetrics>,
}

impl SpanSink for Sink {
    fn take(&mut self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans[SpanOutcome::Dropped].inc();
        }
    }
}

struct Exporter {
    settings: SpanSettings,
    collector: Collector,
    spans: mpsc::Receiver<Span>,
    stop: Arc<Notify>,
    metrics: Arc<SpanMetrics>,
    backoff: Backoff,
    log: Log,
}

/// Whether the export goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Stop,
}

impl Exporter {
    async fn run(mut self) {
        let mut then = Then::GoOn;
        while then == Then::GoOn {
            let batch = self.gather(&mut then).await;
            if !batch.is_empty() {
                self.export(batch, &mut then).await;
            }
        }
        // What is left has one attempt, and the process does not wait for long.
        self.spans.close();
        let mut batch = Vec::new();
        while self.spans.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.export(mem::take(&mut batch), &mut then).await;
        }
    }

    /// Waits for the first span, and for others for a moment.
    async fn gather(&mut self, then: &mut Then) -> Vec<Span> {
        let mut batch = Vec::new();
        tokio::select! {
            count = self.spans.recv_many(&mut batch, BATCH_MAX) => if count == 0 {
                *then = Then::Stop;
            },
            () = self.stop.notified() => *then = Then::Stop,
        }
        let since = Instant::now();
        while *then == Then::GoOn && batch.len() < BATCH_MAX && since.elapsed() < LINGER {
            // Nobody waits for single spans meanwhile, so whoever makes them has nobody to wake.
            tokio::select! {
                () = sleep(TAKE_INTERVAL) => {}
                () = self.stop.notified() => *then = Then::Stop,
            }
            while batch.len() < BATCH_MAX
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
        }
        batch
    }

    /// Offers a batch until it is taken, refused, or its time is over; at the end once.
    async fn export(&mut self, batch: Vec<Span>, then: &mut Then) {
        let count = batch.len() as u64;
        let body = Bytes::from(otlp::request(&self.settings, batch).encode_to_vec());
        let since = Instant::now();
        self.backoff.reset();
        let rejected = loop {
            let away = match self.collector.post(body.clone()).await {
                Export::Taken { rejected } => {
                    self.log.taken();
                    break rejected.min(count);
                }
                Export::Away(cause) => {
                    self.log.failed(&cause);
                    true
                }
                Export::Refused(cause) => {
                    self.log.failed(&cause);
                    false
                }
            };
            let pause = self.backoff.pause();
            if !away || *then == Then::Stop || since.elapsed() + pause > RETRY_FOR {
                break count;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.notified() => *then = Then::Stop,
            }
        };
        self.metrics.spans[SpanOutcome::Failed].add(rejected);
        self.metrics.spans[SpanOutcome::Exported].add(count - rejected);
    }
}

/// Warnings that the collector is away, and the line that it is back where there was a warning.
#[derive(Debug)]
struct Log {
    warnings: Throttle,
    is_away: bool,
}

impl Log {
    fn failed(&mut self, cause: &str) {
        if self.warnings.pass(Instant::now()).is_some() {
            self.is_away = true;
            tracing::warn!(cause, "the collector does not take spans");
        }
    }

    fn taken(&mut self) {
        if mem::take(&mut self.is_away) {
            tracing::info!("the collector takes spans");
        }
    }
}
