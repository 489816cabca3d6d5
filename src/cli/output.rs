//! How subcommands print.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::protocol::json::must_be_escaped;

/// Shape of what is printed, the argument `--output`. What the JSON holds says the help of each subcommand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// The text with everything that a terminal would obey as `\u009b`, which in JSON means the same. Line breaks are escaped,
/// too: what a peer wrote must not look like a line of the program.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_if(text, must_be_escaped)
}

/// As [`escaped`], of lines that the program has put together: line breaks and tabs stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_if(text, |c| must_be_escaped(c) && c != '\n' && c != '\t')
}

fn escaped_if(text: &str, is_escaped: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            // Writing into a text does not fail.
            let _written = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// JSON in one line that a terminal obeys in nothing: the same value, and where it is none the same words.
pub fn one_line(json: &str) -> String {
    // In JSON they stand between its parts alone.
    escaped(&json.replace(['\n', '\r', '\t'], " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_json_stays_the_same_value() {
        let json = "{\n\t\"a\u{9b}31m\": \"\u{9d}0;title\u{9c}\u{202e}evil\u{2028}温度\",\r\n \"b\": [1.50]}";
        let line = one_line(json);
        assert!(!line.contains(must_be_escaped), "{line:?}");
        assert!(line.contains("温度") && line.contains("1.50") && line.contains("\\u202e"), "{line}");
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(value(&line), value(json));
        assert_eq!(one_line("no JSON\u{1b}[2J\n"), "no JSON\\u001b[2J ");
        assert_eq!(escaped("a\tb\nc\u{85}"), "a\\u0009b\\u000ac\\u0085");
        assert_eq!(escaped_lines("a\tb\nc\u{85}"), "a\tb\nc\\u0085");
        assert!(matches!((escaped("plain"), escaped_lines("plain\n")), (Cow::Borrowed(_), Cow::Borrowed(_))));
    }
}
