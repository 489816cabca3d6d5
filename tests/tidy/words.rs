//! Words that a reader has to look up do not come back.

use super::{assert_none, code_only, holds_word, sources};

/// First words of doc comments that keep their subject from the reader.
const HIDDEN_SUBJECTS: &[&str] = &["What", "Who", "Whose", "Whom"];

/// Retired words, as identifiers and in doc comments, and the words to use.
const RETIRED: &[(&str, &str)] = &[
    ("Judge", "a handler, or what it does"),
    ("judge", "a handler, or what it does"),
    ("Verdict", "a result, an outcome"),
    ("verdict", "a result, an outcome"),
    ("Demand", "a request"),
    ("demand", "a request"),
    ("Sighting", "a state"),
    ("Apart", "a separate response"),
    ("Piece", "a block"),
    ("Misfit", "a wrong length"),
    ("Seen", "recent requests"),
    ("Grant", "a request for a token"),
    ("Strangers", "unknown fields"),
    ("strangers", "clients, unauthenticated peers"),
    ("door", "an interface, a function"),
    ("vouched", "authenticated"),
    ("seam", "an interface"),
    ("Mail", "a message to a worker"),
    ("mail", "a message to a worker"),
    ("Mailbox", "a sender"),
    ("Letter", "a message"),
    ("Gate", "a limit of connections"),
    ("Door", "the protocol of a listener"),
    ("Freeze", "a suspension"),
    ("Fence", "a barrier"),
    ("Fences", "barriers"),
    ("Courtesy", "an overflow"),
    ("Overrun", "a refusal"),
    ("bury", "to remove"),
    ("orphans", "commands of a session that has ended"),
    ("patience", "a timeout"),
    ("PATIENCE", "a timeout"),
    ("LOOK", "an interval, a timeout"),
];

#[test]
fn doc_comments_name_their_subject() {
    let mut wrong = Vec::new();
    for (name, text) in sources(&["src"]) {
        let mut before = "";
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if let Some(doc) = doc_comment(line).filter(|_| doc_comment(before).is_none_or(str::is_empty)) {
                let first = doc.split(' ').next().unwrap_or_default();
                if HIDDEN_SUBJECTS.contains(&first) {
                    wrong.push(format!("{name}:{}: {doc}", number + 1));
                }
            }
            before = line;
        }
    }
    assert_none("a doc comment does not begin with a noun or a verb", &wrong);
}

#[test]
fn retired_words_do_not_come_back() {
    let mut wrong = Vec::new();
    for (name, text) in sources(&["src"]) {
        for (code, line) in code_only(&text).lines().zip(text.lines()) {
            let words = format!("{code} {}", doc_comment(line.trim()).unwrap_or_default());
            for (retired, instead) in RETIRED.iter().filter(|(retired, _)| holds_word(&words, retired)) {
                wrong.push(format!("{name}: {retired}; say {instead}: {}", line.trim()));
            }
        }
    }
    assert_none("a retired word", &wrong);
}

/// The text of a line that is a doc comment.
fn doc_comment(line: &str) -> Option<&str> {
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim)
}
