//! The page that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::description::{Description, PREFIX};
use super::label::CertificateUse;
use super::process::{
    CertificateMetrics, CoordinationMetrics, KafkaMetrics, ProcessMetrics, RegistryMetrics, SpanMetrics,
};
use super::system::{self, ProcessNumbers};
use super::worker::WorkerMetrics;
use crate::telemetry::health::{Health, PartState};

/// Takes numbers over that are counted elsewhere.
type Source = Box<dyn Fn(&ProcessMetrics) + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    workers: Mutex<Vec<(usize, Arc<WorkerMetrics>)>>,
    registry: Arc<RegistryMetrics>,
    certificates: Arc<CertificateMetrics>,
    coordination: Arc<CoordinationMetrics>,
    kafka: Arc<KafkaMetrics>,
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

    /// The metrics of the registry.
    pub fn registry(&self) -> Arc<RegistryMetrics> {
        Arc::clone(&self.registry)
    }

    /// The metrics of certificates.
    pub fn certificates(&self) -> Arc<CertificateMetrics> {
        Arc::clone(&self.certificates)
    }

    /// The metrics of the coordination.
    pub fn coordination(&self) -> Arc<CoordinationMetrics> {
        Arc::clone(&self.coordination)
    }

    /// The metrics of the commands from Kafka.
    pub fn kafka(&self) -> Arc<KafkaMetrics> {
        Arc::clone(&self.kafka)
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
    pub fn descriptions() -> Vec<Description> {
        let mut descriptions = WorkerMetrics::descriptions();
        descriptions.extend(RegistryMetrics::descriptions());
        descriptions.extend(CertificateMetrics::descriptions());
        descriptions.extend(CoordinationMetrics::descriptions());
        descriptions.extend(KafkaMetrics::descriptions());
        descriptions.extend(ProcessMetrics::descriptions());
        descriptions.extend(SpanMetrics::descriptions());
        descriptions.extend(state_descriptions());
        descriptions.extend(worker_descriptions());
        descriptions.extend(standard_descriptions());
        descriptions
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

    fn encode_state(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let readiness = self.health.readiness();
        let [ready, draining, part, start, build] = state_descriptions();
        ConstGauge::new(u64::from(readiness.ready)).encode(ready.encode(encoder)?)?;
        ConstGauge::new(u64::from(readiness.draining)).encode(draining.encode(encoder)?)?;
        let mut part = part.encode(encoder)?;
        let parts = [
            ("queue", readiness.queue),
            ("registry", readiness.registry),
            ("coordination", readiness.coordination),
            ("commands", readiness.commands),
            ("capacity", readiness.capacity),
        ];
        for (name, state) in parts.into_iter().filter(|(_, state)| *state != PartState::Off) {
            ConstGauge::new(u64::from(state == PartState::Ok)).encode(part.encode_family(&[("part", name)])?)?;
        }
        ConstGauge::new(self.started_ms as f64 / 1e3).encode(start.encode(encoder)?)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_u64).encode(build.encode(encoder)?.encode_family(&version)?)
    }

    /// The numbers of each worker apart from the others.
    fn encode_each_worker(
        &self,
        workers: &[(usize, Arc<WorkerMetrics>)],
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result {
        let [tick_age, cpu, inflight] = worker_descriptions();
        let mut tick_age = tick_age.encode(encoder)?;
        for (number, _) in workers {
            if let Some(age) = self.health.turned_ago(*number) {
                let label = [("worker", number.to_string())];
                ConstGauge::new(age.as_secs_f64()).encode(tick_age.encode_family(&label)?)?;
            }
        }
        let mut cpu = cpu.encode(encoder)?;
        let mut taken = self.worker_cpu.lock().unwrap_or_else(PoisonError::into_inner);
        taken.extend(system::worker_cpu_seconds());
        for (number, _) in workers {
            let seconds = taken.get(number).copied().unwrap_or_default();
            ConstCounter::new(seconds).encode(cpu.encode_family(&[("worker", number.to_string())])?)?;
        }
        let mut inflight = inflight.encode(encoder)?;
        for (number, worker) in workers {
            let bytes = worker.inflight_bytes.get();
            ConstGauge::new(bytes).encode(inflight.encode_family(&[("worker", number.to_string())])?)?;
        }
        Ok(())
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
        self.encode_state(encoder)?;
        self.encode_each_worker(&workers, encoder)
    }
}

/// The numbers that every process has.
#[derive(Debug)]
struct StandardMetrics;

impl Collector for StandardMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(numbers) = ProcessNumbers::read() else { return Ok(()) };
        let encoder = &mut encoder;
        let [cpu, open_fds, max_fds, resident, start, threads] = standard_descriptions();
        ConstCounter::new(numbers.cpu_seconds).encode(cpu.encode(encoder)?)?;
        ConstGauge::new(numbers.open_fds).encode(open_fds.encode(encoder)?)?;
        ConstGauge::new(numbers.max_fds).encode(max_fds.encode(encoder)?)?;
        ConstGauge::new(numbers.resident_bytes).encode(resident.encode(encoder)?)?;
        ConstGauge::new(numbers.start_seconds).encode(start.encode(encoder)?)?;
        ConstGauge::new(numbers.threads).encode(threads.encode(encoder)?)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("started_ms", &self.started_ms).finish_non_exhaustive()
    }
}

fn describe(name: &'static str, kind: MetricType, labels: &[&'static str], help: &'static str) -> Description {
    Description { name, kind, labels: labels.to_vec(), help }
}

fn state_descriptions() -> [Description; 5] {
    let gauge = |name, labels: &[&'static str], help| describe(name, MetricType::Gauge, labels, help);
    [
        gauge("ready", &[], "1 while /readyz answers 200."),
        gauge("draining", &[], "1 while the process ends."),
        gauge(
            "part_up",
            &["part"],
            "1 while that part answers, or has room; parts that are not configured have no series.",
        ),
        gauge("start_time_seconds", &[], "When the process started, in seconds since 1970."),
        gauge("build_info", &["version"], "Always 1; the label names the version."),
    ]
}

fn worker_descriptions() -> [Description; 3] {
    let of_worker = |name, kind, help| describe(name, kind, &["worker"], help);
    [
        of_worker(
            "worker_tick_age_seconds",
            MetricType::Gauge,
            "Time since the loop of that worker last turned; one that has ended has no series.",
        ),
        of_worker(
            "worker_cpu_seconds_total",
            MetricType::Counter,
            "Time of the processor that the thread of that worker took.",
        ),
        of_worker(
            "worker_inflight_bytes",
            MetricType::Gauge,
            "Bytes of the records of that worker on their way to the queue; its limit is limit_inflight_bytes divided by the workers.",
        ),
    ]
}

fn standard_descriptions() -> [Description; 6] {
    let gauge = |name, help| describe(name, MetricType::Gauge, &[], help);
    [
        describe(
            "process_cpu_seconds_total",
            MetricType::Counter,
            &[],
            "Total user and system CPU time spent in seconds.",
        ),
        gauge("process_open_fds", "Number of open file descriptors."),
        gauge("process_max_fds", "Maximum number of open file descriptors."),
        gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
        gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
        gauge("process_threads", "Number of OS threads in the process."),
    ]
}
