//! A Kafka broker of its own for a test.

mod linked;
mod pair;
mod secured;
mod spoilt;
mod three;

pub(crate) use linked::LinkedKafka;
pub(crate) use pair::KafkaPair;
pub(crate) use secured::SecuredKafka;
pub(crate) use spoilt::Spoilt;
pub(crate) use three::KafkaThree;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Folder, Process, port, tool, wait};

/// How long a start may take. It takes two seconds on an idle machine, five after a crash.
const START: Duration = Duration::from_secs(60);

/// How often other ports are tried when somebody else was faster.
const ATTEMPTS: usize = 5;

/// How long one question to the broker may take.
const QUESTION: Duration = Duration::from_secs(2);

/// Any cluster id does, as long as it is well formed; one given beforehand saves the step that formats the folder.
const META: &str = "version=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qk\nnode.id=1\n";

/// One broker that is its own controller, on loopback; ended when dropped. Topics are not created by being used.
#[derive(Debug)]
pub(crate) struct Kafka {
    process: Process,
    port: u16,
    folder: Folder,
}

impl Kafka {
    /// Starts a broker and waits until it answers.
    pub(crate) fn start() -> Self {
        let attempts = 0..ATTEMPTS;
        let started = attempts.into_iter().find_map(|_| {
            let folder = Folder::new("kafka");
            folder.write("data/meta.properties", META);
            let ports = [port::free_port(), port::free_port()];
            folder.write("server.properties", &properties(&folder.path().join("data"), ports));
            Self::attempt(folder, ports[0])
        });
        started.expect("Kafka starts")
    }

    /// Starts the broker that the folder describes; `None` when it ends, as it does when a port is taken.
    fn attempt(folder: Folder, port: u16) -> Option<Self> {
        let mut kafka = Self { process: spawn(&folder), port, folder };
        kafka.is_ready_in_time().then_some(kafka)
    }

    /// As [`Kafka::start`], with these topics of that many partitions.
    pub(crate) fn start_with_topics(topics: &[&str], partitions: i32) -> Self {
        let kafka = Self::start();
        for topic in topics {
            kafka.create_topic(topic, partitions);
        }
        kafka
    }

    /// Where clients connect, as `host:port`.
    pub(crate) fn brokers(&self) -> String {
        self.address().to_string()
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The broker's process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Creates a topic and waits until clients can see it.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        self.create(&NewTopic::new(topic, partitions, TopicReplication::Fixed(1)));
    }

    /// As [`Kafka::create_topic`], with settings of the topic.
    pub(crate) fn create_topic_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        self.create(&settings.iter().fold(new, |new, (name, value)| new.set(name, value)));
    }

    /// Creates a topic as described and waits until it has leaders.
    pub(crate) fn create(&self, new: &NewTopic<'_>) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("the client's settings are right");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let topic = new.name;
        let options = AdminOptions::new().operation_timeout(Some(START)).request_timeout(Some(START));
        let created = runtime.block_on(admin.create_topics([new], &options)).expect("the broker answers");
        for result in created {
            if let Err((topic, error)) = result {
                panic!("topic {topic} is not created: {error}");
            }
        }
        wait::eventually("the topic has leaders", START, || {
            let metadata = admin.inner().fetch_metadata(Some(topic), QUESTION).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            (!partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0)).then_some(())
        });
    }

    /// Changes a setting of a topic; all others get their defaults.
    pub(crate) fn set_topic(&self, topic: &str, name: &str, value: &str) {
        self.set_topic_to(topic, &[(name, value)]);
    }

    /// Gives a topic these settings, and all others their defaults.
    pub(crate) fn set_topic_to(&self, topic: &str, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("the client's settings are right");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let change = settings.iter().fold(change, |change, (name, value)| change.set(name, value));
        let changed = runtime.block_on(admin.alter_configs([&change], &AdminOptions::new()));
        for result in changed.expect("the broker answers") {
            result.unwrap_or_else(|(_, error)| panic!("topic {topic} does not get {settings:?}: {error}"));
        }
    }

    /// Grants or denies what a call of `kafka-acls.sh` with these arguments does.
    ///
    /// # Panics
    /// When the command line does not take them.
    pub(crate) fn run_acls(&self, arguments: &[&str]) {
        let mut command = java();
        command.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &self.brokers()]);
        assert_success(&command.args(arguments).output().expect("java starts"));
    }

    /// Lets the broker end.
    pub(crate) fn stop(&mut self) {
        self.process.stop(START);
    }

    /// Kills the broker as a crash would. Its port and its data stay reserved for [`Kafka::restart`].
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Waits until the broker has ended by itself.
    pub(crate) fn wait_ended(&mut self) {
        self.process.wait(START);
    }

    /// Starts the broker again on the same port and data, and waits until it answers; a running one is killed first.
    pub(crate) fn restart(&mut self) {
        self.process.kill9();
        self.process = spawn(&self.folder);
        assert!(self.is_ready_in_time(), "Kafka does not start again");
    }

    /// Settings of a client of this broker.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("broker.address.family", "v4");
        config
    }

    /// Runs kcat against this broker with these arguments to its end.
    pub(crate) fn run_kcat(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(tool::system("kcat"));
        command.arg("-b").arg(self.brokers()).args(arguments);
        command.output().expect("kcat starts")
    }

    /// Whether the broker is ready by the deadline; false at once when it ended, as it does when a port is taken.
    fn is_ready_in_time(&mut self) -> bool {
        let address = self.address();
        let client = self.client();
        let process = &mut self.process;
        let listens = wait::within(START, || match process.ended() {
            Some(_) => Some(false),
            None => port::is_open(address).then_some(true),
        });
        // After a crash the port is open before the controller lets the broker serve again.
        listens == Some(true) && wait::within(START, || is_served(&client)).is_some()
    }
}

fn is_served(client: &ClientConfig) -> Option<()> {
    let consumer: BaseConsumer = client.create().expect("the client's settings are right");
    let metadata = consumer.fetch_metadata(None, QUESTION).ok()?;
    let has_leaders = |topic: &rdkafka::metadata::MetadataTopic| topic.partitions().iter().all(|p| p.leader() >= 0);
    (!metadata.brokers().is_empty() && metadata.topics().iter().all(has_leaders)).then_some(())
}

fn spawn(folder: &Folder) -> Process {
    let mut command = java();
    command.arg("kafka.Kafka").arg(folder.path().join("server.properties"));
    Process::start(&mut command, &folder.path().join("server.log"))
}

/// A call of a class of Kafka, to be named by the caller.
fn java() -> Command {
    let libraries = tool::installed("kafka/libs").join("*");
    let logging = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kafka/log4j2.properties");
    let mut command = Command::new(tool::system("java"));
    // A small heap and the quick compiler alone: a test ends before the other one pays.
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display())).arg("-cp").arg(libraries);
    command
}

fn assert_success(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn properties(data: &Path, [port, controller_port]: [u16; 2]) -> String {
    let data = fs::canonicalize(data).expect("the folder was made");
    let data = data.display();
    // Session and heartbeat: a broker that was killed is let in again after two seconds instead of nine.
    // Cleaner: its default buffer does not fit into the heap.
    // Retention: records have the times that tests give them, long ago, and a broker first looks for old ones after 30 s.
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
log.dirs={data}
log.retention.ms=-1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
log.cleaner.dedupe.buffer.size=2097152
log.cleaner.threads=1
"
    )
}
