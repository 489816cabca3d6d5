//! Connections that need a password or a certificate.

use std::fs;
use std::sync::Arc;

use jetlinks_bridge::protocol::uplink::{Availability, Inbox};
use jetlinks_bridge::queue::nats::{NatsMaterial, NatsSettings, NatsTlsSettings, NatsUplink};

use super::sessions::Sessions;
use super::support::{Authority, Nats, http};
use super::worker;

fn store_one(settings: &NatsSettings) {
    worker::run(async {
        let inbox = Arc::new(Inbox::new());
        let mut uplink = NatsUplink::start(settings, Arc::clone(&inbox), Arc::default()).expect("right settings");
        Sessions::new(inbox, 1, 1).send_until_stored(&mut uplink, 1).await;
    });
}

/// Connections that the server has seen, refused ones included.
fn connections(nats: &Nats) -> u64 {
    let page = http::get(nats.monitoring(), "/varz").expect("the server has its pages").body;
    let page: serde_json::Value = serde_json::from_str(&page).expect("the page is JSON");
    page["total_connections"].as_u64().expect("the page counts connections")
}

#[test]
fn user_and_password_of_the_url_are_used_and_wrong_ones_keep_the_queue_starting() {
    let nats = Nats::start_with(&["--user", "bridge", "--pass", "right@%"]);
    let url = |password: &str| format!("nats://bridge:{password}@{}", nats.address());
    store_one(&NatsSettings::new(vec![url("right%40%25")]));
    worker::run(async {
        let inbox = Arc::new(Inbox::new());
        let settings = NatsSettings::new(vec![url("wrong")]);
        let _uplink = NatsUplink::start(&settings, Arc::clone(&inbox), Arc::default()).expect("right settings");
        let refused = async {
            while connections(&nats) < 4 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(worker::PATIENCE, refused).await.expect("the bridge goes on trying");
        assert_eq!(inbox.availability(), Availability::Starting);
    });
}

#[test]
fn a_user_without_a_password_is_sent_as_a_token() {
    let nats = Nats::start_with(&["--auth", "bridge-token"]);
    store_one(&NatsSettings::new(vec![format!("nats://bridge-token@{}", nats.address())]));
}

#[test]
fn certificates_are_taken_from_files_and_from_texts() {
    let authority = Authority::new();
    ["server", "client"].iter().for_each(|name| authority.issue(name));
    let (cert, key, ca) = (authority.path("server.pem"), authority.path("server.key"), authority.path("ca.pem"));
    let nats = Nats::start_with(&["--tlsverify", "--tlscert", &cert, "--tlskey", &key, "--tlscacert", &ca]);
    let mut settings = NatsSettings::new(vec![nats.url()]);
    let file = |name: &str| Some(NatsMaterial::File(authority.file(name)));
    settings.tls =
        NatsTlsSettings { ca: file("ca.pem"), certificate: file("client.pem"), private_key: file("client.key") };
    store_one(&settings);
    let text = |name: &str| Some(NatsMaterial::Text(fs::read_to_string(authority.file(name)).expect("it was issued")));
    settings.tls =
        NatsTlsSettings { ca: text("ca.pem"), certificate: text("client.pem"), private_key: text("client.key") };
    store_one(&settings);
}
