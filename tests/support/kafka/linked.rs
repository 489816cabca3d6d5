//! A broker at the far end of a link.

use super::{ATTEMPTS, Kafka, META, properties};
use crate::support::{Folder, Link, port};

/// A broker that clients of the link reach through it alone; the test itself reaches it directly.
pub(crate) struct LinkedKafka {
    kafka: Kafka,
    link: Link,
}

impl LinkedKafka {
    /// Starts a broker behind a link that carries so many bytes a second towards it.
    pub(crate) fn start(bytes_per_second: u32) -> Self {
        let started = (0..ATTEMPTS).find_map(|_| {
            let (folder, own, far) = (Folder::new("kafka"), [port::free_port(), port::free_port()], port::free_port());
            let link = Link::slow(([127, 0, 0, 1], far).into(), bytes_per_second);
            folder.write("data/meta.properties", META);
            // Of a property that is given twice the later one counts.
            let linked = format!(
                "listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{},LINK://127.0.0.1:{far}
advertised.listeners=PLAINTEXT://127.0.0.1:{},LINK://{}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LINK:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
",
                own[0],
                own[1],
                own[0],
                link.address()
            );
            folder.write("server.properties", &(properties(&folder.path().join("data"), own) + &linked));
            Some(Self { kafka: Kafka::attempt(folder, own[0])?, link })
        });
        started.expect("Kafka starts")
    }

    /// The broker as the test itself reaches it.
    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// As [`LinkedKafka::kafka`], to be ended or started.
    pub(crate) fn kafka_mut(&mut self) -> &mut Kafka {
        &mut self.kafka
    }

    /// The link in front of it.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }
}
