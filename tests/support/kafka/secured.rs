//! A broker that lets in only whoever proves who he is, and lets him do only what he was granted.

use super::{Kafka, assert_success, java, properties};
use crate::support::{Authority, Folder, port};

/// A broker with a listener for each way to authenticate, beside one in plain text for the test itself, which may do
/// everything. Whoever comes to another one may do nothing until it was granted.
#[derive(Debug)]
pub(crate) struct SecuredKafka {
    kafka: Kafka,
    ports: [u16; 3],
}

impl SecuredKafka {
    /// Starts a broker whose certificate the authority signs; `user` has that password over SASL/PLAIN and
    /// SCRAM-SHA-512.
    pub(crate) fn start(authority: &Authority, user: &str, password: &str) -> Self {
        authority.issue("broker");
        let started = (0..super::ATTEMPTS).find_map(|_| {
            let folder = Folder::new("kafka");
            let data = folder.path().join("data");
            std::fs::create_dir_all(&data).expect("the folder takes folders");
            let own = [port::free_port(), port::free_port()];
            let ports = [port::free_port(), port::free_port(), port::free_port()];
            let secured = secured(authority, user, password, own, ports);
            let file = folder.write("server.properties", &(properties(&data, own) + &secured));
            let mut format = java();
            format.args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c"]).arg(file);
            format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={user},password={password}]")]);
            assert_success(&format.output().expect("java starts"));
            Some(Self { kafka: Kafka::attempt(folder, own[0])?, ports })
        });
        started.expect("Kafka starts")
    }

    /// The broker as the test itself reaches it.
    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Where SASL/PLAIN without TLS is asked for.
    pub(crate) fn sasl(&self) -> String {
        self.at(0)
    }

    /// Where a certificate is asked for.
    pub(crate) fn tls(&self) -> String {
        self.at(1)
    }

    /// Where SCRAM-SHA-512 below TLS is asked for.
    pub(crate) fn sasl_tls(&self) -> String {
        self.at(2)
    }

    /// Grants what a call of `kafka-acls.sh` with these arguments grants.
    ///
    /// # Panics
    /// When the command line does not take them.
    pub(crate) fn run_acls(&self, arguments: &[&str]) {
        self.kafka.run_acls(arguments);
    }

    fn at(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.ports[number])
    }
}

/// Behind the properties of every broker: of a property that is given twice the later one counts.
fn secured(authority: &Authority, user: &str, password: &str, own: [u16; 2], ports: [u16; 3]) -> String {
    let [plain, controller] = own;
    let [sasl, tls, sasl_tls] = ports;
    let (server, ca) = (authority.path("broker.both.pem"), authority.path("ca.pem"));
    let module = "org.apache.kafka.common.security";
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl},\
         SSL://127.0.0.1:{tls},SASLSSL://127.0.0.1:{sasl_tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,SSL:SSL,SASLSSL:SASL_SSL
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{user}=\"{password}\";
listener.name.saslssl.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.saslssl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.ssl.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"
    )
}
