//! Authentication of MQTT devices: user name `secureId|timestamp`, password md5 hex of `secureId|timestamp|secureKey`
//! (JetLinks).

mod attempt;
mod device_clock;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

pub use self::attempt::Attempt;
pub use self::device_clock::{ClockOff, DeviceClock};
use super::mac::to_hex;

/// Largest difference between the timestamp of a user name and the bridge's clock, either way, in ms.
pub const TIMESTAMP_WINDOW_MS: u64 = 300_000;

/// Credentials of a device in the registry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Public half.
    pub secure_id: &'a str,
    /// Secret half.
    pub secure_key: &'a str,
    /// A disabled device is refused whatever it knows.
    pub enabled: bool,
}

/// Reason of a refused authentication. For the log alone: the device gets the same answer for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The registry does not know the device.
    Unknown,
    /// The device is disabled.
    Disabled,
    /// User name or password is missing, or the user name is not `secureId|timestamp`.
    Form,
    /// The timestamp is too far from the bridge's clock.
    Stale,
    /// Secure id or signature is wrong, or the device has no secret.
    Wrong,
}

/// Checks user name and password against what the registry holds, `None` for an unknown device.
///
/// Every path computes one signature, so that the time it takes does not tell which devices exist.
///
/// # Errors
/// [`Refusal`], the first rule that is broken.
pub fn verify(
    username: Option<&str>,
    password: Option<&[u8]>,
    expected: Option<&Expected<'_>>,
    now_ms: u64,
) -> Result<(), Refusal> {
    let name = username.unwrap_or_default();
    let parts = name.split_once('|').filter(|(_, timestamp)| !timestamp.contains('|'));
    let secret = expected.map_or("", |expected| expected.secure_key);
    let signature = sign(name, secret);
    let given = password.unwrap_or_default();
    let matches = eq_ignoring_case(&signature, given);

    let Some(expected) = expected else { return Err(Refusal::Unknown) };
    let (Some((secure_id, timestamp)), Some(_)) = (parts, password) else { return Err(Refusal::Form) };
    if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Form);
    }
    let timestamp: u64 = timestamp.parse().map_err(|_| Refusal::Form)?;
    if !matches || secure_id != expected.secure_id || expected.secure_id.is_empty() || expected.secure_key.is_empty() {
        return Err(Refusal::Wrong);
    }
    if !expected.enabled {
        return Err(Refusal::Disabled);
    }
    if timestamp.abs_diff(now_ms) > TIMESTAMP_WINDOW_MS {
        return Err(Refusal::Stale);
    }
    Ok(())
}

/// The password that belongs to a user name: md5 hex, lower case.
pub fn sign(username: &str, secure_key: &str) -> [u8; 32] {
    to_hex(&Md5::new().chain_update(username).chain_update(b"|").chain_update(secure_key).finalize())
}

/// Compares without telling by its time where the first difference is.
pub(crate) fn eq_ignoring_case(signature: &[u8; 32], given: &[u8]) -> bool {
    let Ok(mut given) = <[u8; 32]>::try_from(given) else { return false };
    given.make_ascii_lowercase();
    signature.ct_eq(&given).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Expected<'_> = Expected { secure_id: "test", secure_key: "testtesttesttest", enabled: true };
    const NOW: u64 = 1_600_000_000_000;

    fn verified(username: &str, password: &[u8], expected: Option<&Expected<'_>>) -> Result<(), Refusal> {
        verify(Some(username), Some(password), expected, NOW)
    }

    fn signed(username: &str) -> Result<(), Refusal> {
        verified(username, &sign(username, DEVICE.secure_key), Some(&DEVICE))
    }

    #[test]
    fn the_signature_is_the_md5_of_name_and_key() {
        // printf 'test|1600000000000|testtesttesttest' | md5sum
        assert_eq!(&sign("test|1600000000000", "testtesttesttest"), b"13426ba310b035960c32cdd9f7c6aa5c");
    }

    #[test]
    fn a_right_signature_passes_in_either_case_and_within_five_minutes() {
        assert_eq!(signed("test|1600000000000"), Ok(()));
        assert_eq!(signed("test|1600000300000"), Ok(()));
        assert_eq!(signed("test|1599999700000"), Ok(()));
        let upper = sign("test|1600000000000", DEVICE.secure_key).to_ascii_uppercase();
        assert_eq!(verified("test|1600000000000", &upper, Some(&DEVICE)), Ok(()));
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let name = "test|1600000000000";
        let password = sign(name, DEVICE.secure_key);
        assert_eq!(verified(name, &password, None), Err(Refusal::Unknown));
        assert_eq!(verified(name, &password, Some(&Expected { enabled: false, ..DEVICE })), Err(Refusal::Disabled));
        assert_eq!(verified(name, &[b'0'; 32], Some(&DEVICE)), Err(Refusal::Wrong));
        assert_eq!(verified(name, b"", Some(&DEVICE)), Err(Refusal::Wrong));
        assert_eq!(signed("other|1600000000000"), Err(Refusal::Wrong));
        assert_eq!(signed("test|1600000300001"), Err(Refusal::Stale));
        assert_eq!(signed("test|1599999699999"), Err(Refusal::Stale));
        assert_eq!(signed("test"), Err(Refusal::Form));
        assert_eq!(signed("test|1600000000000|x"), Err(Refusal::Form));
        assert_eq!(signed("test|+1600000000000"), Err(Refusal::Form));
        assert_eq!(verify(None, None, Some(&DEVICE), NOW), Err(Refusal::Form));
    }

    #[test]
    fn a_missing_secret_never_matches() {
        let none = Expected { secure_id: "", secure_key: "", enabled: true };
        assert_eq!(verified("|1600000000000", &sign("|1600000000000", ""), Some(&none)), Err(Refusal::Wrong));
    }
}
