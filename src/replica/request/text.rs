//! Messages as text: JSON in one line, and a line for the signature.

use super::Message;
use crate::replica::claim::{ClaimError, ClaimSecrets, Purpose, SIGNATURE_DIGITS};

/// Longest message in bytes: 1,000 sessions, each with ids of 64 characters, take less than half of it.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// The text before a signature, at the start of the last line.
const SIGNED: &str = "signed ";

impl Message {
    /// The message as text, signed if there is something to sign with.
    pub fn encode(&self, secrets: Option<&ClaimSecrets>) -> String {
        // Strings and numbers always become JSON.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        if let Some(secrets) = secrets {
            let signature = secrets.sign(Purpose::Request, &text);
            text.push('\n');
            text.push_str(SIGNED);
            text.extend(signature.map(char::from));
        }
        text
    }

    /// Reads a message, which must be signed if there are secrets; without, nobody looks at its signature.
    ///
    /// # Errors
    /// [`ClaimError`] says why it does not count.
    pub fn decode(bytes: &[u8], secrets: Option<&ClaimSecrets>) -> Result<Self, ClaimError> {
        if bytes.len() > MESSAGE_BYTES_MAX + 1 + SIGNED.len() + SIGNATURE_DIGITS {
            return Err(ClaimError::Malformed);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ClaimError::Malformed)?;
        let last = text.rsplit_once('\n').and_then(|(text, last)| Some((text, last.strip_prefix(SIGNED)?)));
        let (text, signature) = last.map_or((text, None), |(text, signature)| (text, Some(signature)));
        // Before anything is read of it: its sender may be anybody.
        match (secrets, signature) {
            (Some(_), None) => return Err(ClaimError::Unsigned),
            (Some(secrets), Some(signature)) if !secrets.made(signature, Purpose::Request, text) => {
                return Err(ClaimError::WrongSignature);
            }
            _ => {}
        }
        serde_json::from_str(text).map_err(|_| ClaimError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::claim::{Claim, ClaimKind};
    use crate::replica::request::{
        Answer, Batch, Body, Filter, Follow, ReplicaState, Request, Selection, SessionPart, SessionRow, Subject,
    };
    use crate::replica::shed::{Goal, ShedPlan, ShedState, ShedStatus};

    fn secrets(current: &str) -> ClaimSecrets {
        ClaimSecrets::new(current.as_bytes(), None)
    }

    fn message(body: Body) -> Message {
        Message { replica: "replica1".to_owned(), said: 7, draining: true, sheds: false, body }
    }

    fn ask(request: Request) -> Message {
        message(Body::Ask { id: "a".to_owned(), to: vec!["replica2".to_owned()], request })
    }

    #[test]
    fn a_message_survives_its_text() {
        let plan = ShedPlan { goal: Goal::DownTo(7), rate: 100, most: 9 };
        let selection =
            Selection { after: Some("d".to_owned()), limit: 5, product: None, prefix: Some("é\n".to_owned()) };
        let row = SessionRow {
            device: "d".to_owned(),
            product: "p".to_owned(),
            session: "s".to_owned(),
            peer: "[::1]:7".to_owned(),
            connected_ms: u64::MAX,
            worker: 3,
        };
        let status = ShedStatus { plan, state: ShedState::Running, ended: 3, left: 4 };
        let state = ReplicaState { sessions: 4, draining: true, shed: Some(status) };
        let part = SessionPart { total: 9, sessions: vec![row], has_more: true };
        let batch = Batch { lines: vec![r#"{"text":"a \"b\""}"#.to_owned()], dropped: 3 };
        let answer = |answer| message(Body::Answer { id: "a".to_owned(), answer });
        for message in [
            message(Body::Here),
            ask(Request::State),
            ask(Request::Sessions(selection)),
            ask(Request::Shed(plan)),
            ask(Request::StopShedding),
            ask(Request::Follow(Follow {
                id: "f".to_owned(),
                filter: Filter::Trace(Subject::Device("é\n".to_owned())),
            })),
            ask(Request::StopFollowing("f".to_owned())),
            message(Body::Lines { id: "f".to_owned(), number: 7, batch }),
            answer(Answer::State(state)),
            answer(Answer::Sessions(part)),
            answer(Answer::Follows(true)),
        ] {
            for secrets in [None, Some(secrets("hush"))] {
                let text = message.encode(secrets.as_ref());
                assert_eq!(Message::decode(text.as_bytes(), secrets.as_ref()).as_ref(), Ok(&message), "{text}");
            }
        }
    }

    #[test]
    fn a_message_counts_only_if_the_secret_signed_it_as_a_message() {
        let own = secrets("secret2");
        let open = |text: &str| Message::decode(text.as_bytes(), Some(&own)).map(drop);
        let shed = ask(Request::Shed(ShedPlan { goal: Goal::End(5), rate: 100, most: 5 }));
        let signed = shed.encode(Some(&own));
        assert_eq!(open(&signed), Ok(()));
        assert_eq!(open(&shed.encode(None)), Err(ClaimError::Unsigned));
        assert_eq!(open(&shed.encode(Some(&secrets("secret1")))), Err(ClaimError::WrongSignature));
        for at in 0..signed.len() {
            let mut changed = signed.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert!(Message::decode(&changed, Some(&own)).is_err(), "byte {at}");
        }
        let claim = Claim {
            kind: ClaimKind::Begun,
            device: "d".into(),
            session: "s".into(),
            replica: "r".into(),
            since: 1,
            said: 2,
            question: None,
        };
        assert_eq!(open(&claim.encode(Some(&own))), Err(ClaimError::WrongSignature), "signed for another purpose");
        for text in ["", "{}", "\n", "[]", &"x".repeat(2 * MESSAGE_BYTES_MAX)] {
            assert_eq!(Message::decode(text.as_bytes(), None), Err(ClaimError::Malformed));
        }
    }
}
