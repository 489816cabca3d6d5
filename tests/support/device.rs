//! A device on a client library that we did not write.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use super::Registration;

/// How long the bridge may take to let a device in.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reaction of a device to a command: the members of its reply, or nothing at all.
pub(crate) type Behaviour = fn(topic: &str, command: &Value) -> Option<Value>;

/// A connected device that answers commands, in a thread of its own. Dropped, it disconnects.
pub(crate) struct Device {
    client: Client,
    topics: Receiver<String>,
}

impl Device {
    /// Connects; `behaviour` decides about each command.
    ///
    /// # Panics
    /// When the bridge does not let it in.
    pub(crate) fn connect(address: SocketAddr, registration: &Registration, behaviour: Behaviour) -> Self {
        let mut options = MqttOptions::new(&registration.id, address.ip().to_string(), address.port());
        let credentials = registration.credentials();
        options.set_credentials(credentials.username, credentials.password).set_keep_alive(Duration::from_secs(30));
        let (client, mut connection) = Client::new(options, 64);
        let answering = client.clone();
        let (accepted, is_accepted) = mpsc::channel();
        let (arrived, topics) = mpsc::channel();
        thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => drop(accepted.send(())),
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        drop(arrived.send(publish.topic.clone()));
                        let command = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
                        if let Some(reply) = behaviour(&publish.topic, &command) {
                            let reply = with_message_id(reply, &command).to_string();
                            let topic = format!("{}/reply", publish.topic);
                            drop(answering.try_publish(topic, QoS::AtLeastOnce, false, reply));
                        }
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        });
        is_accepted.recv_timeout(PATIENCE).expect("the bridge lets the device in");
        Self { client, topics }
    }

    /// Publishes at QoS 1.
    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).expect("the device runs");
    }

    /// The topic of the next command.
    ///
    /// # Panics
    /// When none comes in time.
    pub(crate) fn next_command(&self) -> String {
        self.topics.recv_timeout(PATIENCE).expect("a command comes")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(self.client.try_disconnect());
    }
}

fn with_message_id(mut reply: Value, command: &Value) -> Value {
    reply["messageId"] = command["messageId"].clone();
    reply
}
