//! Three brokers that share their topics.

use std::fs;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;
use serde_json::Value;

use super::{ATTEMPTS, Kafka, META, QUESTION, START, properties, spawn};
use crate::support::{Folder, Link, port, wait};

/// Three brokers, each a controller as well; any two of them are enough. The test itself may do everything; the user
/// `bridge`, by SASL with the password `secret`, whatever no rule is about. Clients may connect by links, one to each
/// broker, which share what they carry.
pub(crate) struct KafkaThree {
    members: Vec<Kafka>,
    sasl: Vec<u16>,
    links: Vec<Link>,
}

impl KafkaThree {
    /// Starts them and waits until each answers.
    pub(crate) fn start() -> Self {
        (0..ATTEMPTS).find_map(|_| Self::attempt()).expect("three brokers start")
    }

    fn attempt() -> Option<Self> {
        let ports: Vec<[u16; 2]> = (0..3).map(|_| [port::free_port(), port::free_port()]).collect();
        let [sasl, far] = [0; 2].map(|_| (0..3).map(|_| port::free_port()).collect::<Vec<u16>>());
        let links = Link::to_each(&far.iter().map(|far| ([127, 0, 0, 1], *far).into()).collect::<Vec<_>>());
        let voters = (1..).zip(&ports).map(|(number, ports)| format!("{number}@127.0.0.1:{}", ports[1]));
        let voters = voters.collect::<Vec<_>>().join(",");
        let members = (1..).zip(&ports).zip(sasl.iter().zip(&far).zip(&links)).map(|((number, &own), given)| {
            let ([plain, controller], ((sasl, far), link)) = (own, given);
            let near = link.address();
            let folder = Folder::new(&format!("kafka-{number}"));
            folder.write("data/meta.properties", &META.replace("node.id=1", &format!("node.id={number}")));
            let text = properties(&folder.path().join("data"), own);
            // Of a property that is given twice the later one counts.
            let text = format!(
                "{text}node.id={number}\ncontroller.quorum.voters={voters}\noffsets.topic.replication.factor=3\n\
                 authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                 allow.everyone.if.no.acl.found=true\n\
                 super.users=User:ANONYMOUS\n\
                 listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl},\
                 LINK://127.0.0.1:{far}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},LINK://{near}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,\
                 LINK:PLAINTEXT\n\
                 listener.name.sasl.sasl.enabled.mechanisms=PLAIN\n\
                 listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
                 required user_bridge=\"secret\";\n"
            );
            folder.write("server.properties", &text);
            Kafka { process: spawn(&folder), port: own[0], folder }
        });
        let mut three = Self { members: members.collect(), sasl: sasl.clone(), links };
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

    /// Where the bridge connects by the links.
    pub(crate) fn linked(&self) -> String {
        self.links.iter().map(|link| link.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// The links, one to each broker.
    pub(crate) fn links(&self) -> &[Link] {
        &self.links
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

    /// Deletes topics, and waits until they are gone.
    pub(crate) fn delete_topics(&self, topics: &[&str]) {
        let admin = self.admin();
        let deleted = wait_for(admin.delete_topics(topics, &AdminOptions::new()));
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        wait::eventually("the topics are gone", START, || {
            let metadata = admin.inner().fetch_metadata(None, QUESTION).ok()?;
            metadata.topics().iter().all(|left| !topics.contains(&left.name())).then_some(())
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

    /// The controller that is active, as the others than `except` know it; `None` while none is elected.
    pub(crate) fn controller(&self, except: Option<usize>) -> Option<usize> {
        let told =
            self.members.iter().enumerate().filter(|(number, _)| Some(*number) != except).filter_map(|(_, it)| {
                let state = fs::read(it.folder.path().join("data/__cluster_metadata-0/quorum-state")).ok()?;
                let state: Value = serde_json::from_slice(&state).ok()?;
                Some((state["leaderEpoch"].as_i64()?, state["leaderId"].as_u64()))
            });
        let (_, leader) = told.max_by_key(|(epoch, _)| *epoch)?;
        usize::try_from(leader?.checked_sub(1)?).ok()
    }

    /// Waits until all three serve, and each has a copy in sync of every partition of every topic.
    pub(crate) fn wait_whole(&self) {
        let is_whole = |broker: &Kafka| {
            let consumer: BaseConsumer = broker.client().create().expect("the client's settings are right");
            let metadata = consumer.fetch_metadata(None, QUESTION).ok()?;
            let mut partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            (metadata.brokers().len() == 3 && partitions.all(|it| it.isr().len() == 3)).then_some(())
        };
        wait::eventually("all copies are in sync", START, || self.members.iter().try_for_each(is_whole));
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
    let answer = async { tokio::time::timeout(START, answer).await };
    runtime.block_on(answer).expect("the brokers answer in time").expect("the brokers answer")
}
