//! Devices to simulate: made up, or out of a registry file.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::protocol::auth;
use crate::registry::{Device, FileError, FileRegistry, Lookup};

/// A device's address and secret.
#[derive(Clone)]
pub struct Identity {
    /// Its product.
    pub product: String,
    /// Its id, which is its client id too.
    pub device: String,
    /// First part of its user name.
    pub secure_id: String,
    /// Secret that its password proves.
    pub secure_key: String,
}

/// Without the key, which belongs into no log.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("product", &self.product)
            .field("device", &self.device)
            .field("secure_id", &self.secure_id)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// User name and password at this time, in ms since 1970.
    pub(super) fn credentials(&self, timestamp_ms: u64) -> (String, String) {
        let username = format!("{}|{timestamp_ms}", self.secure_id);
        let password = auth::sign(&username, &self.secure_key);
        (username, String::from_utf8_lossy(&password).into_owned())
    }
}

/// Reason for which there are no devices to simulate.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// The registry file cannot be read, or has mistakes.
    #[error("{0}: not a registry that can be used")]
    Registry(PathBuf, #[source] FileError),
    /// It has fewer devices that can be simulated than asked for: found, wanted.
    #[error(
        "{0}: {2} devices wanted, but {1} are enabled, have a key and are no children; --generate {2} makes devices up, and \
         with --write-registry FILE a registry file for the bridge that knows them"
    )]
    TooFew(PathBuf, usize, usize),
    /// The registry file exists or cannot be written.
    #[error("{0}: cannot be written")]
    Write(PathBuf, #[source] io::Error),
}

/// The ids of a registry file in the order of the file, which the registry itself does not keep.
#[derive(Deserialize)]
struct Order {
    #[serde(default)]
    device: Vec<OrderEntry>,
}

#[derive(Deserialize)]
struct OrderEntry {
    id: String,
}

/// The first `count` devices of a registry file that can connect by themselves.
pub fn from_registry(path: &Path, product_secrets: bool, count: usize) -> Result<Vec<Identity>, IdentitiesError> {
    let unusable = |error| IdentitiesError::Registry(path.to_owned(), error);
    let registry = FileRegistry::open(path, product_secrets).map_err(unusable)?;
    let text = fs::read_to_string(path).map_err(|error| unusable(FileError::Io(error)))?;
    // Only a file that was replaced since it was opened is no table of devices here.
    let order = toml::from_str(&text).unwrap_or(Order { device: Vec::new() });
    let known = order.device.iter().filter_map(|entry| match registry.device(&entry.id) {
        Lookup::Found(device) => identity(&device),
        Lookup::Unknown | Lookup::Away | Lookup::Late => None,
    });
    let identities: Vec<Identity> = known.take(count).collect();
    if identities.len() < count {
        return Err(IdentitiesError::TooFew(path.to_owned(), identities.len(), count));
    }
    Ok(identities)
}

fn identity(device: &Device) -> Option<Identity> {
    let credentials = device.credentials.as_ref().filter(|_| device.enabled && device.gateway.is_none())?;
    Some(Identity {
        product: device.product.to_string(),
        device: device.id.to_string(),
        secure_id: credentials.secure_id.to_string(),
        secure_key: credentials.secure_key.expose().to_owned(),
    })
}

/// Made-up devices: `prefix1`, `prefix2`, ... with one secret for all.
pub fn generate(count: u32, product: &str, prefix: &str, secure_id: &str, secure_key: &str) -> Vec<Identity> {
    let identity = |number| Identity {
        product: product.to_owned(),
        device: format!("{prefix}{number}"),
        secure_id: secure_id.to_owned(),
        secure_key: secure_key.to_owned(),
    };
    (1..=count).map(identity).collect()
}

/// Writes a registry file with these devices, readable for its owner alone. An existing file is never overwritten.
pub fn write_registry(path: &Path, identities: &[Identity]) -> Result<(), IdentitiesError> {
    let write = || {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut out = io::BufWriter::new(file);
        for Identity { product, device, secure_id, secure_key } in identities {
            let [device, product, secure_id, secure_key] =
                [device, product, secure_id, secure_key].map(|text| toml::Value::from(text.as_str()));
            writeln!(out, "[[device]]\nid = {device}\nproduct = {product}")?;
            writeln!(out, "secure_id = {secure_id}\nsecure_key = {secure_key}\n")?;
        }
        out.flush()
    };
    write().map_err(|error| IdentitiesError::Write(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("jetlinks-bridge-identities-{}-{name}", std::process::id()));
        // A file of an earlier process with the same id; there usually is none.
        let _ = fs::remove_file(&path);
        path
    }

    fn names(identities: &[Identity]) -> Vec<&str> {
        identities.iter().map(|identity| identity.device.as_str()).collect()
    }

    #[test]
    fn generated_devices_survive_their_registry_file() {
        let path = scratch("generated");
        let devices = generate(3, "product1", "device", "te\"st", "key\\1");
        write_registry(&path, &devices).expect("the file is new");
        assert!(matches!(write_registry(&path, &devices), Err(IdentitiesError::Write(..))), "a file was overwritten");
        let read = from_registry(&path, true, 3).expect("the file was just written");
        fs::remove_file(&path).expect("the file is there");
        assert_eq!(names(&read), ["device1", "device2", "device3"]);
        assert_eq!((read[0].secure_id.as_str(), read[0].secure_key.as_str()), ("te\"st", "key\\1"));
    }

    #[test]
    fn children_and_disabled_devices_are_left_out_and_product_secrets_count() {
        let path = scratch("left-out");
        let text = r#"
            [[device]]
            id = "gw1"
            product = "product1"
            secure_id = "test"
            secure_key = "k"
            [[device]]
            id = "child1"
            product = "product1"
            gateway = "gw1"
            [[device]]
            id = "device2"
            product = "product1"
            secure_id = "test"
            secure_key = "k"
            enabled = false
            [[device]]
            id = "device1"
            product = "product2"
            [[product]]
            id = "product2"
            secure_id = "shared"
            secure_key = "k"
        "#;
        fs::write(&path, text).expect("the directory for temporary files can be written");
        let two = from_registry(&path, true, 2);
        let three = from_registry(&path, true, 3);
        fs::remove_file(&path).expect("the file is there");
        let two = two.expect("there are two");
        assert_eq!(names(&two), ["gw1", "device1"]);
        assert_eq!(two[1].secure_id, "shared");
        assert!(matches!(three, Err(IdentitiesError::TooFew(_, 2, 3))));
    }

    #[test]
    fn the_password_is_the_md5_of_user_name_and_key() {
        let identity = Identity {
            product: "product1".to_owned(),
            device: "device1".to_owned(),
            secure_id: "test".to_owned(),
            secure_key: "testtesttesttest".to_owned(),
        };
        let (username, password) = identity.credentials(1_601_196_762_389);
        assert_eq!(username, "test|1601196762389");
        // printf 'test|1601196762389|testtesttesttest' | md5sum
        assert_eq!(password, "14b2cc674b4fd35552df6b26638c0128");
        assert!(!format!("{identity:?}").contains("testtesttesttest"));
    }
}
