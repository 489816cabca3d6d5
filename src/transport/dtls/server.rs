//! Certificate, key and the parameters of negotiation, which all sessions share.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion};
use openssl::x509::X509;

use crate::transport::tls::TlsError;

/// The suites, best first; docs/wire.md names them. All of them have keys that a stolen certificate does not give away, and
/// encryption that authenticates. CCM_8 is what RFC 7252 section 9.1.3.3 demands of devices. Each is named, as a class of
/// suites takes in whatever a version of OpenSSL counts to it.
const CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-AES256-CCM8",
];

/// The DTLS server of all sessions. Cheap to clone; shared by all workers, and all clones see a replacement.
#[derive(Clone)]
pub struct Server {
    context: Arc<RwLock<SslContext>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// A server with that chain (its own certificate first) and its key, both PEM; EC or RSA.
    ///
    /// # Errors
    /// [`TlsError`] says which of the two is wrong.
    pub fn new(certificate: &str, private_key: &str) -> Result<Self, TlsError> {
        let chain = X509::stack_from_pem(certificate.as_bytes()).map_err(|error| certificate_error(&error))?;
        let mut chain = chain.into_iter();
        let own = chain.next().ok_or_else(|| TlsError::Certificate("there is none".to_owned()))?;
        // A key with a passphrase would make OpenSSL ask the terminal for it.
        let key = PKey::private_key_from_pem_callback(private_key.as_bytes(), |_| Ok(0))
            .map_err(|error| TlsError::PrivateKey(error.to_string()))?;
        let pair = |error: ErrorStack| TlsError::Pair(error.to_string());
        let mut context = SslContextBuilder::new(SslMethod::dtls_server()).map_err(pair)?;
        negotiate(&mut context).map_err(pair)?;
        context.set_certificate(&own).map_err(pair)?;
        for certificate in chain {
            context.add_extra_chain_cert(certificate).map_err(pair)?;
        }
        context.set_private_key(&key).map_err(pair)?;
        context.check_private_key().map_err(pair)?;
        Ok(Self { context: Arc::new(RwLock::new(context.build())) })
    }

    /// Lets handshakes that begin from now on use what `newer` has; sessions go on as they are.
    pub fn replace(&self, newer: &Self) {
        let newer = newer.context();
        *self.context.write().unwrap_or_else(PoisonError::into_inner) = newer;
    }

    pub(super) fn context(&self) -> SslContext {
        self.context.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn certificate_error(error: &ErrorStack) -> TlsError {
    TlsError::Certificate(error.to_string())
}

fn negotiate(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_cipher_list(&CIPHERS.join(":"))?;
    context.set_options(
        SslOptions::COOKIE_EXCHANGE
            | SslOptions::NO_QUERY_MTU
            | SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    context.set_mode(SslMode::RELEASE_BUFFERS);
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    // Without it a record is read in two steps, and the rest of its datagram is lost.
    context.set_read_ahead(true);
    // A session begins only behind a cookie that was checked before, without any state.
    context.set_cookie_verify_cb(|_, _| true);
    context.set_cookie_generate_cb(|_, _| Ok(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::Private;
    use openssl::rsa::Rsa;

    use super::*;

    fn certificate(key: &PKey<Private>) -> String {
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(key, MessageDigest::sha256()).unwrap();
        String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
    }

    fn pem(key: &PKey<Private>) -> String {
        String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }

    fn elliptic() -> PKey<Private> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    #[test]
    fn certificates_with_keys_of_either_kind_are_taken_chains_included() {
        for key in [elliptic(), PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()] {
            let chain = format!("{}{}", certificate(&key), certificate(&elliptic()));
            assert!(Server::new(&chain, &pem(&key)).is_ok());
        }
    }

    #[test]
    fn a_mistake_says_which_of_the_two_is_wrong() {
        let (key, other) = (elliptic(), elliptic());
        let (own, chain) = (pem(&key), certificate(&key));
        assert!(matches!(Server::new("", &own), Err(TlsError::Certificate(_))));
        assert!(matches!(Server::new(&own, &own), Err(TlsError::Certificate(_))));
        assert!(matches!(Server::new(&chain, &chain), Err(TlsError::PrivateKey(_))));
        assert!(matches!(Server::new(&chain, &pem(&other)), Err(TlsError::Pair(_))));
        let locked = key.private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"secret").unwrap();
        let locked = String::from_utf8(locked).unwrap();
        assert!(matches!(Server::new(&chain, &locked), Err(TlsError::PrivateKey(_))));
    }
}
