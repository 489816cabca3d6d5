//! The request for a token: `POST /auth` over DTLS.
//!
//! Option 2110 is the md5 hex of payload and `secureKey`; the payload is `{"timestamp":"…"}`, ms since 1970 within five
//! minutes of the bridge's clock (JetLinks).

use md5::{Digest, Md5};

use crate::protocol::auth::{DeviceClock, eq_ignoring_case};
use crate::protocol::mac::to_hex;
use crate::protocol::message::{Undecodable, key, last_of_each, timestamp};

/// The signature that belongs to a payload: md5 hex, lower case.
pub fn sign(payload: &[u8], secure_key: &str) -> [u8; 32] {
    to_hex(&Md5::new().chain_update(payload).chain_update(secure_key).finalize())
}

/// Whether the signature, in either case, is that of the payload. Costs the same whatever is wrong; a device without a
/// key signs nothing.
pub(super) fn is_signed(payload: &[u8], signature: &[u8], secure_key: &str) -> bool {
    let is_equal = eq_ignoring_case(&sign(payload, secure_key), signature);
    is_equal && !secure_key.is_empty()
}

/// Age of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Within the window.
    Fresh,
    /// Outside of it, by this clock; `None`: it names no time.
    Stale(Option<DeviceClock>),
    /// It cannot be read.
    Undecodable(Undecodable),
}

/// Compares the timestamp of a request with the clock.
pub(super) fn freshness(payload: &[u8], now_ms: u64) -> Freshness {
    let members = match last_of_each(payload) {
        Ok(members) => members,
        Err(error) => return Freshness::Undecodable(error.into()),
    };
    let given = members.iter().find(|member| key(member) == "timestamp").map(timestamp);
    match given {
        Some(Ok(Some(ms))) => match DeviceClock::of(ms, now_ms) {
            clock if clock.is_stale() => Freshness::Stale(Some(clock)),
            _ => Freshness::Fresh,
        },
        Some(Err(())) => Freshness::Undecodable(Undecodable::Field {
            name: "timestamp".to_owned(),
            expected: crate::protocol::message::FieldType::Number,
        }),
        Some(Ok(None)) | None => Freshness::Stale(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn the_signature_is_the_md5_of_payload_and_key_in_either_case() {
        // printf '{"timestamp":"1700000000000"}testtesttesttest' | md5sum
        let payload = br#"{"timestamp":"1700000000000"}"#;
        let signature = b"75cbf2a3f057299b897fa5427491d808";
        assert_eq!(&sign(payload, "testtesttesttest"), signature);
        assert!(is_signed(payload, signature, "testtesttesttest"));
        assert!(is_signed(payload, &signature.to_ascii_uppercase(), "testtesttesttest"));
        assert!(!is_signed(payload, &signature[..31], "testtesttesttest"));
        assert!(!is_signed(payload, signature, "testtesttesttesu"));
        assert!(!is_signed(payload, &sign(payload, ""), ""), "no key signed");
    }

    #[test]
    fn a_request_is_fresh_within_five_minutes_and_only_when_it_names_its_time() {
        let age = |payload: &str| freshness(payload.as_bytes(), NOW);
        assert_eq!(age(r#"{"timestamp":"1700000300000"}"#), Freshness::Fresh);
        assert_eq!(age(r#"{"timestamp":1699999700000,"more":1}"#), Freshness::Fresh);
        for stale in ["1700000300001", "1699999699999", "0", "-1", "null", "\"\""] {
            assert!(matches!(age(&format!("{{\"timestamp\":{stale}}}")), Freshness::Stale(_)), "{stale}");
        }
        assert_eq!(age("{}"), Freshness::Stale(None));
        for undecodable in ["", "[]", r#"{"timestamp":true}"#, r#"{"timestamp":"x"}"#] {
            assert!(matches!(age(undecodable), Freshness::Undecodable(_)), "{undecodable}");
        }
    }
}
