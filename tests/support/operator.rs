//! An operator of NATS, as organisations have one that give out `.creds` files.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator with an account for its servers and one for applications.
pub(crate) struct Operator {
    key: KeyPair,
    system: KeyPair,
    account: KeyPair,
}

impl Operator {
    /// Makes all keys.
    pub(crate) fn new() -> Self {
        Self { key: KeyPair::new_operator(), system: KeyPair::new_account(), account: KeyPair::new_account() }
    }

    /// Lines of a server's configuration: the operator, and both accounts in memory.
    pub(crate) fn server(&self) -> String {
        let operator = jwt(&self.key, &self.key, &json!({"type": "operator", "version": 2}));
        let [system, account] =
            [&self.system, &self.account].map(|account| (account.public_key(), self.account(account)));
        format!(
            "operator: {operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {}\n{}: {}\n}}\n",
            system.0, system.0, system.1, account.0, account.1
        )
    }

    /// A credentials file of a new user of the account for applications.
    pub(crate) fn credentials(&self) -> String {
        self.credentials_with_payload(-1)
    }

    /// As [`Operator::credentials`], of a user whose time ends then, in seconds since 1970.
    pub(crate) fn credentials_until(&self, expiry_secs: u64) -> String {
        self.credentials_of(-1, Some(expiry_secs))
    }

    /// As [`Operator::credentials`], of a user who may send messages of so many bytes at most.
    pub(crate) fn credentials_with_payload(&self, bytes: i32) -> String {
        self.credentials_of(bytes, None)
    }

    fn credentials_of(&self, bytes: i32, expiry_secs: Option<u64>) -> String {
        let user = KeyPair::new_user();
        let limits = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": bytes});
        let (jwt, seed) =
            (jwt_until(&user, &self.account, &limits, expiry_secs), user.seed().expect("a new key has a seed"));
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    fn account(&self, account: &KeyPair) -> String {
        let unlimited = [
            "subs",
            "data",
            "payload",
            "imports",
            "exports",
            "conn",
            "leaf",
            "mem_storage",
            "disk_storage",
            "streams",
            "consumer",
        ];
        let mut limits: Value = unlimited.iter().map(|&name| (name.to_owned(), json!(-1))).collect();
        limits["wildcards"] = json!(true);
        if account.public_key() == self.system.public_key() {
            // The account of the servers takes no streams.
            ["mem_storage", "disk_storage", "streams", "consumer"].iter().for_each(|&name| limits[name] = json!(0));
        }
        jwt(account, &self.key, &json!({"type": "account", "version": 2, "limits": limits}))
    }
}

/// JWT of `issuer` about `subject`.
fn jwt(subject: &KeyPair, issuer: &KeyPair, claims: &Value) -> String {
    jwt_until(subject, issuer, claims, None)
}

fn jwt_until(subject: &KeyPair, issuer: &KeyPair, claims: &Value, expiry_secs: Option<u64>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (issuer_key, subject_key) = (issuer.public_key(), subject.public_key());
    let mut claims =
        json!({"jti": "1", "iat": 1, "iss": issuer_key, "sub": subject_key, "name": "test", "nats": claims});
    if let Some(expiry_secs) = expiry_secs {
        claims["exp"] = json!(expiry_secs);
    }
    let text = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&claims));
    let signature = issuer.sign(text.as_bytes()).expect("a new key signs");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
