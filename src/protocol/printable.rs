//! Characters that are not shown as they are.

/// Whether a terminal, or a viewer of text, obeys the character in the place of showing it: controls (C0, DEL and C1, of
/// which U+009B begins a sequence as ESC does), separators of lines and paragraphs, and marks that turn the direction in
/// which text around them is shown. All are below U+10000, so JSON may write each as one `\u` and four digits.
pub fn must_be_escaped(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_text_is_escaped_and_words_are_not() {
        for c in
            "\0\t\n\r\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9d}\u{9f}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\
                  \u{2066}\u{2069}"
                .chars()
        {
            assert!(must_be_escaped(c), "{c:?}");
        }
        for c in " ~\u{a0}é温度温‰\u{200b}\u{200d}\u{2027}\u{202f}\u{2065}\u{206a}\u{feff}😀".chars() {
            assert!(!must_be_escaped(c), "{c:?}");
        }
    }
}
