//! Two brokers, of which one may stand still.

use rdkafka::admin::{NewTopic, TopicReplication};

use super::{ATTEMPTS, Kafka, META, properties};
use crate::support::{Folder, Process, port};

/// Two brokers; the first one is the controller.
#[derive(Debug)]
pub(crate) struct KafkaPair {
    first: Kafka,
    second: Kafka,
}

impl KafkaPair {
    /// Starts both and waits until they answer.
    pub(crate) fn start() -> Self {
        (0..ATTEMPTS).find_map(|_| Self::attempt()).expect("two brokers start")
    }

    fn attempt() -> Option<Self> {
        let folders = ["kafka-1", "kafka-2"].map(Folder::new);
        let (own, other) = ([port::free_port(), port::free_port()], port::free_port());
        for (number, folder) in (1..).zip(&folders) {
            folder.write("data/meta.properties", &META.replace("node.id=1", &format!("node.id={number}")));
            let mut text = properties(&folder.path().join("data"), own);
            if number == 2 {
                // Of a property that is given twice the later one counts.
                text.push_str(&format!(
                    "process.roles=broker\nnode.id=2\nlisteners=PLAINTEXT://127.0.0.1:{other}\n\
                     listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
                ));
            }
            folder.write("server.properties", &text);
        }
        let [first, second] = folders;
        Some(Self { first: Kafka::attempt(first, own[0])?, second: Kafka::attempt(second, other)? })
    }

    /// Creates a topic of which each broker leads one of two partitions and has a copy of the other one.
    pub(crate) fn create_topic(&self, topic: &str) {
        self.first.create(&NewTopic::new(topic, 2, TopicReplication::Variable(&[&[1, 2], &[2, 1]])));
    }

    /// The first broker.
    pub(crate) fn first(&self) -> &Kafka {
        &self.first
    }

    /// The process of the second broker.
    pub(crate) fn second(&self) -> &Process {
        self.second.process()
    }

    /// Where clients connect.
    pub(crate) fn brokers(&self) -> String {
        format!("{},{}", self.first.brokers(), self.second.brokers())
    }
}
