//! The page that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

#[cfg(test)]
use super::description::Description;
use super::description::PREFIX;
use super::label::CertificateUse;
use super::process::{
    CertificateMetrics, CoordinationMetrics, KafkaMetrics, ProcessMetrics, RegistryMetrics, SpanMetrics,
};
use super::sampled::Sampled;
use super::system::{self, ProcessNumbers};
use super::worker::WorkerMetrics;
use crate::telemetry::health::{Health, PartState};

/// Takes numbers over that are counted elsewhere.
type Source = Box<dyn Fn(&ProcessMetrics) + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    workers: Mutex<Vec<(usize, Arc<WorkerMetrics>)>>,
    /// Those of the registry.
    pub registry: Arc<RegistryMetrics>,
    /// Those of certificates.
    pub certificates: Arc<CertificateMetrics>,
    /// Those of the coordination.
    pub coordination: Arc<CoordinationMetrics>,
    /// Those of the commands from Kafka.
    pub kafka: Arc<KafkaMetrics>,
    /// Locked while they are written, as one thread at a time may.
    process: Mutex<ProcessMetrics>,
    sources: Mutex<Vec<Source>>,
    /// Time of the processor by worker; that of one that has ended stays.
    worker_cpu: Mutex<BTreeMap<usize, f64>>,
    spans: Mutex<Vec<Arc<SpanMetrics>>>,
    health: Arc<Health>,
    started_ms: u64,
}

impl Metrics {
    /// Metrics of a process that started at `started_ms`, ms since 1970.
    pub fn new(health: Arc<Health>, started_ms: u64) -> Self {
        let certificates = CertificateMetrics::default();
        // Listeners have their series whether they are on or off.
        for listener in [CertificateUse::Mqtt, CertificateUse::Dtls] {
            certificates.stale[listener].set(0);
        }
        Self {
            workers: Mutex::default(),
            registry: Arc::default(),
            certificates: Arc::new(certificates),
            coordination: Arc::default(),
            kafka: Arc::default(),
            process: Mutex::default(),
            sources: Mutex::default(),
            worker_cpu: Mutex::default(),
            spans: Mutex::default(),
            health,
            started_ms,
        }
    }

