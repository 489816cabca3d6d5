//! `check --connect`: every server that the configuration names, asked by the clients that the bridge has.
#![expect(clippy::disallowed_methods, reason = "questions and certificates end by the clock")]

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use crate::app::{self, settings};
use crate::cli::lookup::{self, CONNECTION_NAME};
use crate::config::{CommandQueue, Config, RegistrySource, UplinkQueue};
use crate::protocol::clock::rfc3339;
use crate::protocol::id::DeviceId;
use crate::queue::kafka::{self, TopicUse};
use crate::queue::nats::{self, ConnectionTallies, NatsUse};
use crate::queue::{Finding, Findings};
use crate::registry::http::{Answer, HttpClient, PROBE};
use crate::registry::nats::{Bucket, IfMissing};

/// Bytes of an envelope beside its message.
const ENVELOPE_BYTES: usize = 4_096;

/// A certificate that is over within this time is worth a word.
const SOON_SECS: u64 = 14 * 86_400;

/// The servers of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Kafka,
    Nats,
    Registry,
    Collector,
    Certificate,
}

impl Part {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Part::Kafka => "kafka",
            Part::Nats => "nats",
            Part::Registry => "registry",
            Part::Collector => "collector",
            Part::Certificate => "certificate",
        }
    }
}

/// Looks at all parts side by side. What is not known when the time is over is a trouble.
pub(super) async fn look(config: &Config, time_limit: Duration) -> Vec<(Part, Finding)> {
    let (kafka, nats, registry, collector) = tokio::join!(
        part(Part::Kafka, time_limit, |findings| look_at_kafka(config, time_limit, findings)),
        part(Part::Nats, time_limit, |findings| look_at_nats(config, findings)),
        part(Part::Registry, time_limit, |findings| look_at_registry(config, findings)),
        part(Part::Collector, time_limit, |findings| look_at_collector(config, findings)),
    );
    let certificates =
        part(Part::Certificate, time_limit, async |findings| look_at_certificates(config, &findings)).await;
    [kafka, nats, registry, collector, certificates].concat()
}

async fn part(part: Part, time_limit: Duration, look: impl AsyncFnOnce(Findings)) -> Vec<(Part, Finding)> {
    let (sender, mut found) = unbounded_channel();
    let findings = Findings::new(sender);
    if timeout(time_limit, look(findings.clone())).await.is_err() {
        findings
            .trouble("all of it", format!("not finished within {} s: --timeout gives more", time_limit.as_secs_f32()));
    }
    let mut all = Vec::new();
    while let Ok(finding) = found.try_recv() {
        all.push((part, finding));
    }
    all
}

async fn look_at_kafka(config: &Config, time_limit: Duration, findings: Findings) {
    let Some(settings) = settings::kafka(config, CONNECTION_NAME).filter(|_| config.uses_kafka()) else { return };
    let (uplink, commands) = (config.uplink.queue == UplinkQueue::Kafka, config.commands.queue == CommandQueue::Kafka);
    let topics = config.kafka.clone();
    let record_bytes = config.limits.packet_bytes.saturating_mul(4) / 3 + ENVELOPE_BYTES;
    let (sender, done) = tokio::sync::oneshot::channel();
    // The client blocks. A thread that it holds up ends with the process, not with a runtime.
    let asking = thread::Builder::new().name("kafka".to_owned()).spawn(move || {
        let uplinks = [TopicUse::Write(&topics.uplink_topic), TopicUse::Write(&topics.rejected_topic)];
        let downlinks = [TopicUse::Read(&topics.command_topic), TopicUse::Write(&topics.reply_topic)];
        let used: Vec<TopicUse<'_>> =
            uplinks.into_iter().filter(|_| uplink).chain(downlinks.into_iter().filter(|_| commands)).collect();
        let group = commands.then_some(topics.group.as_str());
        // A little less than all, so that what was found is told before the time is over.
        let deadline = std::time::Instant::now() + time_limit.mul_f32(0.9);
        if let Err(error) = kafka::inspect(&settings, &used, group, record_bytes, deadline, &findings) {
            findings.trouble("settings", error.to_string());
        }
        let _late = sender.send(());
    });
    if asking.is_ok() {
        let _ended = done.await;
    }
}

