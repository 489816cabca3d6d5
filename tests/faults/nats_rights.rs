//! Users and rights on three NATS servers that change by reload.

use std::time::Duration;

use crate::driver::{Fault, Servers, Stage, run};
use crate::evidence::{Stored, read_stream};
use crate::support::{Cluster, Registry, Settings};

const BRIDGE: &str = "bridge:secret@";
const CALLER: &str = "caller:secret@";

/// Three servers that know a user for the bridge and one for the test.
pub(crate) struct Secured(Cluster);

impl Servers for Secured {
    fn start() -> Self {
        Self(Cluster::configured(&users("secret", "", "")))
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::cluster(registry, &self.0).toml("nats.servers", &format!("{:?}", self.0.urls_of(BRIDGE)))
    }

    fn callers(&self) -> Vec<String> {
        self.0.urls_of(CALLER)
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&self.0.urls_of(CALLER))
    }
}

/// The bridge with that password, and what it may neither publish nor subscribe to.
fn users(password: &str, publish: &str, subscribe: &str) -> String {
    format!(
        "authorization {{ users: [
            {{ user: caller, password: secret }}
            {{ user: bridge, password: {password}, permissions: {{
                publish: {{ allow: \">\", deny: [{publish}] }}, subscribe: {{ allow: \">\", deny: [{subscribe}] }} }} }}
        ] }}\n"
    )
}

/// Denies it for 15 seconds.
fn deny(name: &'static str, inject: fn(&mut Stage<Secured>), sessions_stay: bool) {
    run(&Fault::<Secured> {
        name,
        lasting: Duration::from_secs(15),
        inject,
        heal: |stage| stage.servers.0.reload(&users("secret", "", "")),
        sessions_stay,
        all_answered: false,
    });
}

#[test]
fn the_right_to_publish_messages_is_taken() {
    let inject = |stage: &mut Stage<Secured>| stage.servers.0.reload(&users("secret", "\"jetlinks.device.>\"", ""));
    deny("NATS: the right to publish messages is taken by reload for 15 s", inject, false);
}

#[test]
fn the_right_to_hear_commands_is_taken() {
    let inject = |stage: &mut Stage<Secured>| stage.servers.0.reload(&users("secret", "", "\"jetlinks.command.>\""));
    deny("NATS: the right to hear commands is taken by reload for 15 s", inject, true);
}

#[test]
fn the_right_to_hear_acknowledgements_is_taken() {
    let inject = |stage: &mut Stage<Secured>| stage.servers.0.reload(&users("secret", "", "\"_INBOX.>\""));
    deny("NATS: the right to hear acknowledgements is taken by reload for 15 s", inject, false);
}

#[test]
fn the_password_is_changed() {
    let inject = |stage: &mut Stage<Secured>| stage.servers.0.reload(&users("another", "", ""));
    deny("NATS: the password is another one by reload for 15 s", inject, false);
}
