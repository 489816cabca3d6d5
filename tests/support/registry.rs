//! Devices that the bridge shall know.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};

use super::Folder;

/// A device as the registry describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    /// Its product.
    pub(crate) product: String,
    /// Its id, also its client id.
    pub(crate) id: String,
    /// First part of its user name; empty for a child, which never connects.
    pub(crate) secure_id: String,
    /// Its secret.
    pub(crate) secure_key: String,
    /// Whether it may connect.
    pub(crate) enabled: bool,
    /// The gateway that speaks for it.
    pub(crate) gateway: Option<String>,
}

/// User name and password of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// `secureId|timestamp`.
    pub(crate) username: String,
    /// md5 of `secureId|timestamp|secureKey`, lower-case hex.
    pub(crate) password: String,
}

impl Registration {
    /// A device of product1 with secrets made from its id.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            product: "product1".to_owned(),
            id: id.to_owned(),
            secure_id: format!("id-of-{id}"),
            secure_key: format!("key-of-{id}"),
            enabled: true,
            gateway: None,
        }
    }

    /// A child of product1 that the registry binds to `gateway`.
    pub(crate) fn child(id: &str, gateway: &str) -> Self {
        let no_secret = || String::new();
        let gateway = Some(gateway.to_owned());
        Self { secure_id: no_secret(), secure_key: no_secret(), gateway, ..Self::new(id) }
    }

    /// The same, not allowed to connect.
    pub(crate) fn disabled(self) -> Self {
        Self { enabled: false, ..self }
    }

    /// The topic with that suffix, such as `properties/report`.
    pub(crate) fn topic(&self, suffix: &str) -> String {
        format!("/{}/{}/{suffix}", self.product, self.id)
    }

    /// Credentials that are good at this moment.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials_at(now_ms())
    }

    /// Credentials with that timestamp, ms since 1970.
    pub(crate) fn credentials_at(&self, timestamp_ms: i64) -> Credentials {
        let username = format!("{}|{timestamp_ms}", self.secure_id);
        let password = md5_hex(&format!("{username}|{}", self.secure_key));
        Credentials { username, password }
    }
}

/// A registry file that the bridge watches; a change is there whole or not at all.
#[derive(Debug)]
pub(crate) struct Registry {
    folder: Folder,
}

impl Registry {
    /// Writes the file.
    pub(crate) fn new(devices: &[Registration]) -> Self {
        let registry = Self { folder: Folder::new("registry") };
        registry.rewrite(devices);
        registry
    }

    /// A file of device1 to device`count`, and those devices.
    pub(crate) fn numbered(count: usize) -> (Self, Vec<Registration>) {
        let devices: Vec<_> = (1..=count).map(|number| Registration::new(&format!("device{number}"))).collect();
        (Self::new(&devices), devices)
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("devices.toml")
    }

    /// Puts other devices in the place of all former ones.
    pub(crate) fn rewrite(&self, devices: &[Registration]) {
        let written = self.folder.write("devices.toml.part", &render(devices));
        fs::rename(written, self.path()).expect("the folder takes files");
    }

    /// The folder of the file.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn render(devices: &[Registration]) -> String {
    if devices.is_empty() {
        return "device = []\n".to_owned();
    }
    devices.iter().fold(String::new(), |mut file, device| {
        let Registration { product, id, secure_id, secure_key, enabled, gateway } = device;
        let _ = write!(file, "[[device]]\nid = {id:?}\nproduct = {product:?}\nenabled = {enabled}\n");
        match gateway {
            Some(gateway) => drop(writeln!(file, "gateway = {gateway:?}")),
            None => drop(write!(file, "secure_id = {secure_id:?}\nsecure_key = {secure_key:?}\n")),
        }
        file
    })
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("64 bits hold the time of day")
}

/// md5 in lower-case hex.
pub(crate) fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
