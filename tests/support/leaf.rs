//! A NATS server, and another one below it that is connected as a leaf node.

use std::time::Duration;

use super::{Nats, eventually, http, port};

/// How long the leaf may take to find the hub.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both servers; the hub keeps streams in the domain `hub`.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// The server above.
    pub(crate) hub: Nats,
    /// The server below.
    pub(crate) leaf: Nats,
}

impl Leaf {
    /// A leaf that keeps streams of its own, in the domain `leaf`.
    pub(crate) fn with_jetstream() -> Self {
        Self::start(|remote| Nats::configured(&format!("server_name: leaf\njetstream {{ domain: leaf }}\n{remote}")))
    }

    /// A leaf that keeps no streams.
    pub(crate) fn without_jetstream() -> Self {
        Self::start(|remote| Nats::without_jetstream(&format!("server_name: leaf\n{remote}")))
    }

    fn start(leaf: impl Fn(&str) -> Nats) -> Self {
        let port = port::free_port();
        let listen = format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}\n");
        let hub = Nats::configured(&format!("server_name: hub\njetstream {{ domain: hub }}\n{listen}"));
        let remote = format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{port}\" }} ] }}\n");
        let leaf = leaf(&remote);
        eventually("the leaf is connected", PATIENCE, || {
            let page = http::get(hub.monitoring(), "/leafz").ok()?.body;
            let page: serde_json::Value = serde_json::from_str(&page).ok()?;
            (page["leafnodes"].as_u64()? > 0).then_some(())
        });
        Self { hub, leaf }
    }
}
