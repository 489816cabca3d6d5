//! The page that Prometheus reads.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::family::{Family, Kind, Metric};
use super::process::{CertificateMetrics, CoordinationMetrics, RegistryMetrics};
use super::queue::ProcessMetrics;
use super::span::SpanMetrics;
use super::worker::WorkerMetrics;
use crate::telemetry::health::{Health, PartState};

/// Media type of the page: the text exposition format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Takes numbers over that are counted elsewhere.
type Source = Box<dyn Fn(&ProcessMetrics) + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    workers: Mutex<Vec<(usize, Arc<WorkerMetrics>)>>,
    registry: Arc<RegistryMetrics>,
    certificates: Arc<CertificateMetrics>,
    coordination: Arc<CoordinationMetrics>,
    /// Locked while they are written, as one thread at a time may.
    process: Mutex<ProcessMetrics>,
    sources: Mutex<Vec<Source>>,
    spans: Mutex<Vec<Arc<SpanMetrics>>>,
    health: Arc<Health>,
    started_ms: u64,
}

impl Metrics {
    /// Metrics of a process that started at `started_ms`, ms since 1970.
    pub fn new(health: Arc<Health>, started_ms: u64) -> Self {
        Self {
            workers: Mutex::default(),
            registry: Arc::default(),
            certificates: Arc::default(),
            coordination: Arc::default(),
            process: Mutex::default(),
            sources: Mutex::default(),
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

    /// Every metric by name, kind, labels and meaning, in the order of the page.
    pub fn families() -> Vec<Family> {
        let mut families = WorkerMetrics::families();
        families.extend(RegistryMetrics::families());
        families.extend(CertificateMetrics::families());
        families.extend(CoordinationMetrics::families());
        families.extend(ProcessMetrics::families());
        families.extend(SpanMetrics::families());
        families.extend(own_families());
        families
    }

    /// The page, in the text exposition format 0.0.4.
    pub fn render(&self) -> String {
        let workers: Vec<Arc<WorkerMetrics>> = {
            let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
            workers.iter().map(|(_, worker)| Arc::clone(worker)).collect()
        };
        let mut page = Page { text: String::with_capacity(32 * 1024) };
        WorkerMetrics::write(workers.iter().map(Arc::as_ref), &mut page);
        RegistryMetrics::write([self.registry.as_ref()].into_iter(), &mut page);
        CertificateMetrics::write([self.certificates.as_ref()].into_iter(), &mut page);
        CoordinationMetrics::write([self.coordination.as_ref()].into_iter(), &mut page);
        self.write_process(&mut page);
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SpanMetrics::write(spans.iter().map(Arc::as_ref), &mut page);
        self.write_own(&mut page);
        page.text
    }

    fn write_process(&self, page: &mut Page) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(&process);
        }
        ProcessMetrics::write([&*process].into_iter(), page);
    }

    fn write_own(&self, page: &mut Page) {
        let readiness = self.health.readiness();
        let [ready, draining, part, start, build] = own_families();
        page.head(&ready);
        page.line(&ready.name, "", &[], u8::from(readiness.ready));
        page.head(&draining);
        page.line(&draining.name, "", &[], u8::from(readiness.draining));
        page.head(&part);
        let parts = [
            ("queue", readiness.queue),
            ("registry", readiness.registry),
            ("coordination", readiness.coordination),
            ("commands", readiness.commands),
        ];
        for (name, state) in parts.into_iter().filter(|(_, state)| *state != PartState::Off) {
            page.line(&part.name, "", &[("part", name)], u8::from(state == PartState::Ok));
        }
        page.head(&start);
        page.line(&start.name, "", &[], format_args!("{}.{:03}", self.started_ms / 1_000, self.started_ms % 1_000));
        page.head(&build);
        page.line(&build.name, "", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("started_ms", &self.started_ms).finish_non_exhaustive()
    }
}

fn own_families() -> [Family; 5] {
    let gauge = |name: &str, labels: &[&'static str], help| Family {
        name: format!("jetlinks_bridge_{name}"),
        kind: Kind::Gauge,
        labels: labels.to_vec(),
        help,
    };
    [
        gauge("ready", &[], "1 while /readyz answers 200."),
        gauge("draining", &[], "1 while the process ends."),
        gauge("part_up", &["part"], "1 while that part answers; parts that are not configured have no series."),
        gauge("start_time_seconds", &[], "When the process started, in seconds since 1970."),
        gauge("build_info", &["version"], "Always 1; the label names the version."),
    ]
}

/// The page while it is written.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Writes a metric, its writers added up.
    pub(super) fn write<'m, M: Metric + 'm>(&mut self, family: &Family, writers: impl Iterator<Item = &'m M>) {
        let (mut sums, mut slots) = (Vec::new(), Vec::new());
        // An idle writer gives the number of slots, and adds nothing.
        M::default().read(&mut sums);
        for writer in writers {
            slots.clear();
            writer.read(&mut slots);
            for (sum, slot) in sums.iter_mut().zip(&slots) {
                *sum = sum.wrapping_add(*slot);
            }
        }
        self.head(family);
        for sample in M::samples(&sums) {
            let mut labels = sample.labels;
            for (label, name) in labels.iter_mut().zip(&family.labels) {
                label.0 = name;
            }
            self.line(&family.name, sample.suffix, &labels, sample.value);
        }
    }

    fn head(&mut self, family: &Family) {
        let Family { name, kind, help, .. } = family;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            // As above.
            let _ = write!(self.text, "{open}{label}=\"{text}\"");
        }
        // As above.
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}