    /// The metrics of a worker; the same for the same number.
    pub fn worker(&self, number: usize) -> Arc<WorkerMetrics> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, worker)) = workers.iter().find(|(other, _)| *other == number) {
            return Arc::clone(worker);
        }
        let worker = Arc::new(WorkerMetrics::default());
        workers.push((number, Arc::clone(&worker)));
        worker
    }

    /// Takes numbers over from `source` whenever the page is read; it must not block.
    pub fn read_from(&self, source: impl Fn(&ProcessMetrics) + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Metrics for one more thread that makes or exports spans.
    pub fn spans(&self) -> Arc<SpanMetrics> {
        let spans = Arc::new(SpanMetrics::default());
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&spans));
        spans
    }

    /// Descriptions of every metric, in the order of the page.
    #[cfg(test)]
    pub(super) fn descriptions(&self) -> Vec<Description> {
        let sampled = self.state().into_iter().chain(self.each_worker(&[])).chain(standard());
        [
            WorkerMetrics::descriptions(),
            RegistryMetrics::descriptions(),
            CertificateMetrics::descriptions(),
            CoordinationMetrics::descriptions(),
            KafkaMetrics::descriptions(),
            ProcessMetrics::descriptions(),
            SpanMetrics::descriptions(),
            sampled.map(|metric| metric.description).collect(),
        ]
        .concat()
    }

    /// The page, in the text exposition format 0.0.4.
    pub fn render(self: &Arc<Self>) -> String {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Arc::clone(self)));
        let mut page = String::with_capacity(32 * 1024);
        // Writing to a String cannot fail.
        let _ = prometheus_text::encode(&mut page, &registry);
        let mut standard = Registry::default();
        standard.register_collector(Box::new(StandardMetrics));
        let _ = prometheus_text::encode(&mut page, &standard);
        page
    }

    fn encode_process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(&process);
        }
        ProcessMetrics::encode(&[&process], encoder)
    }

    fn state(&self) -> [Sampled; 5] {
        let readiness = self.health.readiness();
        let parts = [
            ("queue", readiness.queue),
            ("registry", readiness.registry),
            ("coordination", readiness.coordination),
            ("commands", readiness.commands),
            ("capacity", readiness.capacity),
        ];
        let used = parts.into_iter().filter(|(_, state)| *state != PartState::Off);
        let up = used.map(|(name, state)| (name.to_owned(), ConstGauge::new(u64::from(state == PartState::Ok))));
        let started = ConstGauge::new(self.started_ms as f64 / 1e3);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let build = [(version, ConstGauge::new(1_u64))].into_iter();
        let part_help = "1 while that part answers, or has room; parts that are not configured have no series.";
        [
            Sampled::one("ready", "1 while /readyz answers 200.", ConstGauge::new(u64::from(readiness.ready))),
            Sampled::one("draining", "1 while the process ends.", ConstGauge::new(u64::from(readiness.draining))),
            Sampled::by("part", "part_up", part_help, up),
            Sampled::one("start_time_seconds", "When the process started, in seconds since 1970.", started),
            Sampled::by("version", "build_info", "Always 1; the label names the version.", build),
        ]
    }

    /// The numbers of each worker apart from the others.
    fn each_worker(&self, workers: &[(usize, Arc<WorkerMetrics>)]) -> [Sampled; 3] {
        let mut taken = self.worker_cpu.lock().unwrap_or_else(PoisonError::into_inner);
        taken.extend(system::worker_cpu_seconds());
        let ages = workers.iter().filter_map(|(number, _)| {
            Some((number.to_string(), ConstGauge::new(self.health.turned_ago(*number)?.as_secs_f64())))
        });
        let cpu = workers
            .iter()
            .map(|(number, _)| (number.to_string(), ConstCounter::new(taken.get(number).copied().unwrap_or_default())));
        let inflight =
            workers.iter().map(|(number, worker)| (number.to_string(), ConstGauge::new(worker.inflight_bytes.get())));
        [
            Sampled::by(
                "worker",
                "worker_tick_age_seconds",
                "Time since the loop of that worker last turned; one that has ended has no series.",
                ages,
            ),
            Sampled::by(
                "worker",
                "worker_cpu_seconds_total",
                "Time of the processor that the thread of that worker took.",
                cpu,
            ),
            Sampled::by(
                "worker",
                "worker_inflight_bytes",
                "Bytes of the records of that worker on their way to the queue; its limit is limit_inflight_bytes divided by the workers.",
                inflight,
            ),
        ]
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        WorkerMetrics::encode(&workers.iter().map(|(_, worker)| &**worker).collect::<Vec<_>>(), encoder)?;
        RegistryMetrics::encode(&[&self.registry], encoder)?;
        CertificateMetrics::encode(&[&self.certificates], encoder)?;
        CoordinationMetrics::encode(&[&self.coordination], encoder)?;
        KafkaMetrics::encode(&[&self.kafka], encoder)?;
        self.encode_process(encoder)?;
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SpanMetrics::encode(&spans.iter().map(|spans| &**spans).collect::<Vec<_>>(), encoder)?;
        let mut sampled = self.state().into_iter().chain(self.each_worker(&workers));
        sampled.try_for_each(|metric| metric.encode(encoder))
    }
}

/// The numbers that every process has.
#[derive(Debug)]
struct StandardMetrics;

impl Collector for StandardMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        standard().iter().try_for_each(|metric| metric.encode(&mut encoder))
    }
}

/// None where /proc cannot be read.
fn standard() -> Vec<Sampled> {
    let Some(numbers) = ProcessNumbers::read() else { return Vec::new() };
    let ProcessNumbers { cpu_seconds, open_fds, max_fds, resident_bytes, start_seconds, threads } = numbers;
    let cpu = ConstCounter::new(cpu_seconds);
    let start = ConstGauge::new(start_seconds);
    vec![
        Sampled::one("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", cpu),
        Sampled::one("process_open_fds", "Number of open file descriptors.", ConstGauge::new(open_fds)),
        Sampled::one("process_max_fds", "Maximum number of open file descriptors.", ConstGauge::new(max_fds)),
        Sampled::one(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            ConstGauge::new(resident_bytes),
        ),
        Sampled::one("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start),
        Sampled::one("process_threads", "Number of OS threads in the process.", ConstGauge::new(threads)),
    ]
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("started_ms", &self.started_ms).finish_non_exhaustive()
    }
}
