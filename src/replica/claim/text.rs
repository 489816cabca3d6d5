//! Claims as text: a line for each member, and one for the signature. Ids hold no control characters.

use super::secrets::{ClaimSecrets, Purpose, SIGNATURE_DIGITS};
use super::{Claim, ClaimKind, Question};
use crate::protocol::id::ID_BYTES_MAX;

/// Why something is no claim that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// It is no claim.
    Malformed,
    /// It is not signed, and must be.
    Unsigned,
    /// No secret that is known signed it.
    WrongSignature,
}

/// Characters of the id of a session at most: a ULID has 26.
const SESSION_BYTES_MAX: usize = 26;

/// Longest claim in bytes: ids of devices have 64, of sessions 26, of replicas a host name and 11.
const CLAIM_BYTES_MAX: usize = 512;

/// The text before a signature, at the start of the last line; that of any other claim is a number.
const SIGNED: &str = "signed ";

const WORDS: [(&str, ClaimKind); 9] = [
    ("begun", ClaimKind::Begun),
    ("held", ClaimKind::Held),
    ("asked", ClaimKind::Asked),
    ("lives", ClaimKind::Lives),
    ("yielded", ClaimKind::Yielded),
    ("ended", ClaimKind::Ended),
    ("late", ClaimKind::Late),
    ("refused", ClaimKind::Refused),
    ("time", ClaimKind::Time),
];

impl ClaimKind {
    fn as_str(self) -> &'static str {
        WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(text, _)| text)
    }

    fn has_question(self) -> bool {
        matches!(self, ClaimKind::Asked | ClaimKind::Lives)
    }
}

impl Claim {
    /// The claim as text, signed if there is something to sign with.
    pub fn encode(&self, secrets: Option<&ClaimSecrets>) -> String {
        let Self { kind, device, session, replica, since, said, question } = self;
        let mut text = format!("{}\n{device}\n{session}\n{replica}\n{since}\n{said}", kind.as_str());
        if let Some(Question { asker, asked_us, until_us }) = question {
            text.push_str(&format!("\n{asker}\n{asked_us}\n{until_us}"));
        }
        if let Some(secrets) = secrets {
            let signature = secrets.sign(Purpose::Claim, &text);
            text.push('\n');
            text.push_str(SIGNED);
            text.extend(signature.map(char::from));
        }
        text
    }

    /// Reads a claim, which must be signed if there are secrets; without, nobody looks at its signature.
    ///
    /// # Errors
    /// [`ClaimError`] says why it does not count.
    pub fn decode(bytes: &[u8], secrets: Option<&ClaimSecrets>) -> Result<Self, ClaimError> {
        // One byte is the end of the line above the signature.
        if bytes.len() > CLAIM_BYTES_MAX + 1 + SIGNED.len() + SIGNATURE_DIGITS {
            return Err(ClaimError::Malformed);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ClaimError::Malformed)?;
        let last = text.rsplit_once('\n').and_then(|(text, last)| Some((text, last.strip_prefix(SIGNED)?)));
        let (text, signature) = last.map_or((text, None), |(text, signature)| (text, Some(signature)));
        let claim = Self::parse(text).ok_or(ClaimError::Malformed)?;
        match (secrets, signature) {
            (Some(_), None) => Err(ClaimError::Unsigned),
            (Some(secrets), Some(signature)) if !secrets.made(signature, Purpose::Claim, text) => {
                Err(ClaimError::WrongSignature)
            }
            _ => Ok(claim),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > CLAIM_BYTES_MAX {
            return None;
        }
        let mut lines = text.split('\n');
        let kind = lines.next()?;
        let (_, kind) = WORDS.into_iter().find(|(known, _)| *known == kind)?;
        let lines = &mut lines;
        let (device, session) = match kind {
            ClaimKind::Time => (next_if(lines, str::is_empty)?, next_if(lines, str::is_empty)?),
            // Replicas remember both of many devices.
            _ => (name_within(lines, ID_BYTES_MAX)?, name_within(lines, SESSION_BYTES_MAX)?),
        };
        let (replica, since, said) = (name(lines)?, number(lines)?, number(lines)?);
        let question = match kind.has_question() {
            true => Some(Question { asker: name(lines)?, asked_us: number(lines)?, until_us: number(lines)? }),
            false => None,
        };
        lines.next().is_none().then_some(Self { kind, device, session, replica, since, said, question })
    }
}

fn next_if<'a>(lines: &mut impl Iterator<Item = &'a str>, holds: impl Fn(&str) -> bool) -> Option<Box<str>> {
    lines.next().filter(|line| holds(line)).map(Box::from)
}

fn name<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Box<str>> {
    next_if(lines, |line| !line.is_empty())
}

fn name_within<'a>(lines: &mut impl Iterator<Item = &'a str>, bytes_max: usize) -> Option<Box<str>> {
    name(lines).filter(|name| name.len() <= bytes_max)
}

