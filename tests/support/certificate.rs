//! Certificates of servers, made for one test.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use super::Folder;

/// A certificate with its key, as files. It may sign others.
#[derive(Debug)]
pub(crate) struct Certificate {
    folder: Folder,
    certificate: X509,
    key: PKey<Private>,
}

impl Certificate {
    /// For localhost, with an EC key; signed by itself.
    pub(crate) fn elliptic() -> Self {
        Self::of(elliptic(), None, "localhost", &["localhost"])
    }

    /// For localhost, with an RSA key; signed by itself.
    pub(crate) fn rsa() -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).expect("keys can be made")).expect("it is a key");
        Self::of(key, None, "localhost", &["localhost"])
    }

    /// Of a client with that common name and those DNS names, signed by this one.
    pub(crate) fn sign(&self, common_name: &str, dns_names: &[&str]) -> Self {
        Self::of(elliptic(), Some(self), common_name, dns_names)
    }

    fn of(key: PKey<Private>, issuer: Option<&Self>, common_name: &str, dns_names: &[&str]) -> Self {
        let certificate = sign(&key, issuer, common_name, dns_names, &tomorrow()).expect("certificates can be made");
        let renewed = Self { folder: Folder::new("certificate"), certificate, key };
        renewed.write();
        renewed
    }

    fn write(&self) {
        let text = |pem: Vec<u8>| String::from_utf8(pem).expect("PEM is text");
        self.folder.write("certificate.pem", &text(self.certificate.to_pem().expect("it can be written")));
        self.folder.write("key.pem", &text(self.key.private_key_to_pem_pkcs8().expect("it can be written")));
    }

    /// Puts another certificate with another key into the same files.
    pub(crate) fn renew(&mut self) {
        self.key = elliptic();
        let end = tomorrow();
        self.certificate = sign(&self.key, None, "localhost", &["localhost"], &end).expect("certificates can be made");
        self.write();
    }

    /// As [`Certificate::renew`], with one that expired a moment ago.
    pub(crate) fn renew_expired(&mut self) {
        self.key = elliptic();
        let end = Asn1Time::from_unix(1_700_000_000).expect("it is a time");
        self.certificate = sign(&self.key, None, "localhost", &["localhost"], &end).expect("certificates can be made");
        self.write();
    }

    /// When it expires, in seconds since 1970.
    pub(crate) fn expiry(&self) -> u64 {
        let left =
            Asn1Time::from_unix(0).and_then(|begin| begin.diff(self.certificate.not_after())).expect("it is a time");
        left.days as u64 * 86_400 + left.secs as u64
    }

    /// Puts the key of another certificate into the file of the key.
    pub(crate) fn spoil(&self) {
        let key = elliptic().private_key_to_pem_pkcs8().expect("it can be written");
        self.folder.write("key.pem", &String::from_utf8(key).expect("PEM is text"));
    }

    /// The certificate itself, in DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.to_der().expect("it can be written")
    }

    /// The certificate's file.
    pub(crate) fn path(&self) -> String {
        self.folder.path().join("certificate.pem").display().to_string()
    }

    /// The key's file.
    pub(crate) fn key_path(&self) -> String {
        self.folder.path().join("key.pem").display().to_string()
    }
}

fn tomorrow() -> Asn1Time {
    Asn1Time::days_from_now(1).expect("there is a tomorrow")
}

fn elliptic() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("OpenSSL knows the curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("keys can be made")).expect("it is a key")
}

fn sign(
    key: &PKey<Private>,
    issuer: Option<&Certificate>,
    common_name: &str,
    dns_names: &[&str],
    end: &Asn1Time,
) -> Result<X509, openssl::error::ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", common_name)?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::MAYBE_ZERO, false)?;
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*serial.to_asn1_integer()?)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(issuer.map_or(&*name, |issuer| issuer.certificate.subject_name()))?;
    certificate.set_pubkey(key)?;
    certificate.set_not_before(&*Asn1Time::from_unix(1_600_000_000)?)?;
    certificate.set_not_after(end)?;
    let mut names = SubjectAlternativeName::new();
    if issuer.is_none() {
        names.ip("127.0.0.1");
        certificate.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    }
    for name in dns_names {
        names.dns(name);
    }
    if issuer.is_none() || !dns_names.is_empty() {
        let names = names.build(&certificate.x509v3_context(None, None))?;
        certificate.append_extension(names)?;
    }
    certificate.sign(issuer.map_or(key, |issuer| &issuer.key), MessageDigest::sha256())?;
    Ok(certificate.build())
}
