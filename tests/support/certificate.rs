//! Certificates of servers, made for one test.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};

use super::Folder;

/// A certificate that signed itself, with its key, as files.
#[derive(Debug)]
pub(crate) struct Certificate {
    folder: Folder,
}

impl Certificate {
    /// For localhost, with an EC key.
    pub(crate) fn elliptic() -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("OpenSSL knows the curve");
        Self::of(&PKey::from_ec_key(EcKey::generate(&group).expect("keys can be made")).expect("it is a key"))
    }

    /// For localhost, with an RSA key.
    pub(crate) fn rsa() -> Self {
        Self::of(&PKey::from_rsa(Rsa::generate(2048).expect("keys can be made")).expect("it is a key"))
    }

    fn of(key: &PKey<Private>) -> Self {
        let certificate = sign(key).expect("certificates can be made");
        let folder = Folder::new("certificate");
        let text = |pem: Vec<u8>| String::from_utf8(pem).expect("PEM is text");
        folder.write("certificate.pem", &text(certificate.to_pem().expect("it can be written")));
        folder.write("key.pem", &text(key.private_key_to_pem_pkcs8().expect("it can be written")));
        Self { folder }
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

fn sign(key: &PKey<Private>) -> Result<X509, openssl::error::ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", "localhost")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::MAYBE_ZERO, false)?;
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*serial.to_asn1_integer()?)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_pubkey(key)?;
    certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    certificate.set_not_after(&*Asn1Time::days_from_now(1)?)?;
    let mut names = SubjectAlternativeName::new();
    let names = names.dns("localhost").ip("127.0.0.1").build(&certificate.x509v3_context(None, None))?;
    certificate.append_extension(names)?;
    certificate.sign(key, MessageDigest::sha256())?;
    Ok(certificate.build())
}
