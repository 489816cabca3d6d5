//! The datagrams of one handshake that is half open, looked at before OpenSSL is: what no client needs to say never
//! reaches it.
//!
//! OpenSSL keeps up to ten messages ahead of the one that it waits for, each in a buffer as large as its first fragment
//! announces (100 KiB by default), and up to a hundred encrypted records that come too early, each in a buffer of 16 KiB. That
//! is a megabyte for some datagrams of a stranger. With what is let through here a handshake holds less than the 64 KiB
//! that docs/operations.md counts for it.

use super::record::{ALERT, CHANGE_CIPHER_SPEC, Fragment, HANDSHAKE, Record};

/// Longest message of a client, ClientHello included. The largest is a certificate; the bridge asks for none, and a
/// hello must fit into one datagram.
pub(super) const MESSAGE_BYTES_MAX: usize = 2048;

/// Messages that a client sends behind its ClientHello: Certificate, ClientKeyExchange, CertificateVerify, Finished
/// (RFC 6347 section 4.2.4), the first and the third only where a certificate is asked for.
const MESSAGES_MAX: u16 = 4;

/// Datagrams of one handshake. A flight behind the hello is one to four of them, or a dozen with a certificate and
/// fragments of 200 bytes; a client sends it again after 1, 2, 4, 8 and 16 s.
const DATAGRAMS_MAX: usize = 64;

/// Bytes of these datagrams, as many as of a handshake over TCP.
const BYTES_MAX: usize = 32 * 1024;

/// Encrypted records of one handshake that OpenSSL gets: Finished. It needs one; of others nobody sees what is in them.
const ENCRYPTED_MAX: usize = 4;

/// Longest encrypted record of a handshake; Finished needs up to 48 bytes with the suites that are served.
const ENCRYPTED_BYTES_MAX: usize = 64;

/// The messages that OpenSSL may have had, and those that it may have next.
#[derive(Debug)]
pub(super) struct Flight {
    /// Message number of the hello that began the handshake.
    hello: u16,
    datagrams: usize,
    bytes: usize,
    encrypted: usize,
}

/// A datagram that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The records that are not encrypted.
    pub(super) clear: &'a [u8],
    /// The first encrypted one.
    pub(super) encrypted: Option<&'a [u8]>,
    /// The bytes behind it, which mean something when the handshake is finished.
    pub(super) rest: &'a [u8],
}

/// Why a datagram may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// No handshake needs it: it is dropped (RFC 6347 section 4.1.2.7).
    Needless,
    /// The handshake has had all that it may have: it ends.
    Exhausted,
}

impl Flight {
    /// The flight behind the ClientHello with that message number.
    pub(super) fn behind(hello: u16) -> Self {
        Self { hello, datagrams: 0, bytes: 0, encrypted: 0 }
    }

    /// Takes a datagram apart and counts it.
    ///
    /// # Errors
    /// [`Unfit`]. One that is needless is not counted: it costs nothing, and its sender may be another.
    pub(super) fn admit<'a>(&mut self, datagram: &'a [u8]) -> Result<Parts<'a>, Unfit> {
        let parts = self.parts(datagram).ok_or(Unfit::Needless)?;
        self.datagrams += 1;
        self.bytes += datagram.len();
        if self.datagrams > DATAGRAMS_MAX || self.bytes > BYTES_MAX { Err(Unfit::Exhausted) } else { Ok(parts) }
    }

    /// Counts an encrypted record.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn admit_encrypted(&mut self) -> Result<(), Unfit> {
        self.encrypted += 1;
        if self.encrypted > ENCRYPTED_MAX { Err(Unfit::Exhausted) } else { Ok(()) }
    }

    fn parts<'a>(&self, datagram: &'a [u8]) -> Option<Parts<'a>> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let (record, behind) = Record::read(rest)?;
            match record.epoch {
                0 if self.is_needed(&record) => rest = behind,
                1 if is_needed_encrypted(&record) => {
                    let clear = &datagram[..datagram.len() - rest.len()];
                    return Some(Parts { clear, encrypted: Some(record.whole), rest: behind });
                }
                _ => return None,
            }
        }
        (!datagram.is_empty()).then_some(Parts { clear: datagram, encrypted: None, rest })
    }

    fn is_needed(&self, record: &Record<'_>) -> bool {
        match record.content {
            HANDSHAKE => self.has_needed_fragments(record.body),
            CHANGE_CIPHER_SPEC => record.body.len() == 1,
            ALERT => record.body.len() == 2,
            _ => false,
        }
    }

    fn has_needed_fragments(&self, body: &[u8]) -> bool {
        let mut rest = body;
        while let Some((fragment, behind)) = Fragment::read(rest) {
            let ahead = fragment.sequence.checked_sub(self.hello);
            let is_part = fragment.bytes > 0 || fragment.message_bytes == 0;
            let is_next = ahead.is_some_and(|ahead| (1..=MESSAGES_MAX).contains(&ahead));
            if !is_part || !is_next || fragment.message_bytes > MESSAGE_BYTES_MAX {
                return false;
            }
            rest = behind;
        }
        rest.is_empty() && !body.is_empty()
    }
}

