//! A refused authentication, and what is wrong with it: for the log.

use std::fmt;

use md5::{Digest, Md5};

use super::device_clock::{ClockOff, DeviceClock};
use super::{Expected, Refusal, eq_ignoring_case, sign};
use crate::protocol::mac::to_hex;

/// Bytes that are kept of a user name and of a password: more than either has when it is right.
const KEPT_BYTES_MAX: usize = 256;

/// A refused authentication. Shown, it is a sentence for people that holds no secret: neither what was given nor what was
/// expected.
pub struct Attempt {
    refusal: Refusal,
    username: Option<Box<str>>,
    password: Option<Box<[u8]>>,
    password_bytes: usize,
    secure_id: Box<str>,
    secure_key: Box<str>,
    now_ms: u64,
}

impl Attempt {
    /// Keeps what was given and expected, for as long as it takes to say what is wrong.
    pub fn new(
        refusal: Refusal,
        username: Option<&str>,
        password: Option<&[u8]>,
        expected: Option<&Expected<'_>>,
        now_ms: u64,
    ) -> Self {
        let kept = |name: &str| name[..name.floor_char_boundary(KEPT_BYTES_MAX)].into();
        Self {
            refusal,
            username: username.map(kept),
            password: password.map(|password| password[..password.len().min(KEPT_BYTES_MAX)].into()),
            password_bytes: password.map_or(0, <[u8]>::len),
            secure_id: expected.map_or("", |expected| expected.secure_id).into(),
            secure_key: expected.map_or("", |expected| expected.secure_key).into(),
            now_ms,
        }
    }

    /// Difference of the device's clock, where its timestamp lies outside the window.
    pub fn clock_off(&self) -> Option<ClockOff> {
        if self.refusal == Refusal::Unknown {
            return None;
        }
        self.stale_clock().and_then(|clock| clock.off)
    }

    /// Its clock, where its timestamp lies outside the window.
    fn stale_clock(&self) -> Option<DeviceClock> {
        let (_, timestamp) = self.parts()?;
        let is_number = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let timestamp = timestamp.parse().ok().filter(|_| is_number)?;
        Some(DeviceClock::of(timestamp, self.now_ms)).filter(DeviceClock::is_stale)
    }

    /// Secure id and timestamp of the user name.
    fn parts(&self) -> Option<(&str, &str)> {
        self.username.as_deref()?.split_once('|')
    }