fn number<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<u64> {
    let digits = next_if(lines, |line| line.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(current: &str, previous: Option<&str>) -> ClaimSecrets {
        ClaimSecrets::new(current.as_bytes(), previous.map(str::as_bytes))
    }

    fn begun() -> Claim {
        let (device, session, replica) = ("device1".into(), "01J".into(), "replica1".into());
        Claim { kind: ClaimKind::Begun, device, session, replica, since: 1, said: 2, question: None }
    }

    #[test]
    fn a_claim_survives_its_text() {
        for (_, kind) in WORDS {
            let question =
                kind.has_question().then(|| Question { asker: "02J".into(), asked_us: 7, until_us: u64::MAX });
            let [device, session] = if kind == ClaimKind::Time { ["", ""] } else { ["device1", "01J"] }.map(Box::from);
            let claim = Claim { kind, device, session, replica: "r".into(), since: 0, said: u64::MAX, question };
            for secrets in [None, Some(secrets("secret-of-the-claims", None))] {
                let text = claim.encode(secrets.as_ref());
                assert_eq!(Claim::decode(text.as_bytes(), secrets.as_ref()).as_ref(), Ok(&claim));
                assert_eq!(Claim::decode(text.as_bytes(), None).as_ref(), Ok(&claim), "whoever has no secret");
            }
        }
    }

    #[test]
    fn nothing_else_is_a_claim() {
        for text in [
            "",
            "begun",
            "begun\nd\ns\nr",
            "begun\nd\ns\nr\n1\n2\nx",
            "began\nd\ns\nr\n1\n2",
            "begun\n\ns\nr\n1\n2",
            "begun\nd\ns\nr\n1\n-2",
            "begun\nd\ns\nr\n1\n",
            "begun\nd\ns\nr\n1\n18446744073709551616",
            "asked\nd\ns\nr\n1\n2",
            "asked\nd\ns\nr\n1\n2\na\n1\n2\n",
            "begun\nd\ns\nr\n1\n2\na\n1\n2",
            "time\nd\ns\nr\n1\n2",
        ] {
            assert_eq!(Claim::decode(text.as_bytes(), None), Err(ClaimError::Malformed), "{text:?}");
        }
        assert_eq!(Claim::decode(b"begun\nd\n\xff\nr\n1\n2", None), Err(ClaimError::Malformed));
        let long = format!("begun\nd\ns\n{}\n1\n2", "r".repeat(CLAIM_BYTES_MAX));
        assert_eq!(Claim::decode(long.as_bytes(), None), Err(ClaimError::Malformed));
        let of = |device: usize, session: usize| {
            let text = format!("begun\n{}\n{}\nr\n1\n2", "d".repeat(device), "s".repeat(session));
            Claim::decode(text.as_bytes(), None).is_ok()
        };
        assert_eq!([of(64, 26), of(65, 26), of(64, 27)], [true, false, false], "ids are remembered");
    }

    #[test]
    fn a_signature_is_one_that_another_implementation_computes_alike() {
        // printf 'jetlinks-bridge claim 1\nbegun\ndevice1\n01J\nreplica1\n1\n2' | openssl dgst -sha256 -mac HMAC -macopt
        //   hexkey:$(printf secret-of-the-claims | sha256sum | cut -d' ' -f1)
        let signed = begun().encode(Some(&secrets("secret-of-the-claims", None)));
        let signature = "624523d8c6cd1e9b81eb34d2f24c6b04ba75950e974988f3aa45d72179766581";
        assert_eq!(signed, format!("begun\ndevice1\n01J\nreplica1\n1\n2\nsigned {signature}"));
    }

    #[test]
    fn a_claim_counts_only_if_one_of_the_two_secrets_signed_it() {
        let own = secrets("secret2", Some("secret1"));
        let open = |text: &str| Claim::decode(text.as_bytes(), Some(&own));
        let signed = |secret| begun().encode(Some(&secrets(secret, None)));
        assert_eq!(open(&signed("secret2")), Ok(begun()));
        assert_eq!(open(&signed("secret1")), Ok(begun()));
        assert_eq!(open(&signed("secret0")), Err(ClaimError::WrongSignature));
        assert_eq!(open(&begun().encode(None)), Err(ClaimError::Unsigned));
        assert_eq!(open(&begun().encode(Some(&own))), Ok(begun()));
        for at in 0..signed("secret2").len() {
            let mut changed = signed("secret2").into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(Claim::decode(&changed, Some(&own)).is_err(), "byte {at}");
        }
        for signature in ["", "0", "é", &"0".repeat(65)] {
            let text = format!("{}\nsigned {signature}", begun().encode(None));
            assert_eq!(open(&text), Err(ClaimError::WrongSignature), "{signature:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", secrets("hush", Some("hush"))), "ClaimSecrets(SigningKeys { previous: true, .. })");
    }
}
