//! Credentials of the bridge, presented anew at each connection.
//!
//! A file is read at each attempt, so one that was renewed counts without a restart: the server ends the connection
//! when the user's time is over, and the next attempt brings what the file holds by then.

use async_nats::{Auth, AuthError, ConnectOptions};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::{KeyPair, KeyPairType};

use crate::queue::nats::{NatsError, NatsMaterial};

/// Name and password of the server URLs; a name alone is a token.
pub(super) type UrlUser = (String, Option<String>);

/// Name of the block that holds the JWT. A seed has no spaces, and may hold any three letters.
const JWT: &str = "NATS USER JWT";

/// The contents of a credentials file.
struct Credentials<'a> {
    /// The user's JWT; without it the key alone says who it is.
    jwt: Option<&'a str>,
    key: KeyPair,
}

/// The user that the bridge is, for every connection with the same settings.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    material: Option<NatsMaterial>,
    user: Option<UrlUser>,
}

impl Identity {
    /// These credentials, and beside them what the URLs hold.
    pub(super) fn new(material: Option<NatsMaterial>, user: Option<UrlUser>) -> Self {
        Self { material, user }
    }

    /// Options of a client that proves it.
    ///
    /// # Errors
    /// [`NatsError`] when the credentials cannot be read at present, or are none.
    pub(super) fn options(self) -> Result<ConnectOptions, NatsError> {
        let Some(material) = &self.material else {
            return Ok(match self.user {
                Some((user, Some(password))) => ConnectOptions::with_user_and_password(user, password),
                Some((token, None)) => ConnectOptions::with_token(token),
                None => ConnectOptions::new(),
            });
        };
        parse(&material.read()?).ok_or(NatsError::Credentials)?;
        Ok(ConnectOptions::with_auth_callback(move |nonce| {
            let identity = self.clone();
            async move { identity.prove(nonce).await }
        }))
    }

    /// Proof for a server that wants this signed.
    ///
    /// # Errors
    /// The credentials cannot be read at present, or are none.
    pub(super) async fn prove(&self, nonce: Vec<u8>) -> Result<Auth, AuthError> {
        let mut auth = match self.material.clone() {
            // A file may be on a volume that hangs; devices are served meanwhile.
            Some(material) => tokio::task::spawn_blocking(move || prove(&material, &nonce))
                .await
                .map_err(AuthError::new)?
                .map_err(AuthError::new)?,
            None => Auth::new(),
        };
        match self.user.clone() {
            Some((name, Some(password))) => (auth.username, auth.password) = (Some(name), Some(password)),
            Some((token, None)) => auth.token = Some(token),
            None => {}
        }
        Ok(auth)
    }
}

/// Signs what the server asks to be signed.
fn prove(material: &NatsMaterial, nonce: &[u8]) -> Result<Auth, NatsError> {
    let text = material.read()?;
    let credentials = parse(&text).ok_or(NatsError::Credentials)?;
    let mut auth = Auth::new();
    auth.signature = Some(credentials.key.sign(nonce).map_err(|_| NatsError::Credentials)?);
    match credentials.jwt {
        Some(jwt) => auth.jwt = Some(jwt.to_owned()),
        None => auth.nkey = Some(credentials.key.public_key()),
    }
    Ok(auth)
}

/// A credentials file, or the seed of a user's key alone, with or without the lines around it.
fn parse(text: &str) -> Option<Credentials<'_>> {
    let seed = block(text, "USER NKEY SEED").unwrap_or(text.trim());
    let key = KeyPair::from_seed(seed).ok()?;
    if !matches!(key.key_pair_type(), KeyPairType::User) {
        return None;
    }
    let jwt = block(text, JWT);
    (jwt.is_some() || !text.contains(JWT)).then_some(Credentials { jwt, key })
}

/// When the JWT of these credentials expires, in seconds since 1970; `None`: they hold none, or one that does not expire.
pub fn user_expiry_secs(credentials: &str) -> Option<u64> {
    let claims = block(credentials, JWT)?.split('.').nth(1)?;
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims.get("exp")?.as_u64().filter(|expiry| *expiry > 0)
}

/// The one line between the markers of that name.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_marker = |line: &str, word: &str| {
        line.starts_with("---") && line.ends_with("---") && line.trim_matches('-') == format!("{word} {name}")
    };
    let mut lines = text.lines().map(str::trim).skip_while(|line| !is_marker(line, "BEGIN")).skip(1);
    let content = lines.find(|line| !line.is_empty())?;
    let end = lines.find(|line| !line.is_empty())?;
    (!content.starts_with('-') && is_marker(end, "END")).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_of_a_user_is_that_of_the_jwt() {
        let credentials = |claims: &str| {
            let jwt = format!("e30.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims));
            format!("-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n")
        };
        assert_eq!(user_expiry_secs(&credentials(r#"{"exp":2000000000,"sub":"U"}"#)), Some(2_000_000_000));
        assert_eq!(user_expiry_secs(&credentials(r#"{"exp":0}"#)), None, "never");
        assert_eq!(user_expiry_secs(&credentials("{}")), None);
        assert_eq!(user_expiry_secs(&credentials("no JSON")), None);
        assert_eq!(user_expiry_secs("SUAMYJWTPEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAH66Y"), None);
    }

    #[test]
    fn a_seed_may_hold_the_letters_jwt() {
        let seed = "SUAMYJWTPEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAH66Y";
        assert!(parse(seed).is_some_and(|credentials| credentials.jwt.is_none()));
    }

    fn file(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_file_gives_its_jwt_and_a_signature_that_the_users_key_made() {
        let key = KeyPair::new_user();
        let text = file("header.claims.signature", &key.seed().unwrap());
        for text in [text.replace('\n', "\r\n"), text] {
            let auth = prove(&NatsMaterial::Text(text), b"nonce").unwrap();
            assert_eq!((auth.jwt.as_deref(), auth.nkey), (Some("header.claims.signature"), None));
            key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
    }

    #[test]
    fn a_seed_alone_gives_the_name_of_its_key() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        for text in
            [format!("{seed}\n"), format!("-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------")]
        {
            let auth = prove(&NatsMaterial::Text(text), b"nonce").unwrap();
            assert_eq!((auth.jwt, auth.nkey), (None, Some(key.public_key())));
            key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
    }

    #[test]
    fn what_holds_no_key_of_a_user_is_refused() {
        let (user, account) = (KeyPair::new_user().seed().unwrap(), KeyPair::new_account().seed().unwrap());
        let whole = file("jwt", &user);
        for text in [
            String::new(),
            "x".to_owned(),
            account.clone(),
            file("jwt", &account),
            file("jwt", "SUAX"),
            // A file that was cut off while it was written is not one without a JWT.
            whole.replace("------END NATS USER JWT------", ""),
            whole.replace("\njwt\n", "\n"),
            whole[..whole.find("------END USER").unwrap()].to_owned(),
        ] {
            assert!(parse(&text).is_none(), "{text}");
        }
        assert!(parse(&whole).is_some());
    }

    #[test]
    fn a_file_that_is_gone_or_was_spoilt_is_an_error_of_that_attempt() {
        let missing = NatsMaterial::File("/nonexistent/creds".into());
        assert!(matches!(prove(&missing, b"nonce"), Err(NatsError::Unreadable(..))));
        assert_eq!(prove(&NatsMaterial::Text("x".to_owned()), b"nonce").err(), Some(NatsError::Credentials));
    }
}
