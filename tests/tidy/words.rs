//! Words that a reader has to look up do not come back.

use super::{assert_none, code_only, holds_word, sources};

/// Folders whose words are checked.
const PLAIN: &[&str] = &["src/session/", "src/protocol/", "src/codec/"];

/// Files in them whose words are not checked yet.
const NOT_PLAIN_YET: &[&str] = &[
    "src/protocol/explain.rs",
    "src/protocol/network.rs",
    "src/session/coap/context.rs",
    "src/session/coap/tests/agreement.rs",
    "src/session/mqtt/context.rs",
];

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
    ("UnknownMembers", "unknown fields"),
    ("strangers", "clients, unauthenticated peers"),
    ("door", "an interface, a function"),
    ("vouched", "authenticated"),
    ("seam", "an interface"),
];

#[test]
fn doc_comments_name_their_subject() {
    let mut wrong = Vec::new();
    for (name, text) in plain_sources() {
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
    for (name, text) in plain_sources() {
        for (code, line) in code_only(&text).lines().zip(text.lines()) {
            let words = format!("{code} {}", doc_comment(line.trim()).unwrap_or_default());
            for (retired, instead) in RETIRED.iter().filter(|(retired, _)| holds_word(&words, retired)) {
                wrong.push(format!("{name}: {retired}; say {instead}: {}", line.trim()));
            }
        }
    }
    assert_none("a retired word", &wrong);
}

/// Sources whose words are checked.
fn plain_sources() -> Vec<(String, String)> {
    let is_plain = |name: &str| PLAIN.iter().any(|folder| name.starts_with(folder)) && !NOT_PLAIN_YET.contains(&name);
    sources(&["src"]).into_iter().filter(|(name, _)| is_plain(name)).collect()
}

/// The text of a line that is a doc comment.
fn doc_comment(line: &str) -> Option<&str> {
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim)
}
