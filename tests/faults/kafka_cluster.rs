//! The three brokers of Kafka that all rows share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use crate::driver::Servers;
use crate::evidence::{Stored, read_topic};
use crate::support::{KafkaThree, Nats, Registry, Settings, eventually};

/// Partitions of the topic of a row.
pub(crate) const PARTITIONS: i32 = 4;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Of three copies two are enough; the time of a record is that of the broker.
pub(crate) const SETTINGS: [(&str, &str); 2] =
    [("min.insync.replicas", "2"), ("message.timestamp.type", "LogAppendTime")];

/// The cluster, from the first row of Kafka to the end of the run.
static CLUSTER: Mutex<Option<KafkaThree>> = Mutex::new(None);

/// Statics are not dropped at the end, and only what is dropped removes its folders.
extern "C" fn end_cluster() {
    drop(CLUSTER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// The cluster, for one row alone.
pub(crate) struct Shared(MutexGuard<'static, Option<KafkaThree>>);

impl Shared {
    fn lock() -> Self {
        static FIRST: Once = Once::new();
        // SAFETY: the function takes nothing, returns nothing, and no test holds the lock when the process ends.
        FIRST.call_once(|| assert_eq!(unsafe { libc::atexit(end_cluster) }, 0, "the end is heard of"));
        let mut cluster = CLUSTER.lock().unwrap_or_else(|poisoned| {
            CLUSTER.clear_poison();
            poisoned.into_inner()
        });
        cluster.get_or_insert_with(KafkaThree::start);
        Self(cluster)
    }

    /// To look at.
    pub(crate) fn get(&self) -> &KafkaThree {
        self.0.as_ref().expect("it was started with the lock")
    }

    /// To change.
    pub(crate) fn get_mut(&mut self) -> &mut KafkaThree {
        self.0.as_mut().expect("it was started with the lock")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody knows what a row left that failed: its brokers end here, show the ends of their logs and leave their folders.
        if thread::panicking() {
            drop(self.0.take());
        }
    }
}

/// Three brokers for messages, with topics of the row's own, and a NATS server for commands, to which nothing happens.
pub(crate) struct Three {
    /// The brokers.
    pub(crate) kafka: Shared,
    /// The topic of what devices send.
    pub(crate) topic: String,
    rejected: String,
    nats: Nats,
    /// The broker that the fault happens to.
    concerned: usize,
}

impl Servers for Three {
    fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let row = NEXT.fetch_add(1, Ordering::Relaxed);
        let [topic, rejected] = ["device", "rejected"].map(|name| format!("row{row}.{name}"));
        let (kafka, nats) = (Shared::lock(), Nats::start());
        for topic in [&topic, &rejected] {
            kafka.get().create_topic(topic, PARTITIONS, &SETTINGS);
        }
        Self { kafka, topic, rejected, nats, concerned: 0 }
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::nats(registry, &self.nats)
            .text("uplink.queue", "kafka")
            .text("kafka.brokers", &self.kafka.get().brokers())
            .text("kafka.uplink_topic", &self.topic)
            .text("kafka.rejected_topic", &self.rejected)
    }

    fn callers(&self) -> Vec<String> {
        vec![self.nats.url()]
    }

    fn read(&self) -> Vec<Stored> {
        read_topic(&self.kafka.get().client(), &self.topic)
    }
}

impl Three {
    /// Remembers the broker that leads the first partition.
    pub(crate) fn concern_leader(&mut self) {
        self.concerned = self.kafka.get().leader(&self.topic);
    }

    /// Remembers the broker that is the active controller.
    pub(crate) fn concern_controller(&mut self) {
        self.concerned = eventually("a controller is active", PATIENCE, || self.kafka.get().controller(None));
    }

    /// Waits until another broker is the active controller.
    pub(crate) fn wait_for_another_controller(&self) {
        eventually("another controller is active", PATIENCE, || {
            self.kafka.get().controller(Some(self.concerned)).filter(|active| *active != self.concerned)
        });
    }

    /// Gives the topic a setting beside those of every row.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let settings: Vec<(&str, &str)> = SETTINGS.into_iter().filter(|(set, _)| *set != name).collect();
        self.kafka.get().member(0).set_topic_to(&self.topic, &[&settings[..], &[(name, value)]].concat());
    }

    /// Kills the broker concerned.
    pub(crate) fn kill_concerned(&mut self) {
        self.kafka.get_mut().member_mut(self.concerned).kill9();
    }

    /// Lets writes to files of the broker concerned fail, and waits until it has ended by that.
    pub(crate) fn fill_disk_of_concerned(&mut self) {
        let broker = self.kafka.get_mut().member_mut(self.concerned);
        broker.process().limit_file_bytes(0);
        broker.wait_ended();
    }

    /// Sends a signal to the broker concerned.
    pub(crate) fn signal_concerned(&self, signal: i32) {
        self.kafka.get().member(self.concerned).process().signal(signal);
    }

    /// Starts the broker concerned again.
    pub(crate) fn restart_concerned(&mut self) {
        self.kafka.get_mut().member_mut(self.concerned).restart();
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.kafka.get().delete_topics(&[&self.topic, &self.rejected]);
            // What a row breaks it repairs.
            self.kafka.get().wait_whole();
        }
    }
}