async fn look_at_nats(config: &Config, findings: Findings) {
    if !config.has_nats_servers() {
        return;
    }
    let used = NatsUse {
        stores: config.uplink.queue == UplinkQueue::Nats,
        takes_commands: config.commands.queue == CommandQueue::Nats,
        hands_over: config.commands.queue == CommandQueue::Kafka,
    };
    if let Err(error) = nats::inspect(&settings::nats(config, CONNECTION_NAME), used, &findings).await {
        findings.trouble("settings", error.to_string());
    }
}

async fn look_at_registry(config: &Config, findings: Findings) {
    match config.registry.source {
        // Whoever checks the configuration has read it.
        RegistrySource::File => {
            let path = config.registry.file.as_deref().unwrap_or_else(|| "".as_ref());
            findings.ok(format!("file {}", path.display()), "can be read");
        }
        RegistrySource::Nats => look_at_bucket(config, &findings).await,
        RegistrySource::Http => look_at_service(config, &findings).await,
    }
}

async fn look_at_bucket(config: &Config, findings: &Findings) {
    let subject = format!("bucket {}", config.registry.nats_bucket);
    let settings = match settings::nats_registry(config, CONNECTION_NAME, &ConnectionTallies::default()) {
        Ok(settings) => settings,
        Err(error) => return findings.trouble(subject, error.to_string()),
    };
    let devices = match Bucket::open(&settings, IfMissing::Fail).await {
        Ok(bucket) => bucket.devices().await,
        Err(error) => Err(error),
    };
    match devices {
        Ok(devices) => {
            let unreadable = devices.iter().filter(|device| lookup::is_unreadable(device)).count();
            findings.ok(subject.clone(), format!("devices: {}", devices.len()));
            if unreadable > 0 {
                let text = format!("{unreadable} records have mistakes: jetlinks-bridge devices ls names them");
                findings.trouble(subject, text);
            }
        }
        Err(error) => findings.trouble(subject, error.to_string()),
    }
}

async fn look_at_service(config: &Config, findings: &Findings) {
    let (Some(settings), Ok(id)) = (settings::http_registry(config), DeviceId::new(PROBE)) else { return };
    let subject = format!("service {}", settings.url);
    let answer = match HttpClient::new(&settings) {
        Ok(client) => client.ask(&id).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(Answer::Unknown) => findings.ok(subject, "answers, with 404 for a device that does not exist"),
        Ok(Answer::Found(_)) => findings.note(subject, format!("knows a device called {PROBE}")),
        Err(error) => findings.trouble(subject, error.to_string()),
    }
}

async fn look_at_collector(config: &Config, findings: Findings) {
    let Some(url) = config.tracing.traces_url() else { return };
    let subject = format!("endpoint {url}");
    match app::ask_collector(config).await {
        Ok(()) => findings.ok(subject, "takes spans (it was sent none)"),
        Err(cause) => findings.trouble(subject, cause),
    }
}

fn look_at_certificates(config: &Config, findings: &Findings) {
    let now = now_secs();
    for (key, expiry) in app::certificate_expiries(config) {
        let text = format!("until {}", date(expiry));
        match expiry {
            _ if expiry <= now => findings.trouble(key, format!("has expired: renew it ({text})")),
            _ if expiry - now <= SOON_SECS => findings.note(key, format!("expires soon ({text})")),
            _ => findings.ok(key, text),
        }
    }
}

/// A line for each certificate that is over.
pub(super) fn expired(config: &Config) -> Vec<String> {
    let expiries = app::certificate_expiries(config).into_iter().filter(|(_, expiry)| *expiry <= now_secs());
    expiries.map(|(key, expiry)| format!("{key}: it has expired, at {}", date(expiry))).collect()
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn date(secs: u64) -> String {
    let ms = i64::try_from(secs.saturating_mul(1_000)).ok();
    ms.and_then(rfc3339).map_or_else(|| "ever".to_owned(), |text| String::from_utf8_lossy(&text).into_owned())
}
