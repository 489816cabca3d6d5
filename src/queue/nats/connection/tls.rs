//! TLS of the NATS connections.

use async_nats::ConnectOptions;
use async_nats::rustls::client::WantsClientCert;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use hyper_rustls::ConfigBuilderExt;

use crate::queue::nats::{NatsError, NatsMaterial, NatsTlsSettings};

/// Sets what the settings ask for. Files are read by the client at each connection, so a renewed certificate is found, and
/// here, so that one that is missing is found at the start; texts are read here alone.
///
/// # Errors
/// [`NatsError`] names the setting.
pub(super) fn apply(options: ConnectOptions, tls: &NatsTlsSettings) -> Result<ConnectOptions, NatsError> {
    if tls.certificate.is_some() != tls.private_key.is_some() {
        return Err(NatsError::HalfCertificate);
    }
    if tls.ca.is_none() && tls.certificate.is_none() {
        return Ok(options);
    }
    for material in [&tls.ca, &tls.certificate, &tls.private_key].into_iter().flatten() {
        material.read()?;
    }
    let options = options.require_tls(true);
    let is_text = |material: &Option<NatsMaterial>| matches!(material, Some(NatsMaterial::Text(_)));
    if is_text(&tls.ca) || is_text(&tls.certificate) || is_text(&tls.private_key) {
        return Ok(options.tls_client_config(from_texts(tls)?));
    }
    Ok(from_files(options, tls))
}

fn from_files(mut options: ConnectOptions, tls: &NatsTlsSettings) -> ConnectOptions {
    if let Some(NatsMaterial::File(path)) = &tls.ca {
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(NatsMaterial::File(certificate)), Some(NatsMaterial::File(key))) = (&tls.certificate, &tls.private_key)
    {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

fn from_texts(tls: &NatsTlsSettings) -> Result<ClientConfig, NatsError> {
    // The authorities of the system are loaded by the client itself, and only where it reads files.
    let Some(ca) = &tls.ca else { return Err(NatsError::TextWithoutAuthority) };
    let builder = ClientConfig::builder().with_root_certificates(authorities(ca)?);
    identified(builder, tls)
}

/// TLS of a connection that makes its own handshake. Files are read here, and the authorities of the system where the
/// settings name none.
///
/// # Errors
/// What cannot be read or used.
pub(super) fn client_config(tls: &NatsTlsSettings) -> Result<ClientConfig, async_nats::Error> {
    let builder = ClientConfig::builder();
    let builder = match &tls.ca {
        Some(ca) => builder.with_root_certificates(authorities(ca)?),
        None => builder.with_native_roots()?,
    };
    Ok(identified(builder, tls)?)
}

fn authorities(ca: &NatsMaterial) -> Result<RootCertStore, NatsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "ca")? {
        roots.add(certificate).map_err(|_| NatsError::Pem("ca"))?;
    }
    Ok(roots)
}

fn identified(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    tls: &NatsTlsSettings,
) -> Result<ClientConfig, NatsError> {
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.private_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(key.read()?.as_bytes()).map_err(|_| NatsError::Pem("private_key"))?;
    builder
        .with_client_auth_cert(certificates(certificate, "certificate")?, key)
        .map_err(|_| NatsError::Pem("certificate"))
}

fn certificates(material: &NatsMaterial, name: &'static str) -> Result<Vec<CertificateDer<'static>>, NatsError> {
    let text = material.read()?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        certificates.push(certificate.map_err(|_| NatsError::Pem(name))?);
    }
    if certificates.is_empty() { Err(NatsError::Pem(name)) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn mistake(ca: Option<&str>, certificate: Option<&str>, key: Option<&str>) -> Option<NatsError> {
        let text = |text: Option<&str>| text.map(|text| NatsMaterial::Text(text.to_owned()));
        let tls = NatsTlsSettings { ca: text(ca), certificate: text(certificate), private_key: text(key) };
        apply(ConnectOptions::new(), &tls).err()
    }

    #[test]
    fn texts_that_are_no_certificates_are_refused_by_name() {
        assert_eq!(mistake(None, None, None), None);
        assert_eq!(mistake(None, Some("x"), None), Some(NatsError::HalfCertificate));
        assert_eq!(mistake(None, Some("x"), Some("y")), Some(NatsError::TextWithoutAuthority));
        assert_eq!(mistake(Some("x"), None, None), Some(NatsError::Pem("ca")));
        let missing = PathBuf::from("/nonexistent/ca.pem");
        let ca = Some(NatsMaterial::File(missing.clone()));
        let key = Some(NatsMaterial::Text("y".to_owned()));
        let tls = NatsTlsSettings { ca, certificate: key.clone(), private_key: key };
        let kind = std::io::ErrorKind::NotFound;
        assert_eq!(apply(ConnectOptions::new(), &tls).err(), Some(NatsError::Unreadable(missing.clone(), kind)));
        let tls = NatsTlsSettings { ca: Some(NatsMaterial::File(missing.clone())), ..NatsTlsSettings::default() };
        assert_eq!(apply(ConnectOptions::new(), &tls).err(), Some(NatsError::Unreadable(missing, kind)));
    }
}
