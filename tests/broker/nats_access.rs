//! Connections that need a password or a certificate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use jetlinks_bridge::protocol::uplink::{Availability, Inbox};
use jetlinks_bridge::queue::nats::{NatsMaterial, NatsSettings, NatsTlsSettings, NatsUplink};

use super::sessions::Sessions;
use super::support::{Folder, Nats, http, tool};
use super::worker;

/// An authority and what it signed, as `name.pem` and `name.key`.
struct Certificates {
    folder: Folder,
}

impl Certificates {
    fn make() -> Self {
        let certificates = Self { folder: Folder::new("certificates") };
        let subject = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        certificates.openssl(
            &["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"],
            &subject,
        );
        certificates.folder.write("names", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n");
        for name in ["server", "client"] {
            let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
            certificates.openssl(&["req", "-new", "-subj", "/CN=x", "-keyout", &key, "-out", &request], &subject);
            let signing = ["x509", "-req", "-days", "2", "-in", &request, "-out", &certificate, "-extfile", "names"];
            certificates.openssl(&signing, &["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]);
        }
        certificates
    }

    fn openssl(&self, arguments: &[&str], more: &[&str]) {
        let mut command = Command::new(tool::system("openssl"));
        let output = command.args(arguments).args(more).current_dir(self.folder.path()).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> NatsMaterial {
        NatsMaterial::Text(std::fs::read_to_string(self.path(name)).expect("openssl wrote it"))
    }
}

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
fn a_user_alone_is_a_token() {
    let nats = Nats::start_with(&["--auth", "bridge-token"]);
    store_one(&NatsSettings::new(vec![format!("nats://bridge-token@{}", nats.address())]));
}

#[test]
fn certificates_are_taken_from_files_and_from_texts() {
    let certificates = Certificates::make();
    let argument = |path: &Path| path.to_str().expect("a path of ASCII").to_owned();
    let (cert, key, ca) =
        (certificates.path("server.pem"), certificates.path("server.key"), certificates.path("ca.pem"));
    let (cert, key, ca) = (argument(&cert), argument(&key), argument(&ca));
    let nats = Nats::start_with(&["--tlsverify", "--tlscert", &cert, "--tlskey", &key, "--tlscacert", &ca]);
    let mut settings = NatsSettings::new(vec![nats.url()]);
    let file = |name: &str| Some(NatsMaterial::File(certificates.path(name)));
    settings.tls =
        NatsTlsSettings { ca: file("ca.pem"), certificate: file("client.pem"), private_key: file("client.key") };
    store_one(&settings);
    settings.tls = NatsTlsSettings {
        ca: Some(certificates.text("ca.pem")),
        certificate: Some(certificates.text("client.pem")),
        private_key: Some(certificates.text("client.key")),
    };
    store_one(&settings);
}