    /// The mistake in the form of the credentials.
    fn form(&self) -> &'static str {
        let timestamp = match (&self.username, &self.password, self.parts()) {
            (None, None, _) => return "CONNECT has neither user name nor password",
            (None, ..) => return "CONNECT has no user name",
            (_, None, _) => return "CONNECT has no password",
            (.., None) => return "the user name is not secureId|timestamp: it has no |",
            (.., Some((_, timestamp))) => timestamp,
        };
        match timestamp {
            "" => "the user name has no timestamp behind the |",
            timestamp if timestamp.contains('|') => "the user name has more than one |",
            timestamp if timestamp.bytes().all(|byte| byte.is_ascii_digit()) => "the timestamp is too large a number",
            _ => "the timestamp in the user name is not a whole number of milliseconds",
        }
    }

    /// How the text differs whose MD5 the password is, where it is one that is often signed by mistake. Computes all of them
    /// whoever asks, so that an unknown device costs what a known one does.
    fn signed_instead(&self) -> Option<&'static str> {
        const ORDER: &str = "in another order";
        let name = self.username.as_deref().unwrap_or_default();
        let (id, timestamp) = self.parts().unwrap_or_default();
        let key = &*self.secure_key;
        let texts: [(&[&str], &str); 11] = [
            (&[name, "|", key, "\n"], "with a line break at the end"),
            (&[name, key], "without the | in front of the secureKey"),
            (&[id, timestamp, key], "without any |"),
            (&[id, "|", key, "|", timestamp], ORDER),
            (&[timestamp, "|", id, "|", key], ORDER),
            (&[timestamp, "|", key, "|", id], ORDER),
            (&[key, "|", id, "|", timestamp], ORDER),
            (&[key, "|", timestamp, "|", id], ORDER),
            (&[id, "|", key], "without the timestamp"),
            (&[name], "without the secureKey"),
            (&[key], "without the user name"),
        ];
        let password = self.password.as_deref().unwrap_or_default();
        texts.into_iter().fold(None, |found, (parts, difference)| {
            let digest = parts.iter().fold(Md5::new(), |digest, part| digest.chain_update(part)).finalize();
            let is_it = eq_ignoring_case(&to_hex(&digest), password);
            if is_it { Some(difference) } else { found }
        })
    }

    fn write_wrong(&self, f: &mut fmt::Formatter<'_>, signed_instead: Option<&str>) -> fmt::Result {
        let password = self.password.as_deref().unwrap_or_default();
        let secure_id = self.parts().map_or("", |(secure_id, _)| secure_id);
        if self.secure_id.is_empty() || self.secure_key.is_empty() {
            return f.write_str("the registry has no secret of this device");
        }
        if secure_id == &*self.secure_key {
            return f.write_str("the user name begins with the secureKey instead of the secureId");
        }
        if secure_id != &*self.secure_id {
            let signature = sign(self.username.as_deref().unwrap_or_default(), &self.secure_key);
            return f.write_str(match eq_ignoring_case(&signature, password) {
                true => "the secureId in the user name is not that of the device; the secureKey is",
                false => "the secureId in the user name is not that of the device",
            });
        }
        if password == self.secure_key.as_bytes() {
            return f.write_str("the password is the secureKey itself instead of the MD5");
        }
        if let Some(difference) = signed_instead {
            return write!(f, "the password is the MD5 of secureId|timestamp|secureKey {difference}");
        }
        let is_hex = password.iter().all(u8::is_ascii_hexdigit);
        match (self.password_bytes, is_hex) {
            (0, _) => f.write_str("the password is empty"),
            (16, false) => f.write_str("the password has 16 bytes: the MD5 must be written as 32 hex digits"),
            (24, false) => {
                f.write_str("the password has 24 bytes, as an MD5 in base64: it must be written as 32 hex digits")
            }
            (32, true) => f.write_str(
                "the password is not the MD5 of secureId|timestamp|secureKey: the secureKey is another one, or the \
                 timestamp that was signed is",
            ),
            (32, false) => f.write_str("the password is not made of hex digits"),
            (40, true) => f.write_str("the password has 40 hex digits, as SHA-1 has: MD5 has 32"),
            (64, true) => f.write_str("the password has 64 hex digits, as SHA-256 has: MD5 has 32"),
            (bytes, _) => write!(f, "the password has {bytes} bytes: an MD5 in hex has 32"),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed_instead = self.signed_instead();
        let clock = self.stale_clock();
        match self.refusal {
            Refusal::Unknown => f.write_str("the registry knows no device with this client id"),
            Refusal::Disabled => f.write_str("the device is disabled in the registry"),
            Refusal::Form => f.write_str(self.form()),
            Refusal::Stale => match clock {
                Some(clock) => clock.fmt(f),
                None => f.write_str("the timestamp is too far off"),
            },
            Refusal::Wrong => {
                self.write_wrong(f, signed_instead)?;
                match clock {
                    Some(clock) => write!(f, "; besides, {clock}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::verify;
    use super::*;

    const DEVICE: Expected<'_> = Expected { secure_id: "test", secure_key: "testtesttesttest", enabled: true };
    const NOW: u64 = 1_600_000_000_000;
    const NAME: &str = "test|1600000000000";

    /// The refusal, the sentence and the difference of the clock of these credentials.
    fn told(
        username: Option<&str>,
        password: Option<&[u8]>,
        expected: Option<&Expected<'_>>,
    ) -> (Refusal, String, Option<String>) {
        let refusal = verify(username, password, expected, NOW).expect_err("refused");
        let attempt = Attempt::new(refusal, username, password, expected, NOW);
        let text = attempt.to_string();
        let holds_secret = [username, password.and_then(|password| std::str::from_utf8(password).ok())]
            .into_iter()
            .flatten()
            .chain([DEVICE.secure_key])
            .any(|secret| secret.len() > 4 && (text.contains(secret) || format!("{attempt:?}").contains(secret)));
        assert!(!holds_secret, "{text}");
        (refusal, text, attempt.clock_off().map(|off| off.to_string()))
    }

    fn wrong(password: &[u8]) -> String {
        let (refusal, text, off) = told(Some(NAME), Some(password), Some(&DEVICE));
        assert_eq!((refusal, off), (Refusal::Wrong, None), "{text}");
        text
    }

    fn md5(text: &str) -> [u8; 32] {
        to_hex(&Md5::digest(text))
    }

    #[test]
    fn the_digest_of_a_wrong_text_is_told_from_a_wrong_key() {
        for (text, difference) in [
            ("test|1600000000000|testtesttesttest\n", "with a line break"),
            ("test|1600000000000testtesttesttest", "without the | in front"),
            ("test1600000000000testtesttesttest", "without any |"),
            ("test|testtesttesttest|1600000000000", "in another order"),
            ("1600000000000|test|testtesttesttest", "in another order"),
            ("1600000000000|testtesttesttest|test", "in another order"),
            ("testtesttesttest|test|1600000000000", "in another order"),
            ("testtesttesttest|1600000000000|test", "in another order"),
            ("test|testtesttesttest", "without the timestamp"),
            ("test|1600000000000", "without the secureKey"),
            ("testtesttesttest", "without the user name"),
        ] {
            assert!(wrong(&md5(text)).contains(difference), "{text}");
            assert!(wrong(&md5(text).to_ascii_uppercase()).contains(difference), "{text}");
        }
        assert!(wrong(&sign(NAME, "another key")).contains("the secureKey is another one"));
    }

    #[test]
    fn a_password_that_is_no_digest_is_told_by_its_form() {
        assert!(wrong(DEVICE.secure_key.as_bytes()).contains("secureKey itself"));
        let signed = format!("{NAME}|{}", DEVICE.secure_key);
        assert!(wrong(&Md5::digest(&signed)).contains("16 bytes"));
        for (password, form) in [
            ("".to_owned(), "empty"),
            ("x".repeat(24), "base64"),
            ("x".repeat(32), "hex digits"),
            ("a".repeat(40), "SHA-1"),
            ("a".repeat(64), "SHA-256"),
            ("a".repeat(33), "33 bytes"),
            ("a".repeat(70_000), "70000 bytes"),
        ] {
            assert!(wrong(password.as_bytes()).contains(form), "{form}");
        }
    }

    #[test]
    fn a_wrong_secure_id_is_told_and_whether_the_key_is_right() {
        let of = |name: &str, key| told(Some(name), Some(&sign(name, key)), Some(&DEVICE)).1;
        assert!(
            of("other|1600000000000", DEVICE.secure_key)
                .contains("the secureId in the user name is not that of the device; the")
        );
        assert!(of("other|1600000000000", "other").ends_with("is not that of the device"));
        assert!(of("testtesttesttest|1600000000000", DEVICE.secure_key).contains("begins with the secureKey"));
    }

    #[test]
    fn a_clock_that_is_off_is_told_in_numbers_also_beside_a_wrong_digest() {
        let of = |name: &str, key| told(Some(name), Some(&sign(name, key)), Some(&DEVICE));
        let (refusal, text, off) = of("test|1599999600000", DEVICE.secure_key);
        assert_eq!(
            (refusal, text.as_str(), off.as_deref()),
            (Refusal::Stale, "the device's clock is behind (-400 s)", Some("-400 s"))
        );
        let (refusal, text, off) = of("test|1600000000", DEVICE.secure_key);
        assert_eq!((refusal, off), (Refusal::Stale, None));
        assert_eq!(text, "the timestamp looks like seconds instead of milliseconds");
        let (refusal, text, _) = of("test|1600000000", "other");
        assert_eq!(refusal, Refusal::Wrong);
        assert!(text.ends_with("; besides, the timestamp looks like seconds instead of milliseconds"), "{text}");
        let (_, text, off) = of("test|1600000400000", "other");
        assert!(text.ends_with("clock is ahead (+400 s)") && off.as_deref() == Some("+400 s"), "{text}");
    }

    #[test]
    fn malformed_credentials_are_told_with_what_is_missing() {
        let form = |username, password| told(username, password, Some(&DEVICE)).1;
        assert!(form(None, None).contains("neither"));
        assert!(form(None, Some(b"x")).contains("no user name"));
        assert!(form(Some(NAME), None).contains("no password"));
        for (name, mistake) in [
            ("test", "has no |"),
            ("", "has no |"),
            ("test|", "no timestamp"),
            ("test|1|2", "more than one |"),
            ("test|1.6e12", "whole number"),
            ("test|99999999999999999999", "too large"),
        ] {
            assert!(form(Some(name), Some(b"x")).contains(mistake), "{name}");
        }
    }

    #[test]
    fn a_device_that_is_unknown_disabled_or_without_a_secret_is_told_as_such() {
        let right = sign(NAME, DEVICE.secure_key);
        let of = |expected: Option<&Expected<'_>>| told(Some(NAME), Some(&right), expected).1;
        assert!(of(None).contains("knows no device"));
        assert!(of(Some(&Expected { enabled: false, ..DEVICE })).contains("disabled"));
        assert!(of(Some(&Expected { secure_key: "", ..DEVICE })).contains("no secret"));
        let stale = "test|1599999600000";
        assert_eq!(told(Some(stale), Some(&right), None).2, None, "of an unknown device nothing is said but that");
    }
}
