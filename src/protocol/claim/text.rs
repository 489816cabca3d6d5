//! Claims as text: a line for each member. Ids hold no control characters.

use super::{Claim, Question, Word};

/// Longest claim in bytes: ids of devices have 64, of sessions 26, of replicas a host name and 11.
const CLAIM_BYTES_MAX: usize = 512;

const WORDS: [(&str, Word); 8] = [
    ("begun", Word::Begun),
    ("held", Word::Held),
    ("asked", Word::Asked),
    ("lives", Word::Lives),
    ("yielded", Word::Yielded),
    ("ended", Word::Ended),
    ("refused", Word::Refused),
    ("time", Word::Time),
];

impl Word {
    fn as_str(self) -> &'static str {
        WORDS.iter().find(|(_, word)| *word == self).map_or("", |(text, _)| text)
    }

    fn has_question(self) -> bool {
        matches!(self, Word::Asked | Word::Lives)
    }
}

impl Claim {
    /// The claim as text.
    pub fn encode(&self) -> String {
        let Self { word, device, session, replica, since, said, question } = self;
        let mut text = format!("{}\n{device}\n{session}\n{replica}\n{since}\n{said}", word.as_str());
        if let Some(Question { asker, asked_us, until_us }) = question {
            text.push_str(&format!("\n{asker}\n{asked_us}\n{until_us}"));
        }
        text
    }

    /// Reads a claim; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > CLAIM_BYTES_MAX {
            return None;
        }
        let mut lines = std::str::from_utf8(bytes).ok()?.split('\n');
        let text = lines.next()?;
        let (_, word) = WORDS.into_iter().find(|(known, _)| *known == text)?;
        let lines = &mut lines;
        let (device, session) = match word {
            Word::Time => (next_if(lines, str::is_empty)?, next_if(lines, str::is_empty)?),
            _ => (name(lines)?, name(lines)?),
        };
        let (replica, since, said) = (name(lines)?, number(lines)?, number(lines)?);
        let question = match word.has_question() {
            true => Some(Question { asker: name(lines)?, asked_us: number(lines)?, until_us: number(lines)? }),
            false => None,
        };
        lines.next().is_none().then_some(Self { word, device, session, replica, since, said, question })
    }
}

fn next_if<'a>(lines: &mut impl Iterator<Item = &'a str>, holds: impl Fn(&str) -> bool) -> Option<Box<str>> {
    lines.next().filter(|line| holds(line)).map(Box::from)
}

fn name<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Box<str>> {
    next_if(lines, |line| !line.is_empty())
}

fn number<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<u64> {
    let digits = next_if(lines, |line| line.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_survives_its_text() {
        for (_, word) in WORDS {
            let question =
                word.has_question().then(|| Question { asker: "02J".into(), asked_us: 7, until_us: u64::MAX });
            let [device, session] = if word == Word::Time { ["", ""] } else { ["device1", "01J"] }.map(Box::from);
            let claim = Claim { word, device, session, replica: "r".into(), since: 0, said: u64::MAX, question };
            assert_eq!(Claim::decode(claim.encode().as_bytes()), Some(claim));
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
            assert_eq!(Claim::decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Claim::decode(b"begun\nd\n\xff\nr\n1\n2"), None);
        assert_eq!(Claim::decode(format!("begun\nd\ns\n{}\n1\n2", "r".repeat(CLAIM_BYTES_MAX)).as_bytes()), None);
    }
}
