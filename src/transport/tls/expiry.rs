//! Expiry of the certificates that a client showed, out of a session as rustls writes it.

use openssl::asn1::Asn1Time;
use openssl::x509::{X509, X509Ref};

/// Expiry of the certificate that expires first, in seconds since 1970; `u64::MAX` when the client showed none, `None`
/// when the bytes are no session.
///
/// rustls keeps the layout to itself and may change it. A test looks at a session of a real handshake; and what cannot be
/// read gets no ticket, so that a change costs full handshakes and nothing else.
pub(super) fn earliest_expiry_secs(session: &[u8]) -> Option<u64> {
    let mut rest = Bytes(session);
    // The name that the client asked for; version, suite, secret, whether it is an extended one.
    if rest.flag()? {
        rest.vector::<1>()?;
    }
    rest.take(4)?;
    rest.vector::<1>()?;
    rest.flag()?;
    let mut earliest_secs = u64::MAX;
    if rest.flag()? {
        let mut chain = Bytes(rest.vector::<3>()?);
        while !chain.0.is_empty() {
            let certificate = X509::from_der(chain.vector::<3>()?).ok()?;
            earliest_secs = earliest_secs.min(expiry_secs(&certificate)?);
        }
    }
    // The protocol that was agreed on, data of ours, time of issue, what the client adds to the age.
    if rest.flag()? {
        rest.vector::<1>()?;
    }
    rest.vector::<2>()?;
    rest.take(12)?;
    rest.0.is_empty().then_some(earliest_secs)
}

/// Expiry of a certificate, in seconds since 1970.
pub fn expiry_secs(certificate: &X509Ref) -> Option<u64> {
    let left = Asn1Time::from_unix(0).ok()?.diff(certificate.not_after()).ok()?;
    u64::try_from(i64::from(left.days) * 86_400 + i64::from(left.secs)).ok()
}

/// Bytes that are not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// A byte that is 0 or 1.
    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// Bytes behind their number, which has `WIDTH` bytes (RFC 8446 section 3.4).
    fn vector<const WIDTH: usize>(&mut self) -> Option<&'a [u8]> {
        let bytes = self.take(WIDTH)?.iter().fold(0, |bytes, byte| bytes << 8 | usize::from(*byte));
        self.take(bytes)
    }
}
