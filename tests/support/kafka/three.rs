//! Three brokers that share their topics.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{ATTEMPTS, Kafka, META, QUESTION, START, properties, spawn};
use crate::support::{Folder, port, wait};

/// Three brokers, each a controller as well; any two of them are enough. The test itself may do everything; the user
/// `bridge`, by SASL with the password `secret`, whatever no rule is about.
#[derive(Debug)]
pub(crate) struct KafkaThree {
    members: Vec<Kafka>,
    sasl: Vec<u16>,
}

impl KafkaThree {
    /// Starts them and waits until each answers.
    pub(crate) fn start() -> Self {
        (0..ATTEMPTS).find_map(|_| Self::attempt()).expect("three brokers start")
    }

    fn attempt() -> Option<Self> {
        let ports: Vec<[u16; 2]> = (0..3).map(|_| [port::free_port(), port::free_port()]).collect();
        let sasl: Vec<u16> = (0..3).map(|_| port::free_port()).collect();
        let voters = (1..).zip(&ports).map(|(number, ports)| format!("{number}@127.0.0.1:{}", ports[1]));
        let voters = voters.collect::<Vec<_>>().join(",");
        let members = (1..).zip(&ports).zip(&sasl).map(|((number, &own), sasl)| {
            let [plain, controller] = own;
            let folder = Folder::new(&format!("kafka-{number}"));
            folder.write("data/meta.properties", &META.replace("node.id=1", &format!("node.id={number}")));
            let text = properties(&folder.path().join("data"), own);
            // Of a property that is given twice the later one counts.
            let text = format!(
                "{text}node.id={number}\ncontroller.quorum.voters={voters}\noffsets.topic.replication.factor=3\n\
                 authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                 allow.everyone.if.no.acl.found=true\n\
                 super.users=User:ANONYMOUS\n\
                 listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT\n\
                 listener.name.sasl.sasl.enabled.mechanisms=PLAIN\n\
                 listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
                 required user_bridge=\"secret\";\n"
            );
            folder.write("server.properties", &text);
            Kafka { process: spawn(&folder), port: own[0], folder }
        });
        let mut three = Self { members: members.collect(), sasl: sasl.clone() };
        three.members.iter_mut().all(Kafka::is_ready_in_time).then_some(three)
    }

    /// A broker.
    pub(crate) fn member(&self, number: usize) -> &Kafka {
        &self.members[number]
    }

    /// A broker, to be ended or started.
    pub(crate) fn member_mut(&mut self, number: usize) -> &mut Kafka {
        &mut self.members[number]
    }

    /// Where the bridge connects as its user.
    pub(crate) fn sasl(&self) -> String {
        self.sasl.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Where clients connect.
    pub(crate) fn brokers(&self) -> String {
        self.members.iter().map(Kafka::brokers).collect::<Vec<_>>().join(",")
    }

    /// Creates a topic of which each broker has a copy.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(3));
        self.members[0].create(&settings.iter().fold(new, |new, (name, value)| new.set(name, value)));
    }

    /// Deletes a topic, and waits until it is gone.
    pub(crate) fn delete_topic(&self, topic: &str) {
        let admin = self.admin();
        let deleted = wait_for(admin.delete_topics(&[topic], &AdminOptions::new()));
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        wait::eventually("the topic is gone", START, || {
            let metadata = admin.inner().fetch_metadata(None, QUESTION).ok()?;
            metadata.topics().iter().all(|left| left.name() != topic).then_some(())
        });
    }

    /// Gives a topic so many partitions.
    pub(crate) fn add_partitions(&self, topic: &str, count: usize) {
        let added = wait_for(self.admin().create_partitions(&[NewPartitions::new(topic, count)], &AdminOptions::new()));
        assert!(added.iter().all(Result::is_ok), "{added:?}");
    }

    /// The broker that leads the first partition of a topic.
    pub(crate) fn leader(&self, topic: &str) -> usize {
        wait::eventually("the topic has a leader", START, || {
            let consumer: BaseConsumer = self.client().create().expect("the client's settings are right");
            let metadata = consumer.fetch_metadata(Some(topic), QUESTION).ok()?;
            let leader = metadata.topics().first()?.partitions().first()?.leader();
            usize::try_from(leader - 1).ok()
        })
    }

    /// Waits until every partition of a topic has all its copies in sync.
    pub(crate) fn wait_in_sync(&self, topic: &str) {
        wait::eventually("all copies are in sync", START, || {
            let consumer: BaseConsumer = self.client().create().expect("the client's settings are right");
            let metadata = consumer.fetch_metadata(Some(topic), QUESTION).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            (!partitions.is_empty() && partitions.iter().all(|partition| partition.isr().len() == 3)).then_some(())
        });
    }

    /// Settings of a client.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = self.members[0].client();
        config.set("bootstrap.servers", self.brokers());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("the client's settings are right")
    }
}

fn wait_for<T>(answer: impl Future<Output = rdkafka::error::KafkaResult<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let answer = async { tokio::time::timeout(Duration::from_secs(30), answer).await };
    runtime.block_on(answer).expect("the brokers answer in time").expect("the brokers answer")
}