fn is_needed_encrypted(record: &Record<'_>) -> bool {
    matches!(record.content, HANDSHAKE | ALERT) && record.body.len() <= ENCRYPTED_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslStream, SslVerifyMode};
    use openssl::x509::{X509, X509Name};

    use super::*;
    use crate::transport::dtls::tests::Link;

    /// Times that a client sends a flight in the 30 s of a handshake: at once, and after 1, 2, 4, 8 s.
    const TIMES: usize = 5;

    fn record(content: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&[content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9, high, low], body].concat()
    }

    fn fragment(bytes: u32, sequence: u16, offset: u32, part: usize) -> Vec<u8> {
        let number = |number: u32| number.to_be_bytes()[1..].to_vec();
        let part_bytes = number(u32::try_from(part).expect("short"));
        let head = [vec![16], number(bytes), sequence.to_be_bytes().to_vec(), number(offset), part_bytes].concat();
        record(HANDSHAKE, 0, &[head, vec![0; part]].concat())
    }

    /// A certificate of some 1.7 KB.
    fn certificate() -> (X509, PKey<Private>) {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        (0..10).for_each(|_| name.append_entry_by_nid(Nid::ORGANIZATIONALUNITNAME, &"x".repeat(60)).unwrap());
        let name = name.build();
        let mut certificate = X509::builder().unwrap();
        certificate.set_subject_name(&name).unwrap();
        certificate.set_issuer_name(&name).unwrap();
        certificate.set_pubkey(&key).unwrap();
        certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        (certificate.build(), key)
    }

    fn stream(mut context: SslContextBuilder, mtu: u32) -> SslStream<Link> {
        context.set_options(SslOptions::NO_QUERY_MTU);
        context.set_read_ahead(true);
        let context: SslContext = context.build();
        let mut ssl = Ssl::new(&context).unwrap();
        ssl.set_mtu(mtu).unwrap();
        SslStream::new(ssl, Link::default()).unwrap()
    }

    /// The flight that a client of OpenSSL sends behind its hello.
    fn flight(mtu: u32, shows_certificate: bool) -> Vec<Vec<u8>> {
        let (certificate, key) = certificate();
        let mut server = SslContext::builder(SslMethod::dtls_server()).unwrap();
        server.set_certificate(&certificate).unwrap();
        server.set_private_key(&key).unwrap();
        let mut client = SslContext::builder(SslMethod::dtls_client()).unwrap();
        if shows_certificate {
            server.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
            client.set_certificate(&certificate).unwrap();
            client.set_private_key(&key).unwrap();
        }
        let (mut server, mut client) = (stream(server, 1200), stream(client, mtu));
        let _waiting = client.connect();
        server.get_mut().incoming.extend(std::mem::take(&mut client.get_mut().outgoing));
        let _waiting = server.accept();
        client.get_mut().incoming.extend(std::mem::take(&mut server.get_mut().outgoing));
        let _waiting = client.connect();
        let flight = std::mem::take(&mut client.get_mut().outgoing);
        server.get_mut().incoming.extend(flight.clone());
        assert!(server.accept().is_ok(), "it is no whole flight");
        flight
    }

    #[test]
    fn what_a_client_sends_may_go_on_as_often_as_it_sends_it() {
        for (mtu, shows_certificate) in [(1200, false), (256, false), (1200, true), (256, true), (16_000, true)] {
            let datagrams = flight(mtu, shows_certificate);
            // Without a cookie the hello is message 0.
            let mut flight = Flight::behind(0);
            for _ in 0..TIMES {
                for datagram in &datagrams {
                    assert!(flight.admit(datagram).is_ok(), "{mtu} {shows_certificate}: {}", datagram.escape_ascii());
                }
            }
            let parts: Vec<_> = datagrams.iter().map(|datagram| Flight::behind(0).admit(datagram).unwrap()).collect();
            assert_eq!(parts.iter().filter(|parts| parts.encrypted.is_some()).count(), 1, "Finished");
            assert!(parts.iter().all(|parts| parts.rest.is_empty()));
        }
    }

    #[test]
    fn what_no_client_sends_is_dropped_and_not_counted() {
        let good = fragment(66, 2, 0, 66);
        let with = |other: &[u8]| [&good, other].concat();
        let needless: &[Vec<u8>] = &[
            Vec::new(),
            fragment(102_400, 2, 0, 1),
            fragment(2049, 2, 0, 1),
            // The hello itself, and a message behind Finished.
            fragment(66, 1, 0, 66),
            fragment(66, 6, 0, 66),
            fragment(66, 2, 0, 0),
            fragment(66, 2, 60, 7),
            record(HANDSHAKE, 0, &[]),
            record(HANDSHAKE, 0, &[16, 0, 0]),
            record(CHANGE_CIPHER_SPEC, 0, &[1, 1]),
            record(ALERT, 0, &[2]),
            // Data of an application before there is a key, heartbeats, a later epoch, and what Finished cannot be.
            record(23, 0, &[0; 16]),
            record(24, 0, &[0; 16]),
            record(HANDSHAKE, 2, &[0; 40]),
            record(23, 1, &[0; 40]),
            record(HANDSHAKE, 1, &[0; 65]),
            with(&fragment(102_400, 3, 0, 1)),
            with(&good[..good.len() - 1]),
            with(b"noise"),
        ];
        let mut flight = Flight::behind(1);
        for _ in 0..2 * DATAGRAMS_MAX {
            for datagram in needless {
                assert_eq!(flight.admit(datagram), Err(Unfit::Needless), "{}", datagram.escape_ascii());
            }
        }
        assert!(flight.admit(&good).is_ok());
    }

    #[test]
    fn records_are_told_apart_by_whether_they_are_encrypted() {
        let clear = [fragment(66, 2, 0, 66), record(CHANGE_CIPHER_SPEC, 0, &[1])].concat();
        let (finished, data) = (record(HANDSHAKE, 1, &[7; 40]), record(23, 1, &[8; 30]));
        let datagram = [&clear[..], &finished, &data].concat();
        let parts = Flight::behind(1).admit(&datagram);
        assert_eq!(parts, Ok(Parts { clear: &clear, encrypted: Some(&finished), rest: &data }));
        let parts = Flight::behind(1).admit(&clear);
        assert_eq!(parts, Ok(Parts { clear: &clear, encrypted: None, rest: &[] }));
    }

    #[test]
    fn a_handshake_that_takes_too_much_is_over() {
        let mut flight = Flight::behind(1);
        for _ in 0..DATAGRAMS_MAX {
            assert!(flight.admit(&fragment(2048, 5, 9, 1)).is_ok());
        }
        assert_eq!(flight.admit(&fragment(2048, 5, 9, 1)), Err(Unfit::Exhausted));
        let mut flight = Flight::behind(1);
        for _ in 0..BYTES_MAX / 2_100 {
            assert!(flight.admit(&fragment(2048, 2, 0, 2048)).is_ok());
        }
        assert_eq!(flight.admit(&fragment(2048, 2, 0, 2048)), Err(Unfit::Exhausted));
        let mut flight = Flight::behind(1);
        for _ in 0..ENCRYPTED_MAX {
            assert_eq!(flight.admit_encrypted(), Ok(()));
        }
        assert_eq!(flight.admit_encrypted(), Err(Unfit::Exhausted));
    }
}
