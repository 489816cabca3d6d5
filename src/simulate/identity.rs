//! Who a simulated device is.

use md5::{Digest, Md5};

/// A device's address and secret.
#[derive(Clone)]
pub struct Identity {
    /// Its product.
    pub product: String,
    /// Its id, which is its client id too.
    pub device: String,
    /// First part of its user name.
    pub secure_id: String,
    /// What its password proves.
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
        let digest = Md5::new().chain_update(&username).chain_update("|").chain_update(&self.secure_key).finalize();
        let password = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (username, password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
