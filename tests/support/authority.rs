//! An authority of its own, and what it signs.

use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

use super::Folder;

/// An authority, with what it signed as files beside its own certificate.
#[derive(Debug)]
pub(crate) struct Authority {
    certificate: X509,
    key: PKey<Private>,
    folder: Folder,
}

impl Authority {
    /// Makes a key and the certificate that says so, `ca.pem`.
    pub(crate) fn new() -> Self {
        let made = make_key().and_then(|key| {
            let name = named("authority")?;
            let mut builder = begin(&name, &name, &key)?;
            builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
            builder.sign(&key, MessageDigest::sha256())?;
            Ok((builder.build(), key))
        });
        let (certificate, key) = made.expect("certificates can be made");
        let folder = Folder::new("authority");
        folder.write("ca.pem", &text(certificate.to_pem()));
        Self { certificate, key, folder }
    }

    /// Signs a certificate for that name, good for a client and for a server on loopback: `NAME.pem` and `NAME.key`, and
    /// both in one file, `NAME.both.pem`.
    pub(crate) fn issue(&self, name: &str) {
        let (certificate, key) = self.sign(name).expect("certificates can be made");
        let (certificate, key) = (text(certificate.to_pem()), text(key.private_key_to_pem_pkcs8()));
        self.folder.write(&format!("{name}.pem"), &certificate);
        self.folder.write(&format!("{name}.key"), &key);
        self.folder.write(&format!("{name}.both.pem"), &format!("{key}{certificate}"));
    }

    /// A file of the authority, such as `ca.pem`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As [`Authority::file`], as a text for configurations and command lines.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn sign(&self, name: &str) -> Result<(X509, PKey<Private>), ErrorStack> {
        let key = make_key()?;
        let mut builder = begin(&named(name)?, self.certificate.subject_name(), &key)?;
        let mut names = SubjectAlternativeName::new();
        names.dns("localhost").ip("127.0.0.1");
        let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(names)?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok((builder.build(), key))
    }
}

fn make_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn named(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_text("CN", name)?;
    Ok(builder.build())
}

fn begin(
    subject: &X509Name,
    issuer: &openssl::x509::X509NameRef,
    key: &PKey<Private>,
) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(2)?)?;
    Ok(builder)
}

fn text(pem: Result<Vec<u8>, ErrorStack>) -> String {
    String::from_utf8(pem.expect("it can be written")).expect("PEM is text")
}
