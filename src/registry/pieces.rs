//! Where a file of records can be cut.

use toml::de::DeTable;

/// Least bytes of a piece. What is read of a piece takes some ten times its bytes, until the next one is read.
const PIECE_BYTES: usize = 256 * 1024;

/// The file in pieces that are TOML of their own, each some records, with the offset of each. Together they say what the whole file says, but for a
/// file that has a mistake anyway: its mistake may be told in other words.
pub(super) fn pieces(text: &str) -> Vec<(usize, &str)> {
    let whole = || vec![(0, text)];
    // A line within a text of several lines can look like the head of a record.
    if text.contains("\"\"\"") || text.contains("'''") {
        return whole();
    }
    let mut heads = heads(text);
    let Some(first) = heads.next() else { return whole() };
    // The keys before the first record may be those of records, in another form.
    let (before, errors) = DeTable::parse_recoverable(&text[..first]);
    if !errors.is_empty() || !before.get_ref().is_empty() {
        return whole();
    }
    let (mut pieces, mut start) = (Vec::new(), 0);
    for head in heads {
        if head - start >= PIECE_BYTES {
            pieces.push((start, &text[start..head]));
            start = head;
        }
    }
    pieces.push((start, &text[start..]));
    pieces
}

/// Where the lines begin that begin with `[[`.
fn heads(text: &str) -> impl Iterator<Item = usize> {
    let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1));
    starts.filter(|start| text[*start..].trim_start_matches([' ', '\t']).starts_with("[["))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than a piece of records, and how many they are.
    fn many() -> (String, usize) {
        let record = |number: usize| format!("[[device]]\nid = 'device{number}'\nproduct = 'product1'\n\n");
        let count = 2 * PIECE_BYTES / record(1).len();
        ((0..count).map(record).collect(), count)
    }

    fn count(piece: &str) -> usize {
        let (parsed, errors) = DeTable::parse_recoverable(piece);
        assert!(errors.is_empty(), "{errors:?}");
        let value = parsed.get_ref().get("device").expect("a piece has devices");
        value.get_ref().as_array().expect("they are a list").len()
    }

    #[test]
    fn pieces_are_whole_records_and_leave_nothing_out() {
        let (text, records) = many();
        let text = format!("# devices\n\n{text}");
        let pieces = pieces(&text);
        assert!(pieces.len() > 1 && pieces.iter().all(|(_, piece)| piece.len() < 2 * PIECE_BYTES));
        assert!(pieces.iter().all(|(start, piece)| text[*start..].starts_with(piece)));
        assert_eq!(pieces.iter().map(|(_, piece)| *piece).collect::<String>(), text);
        assert_eq!(pieces.into_iter().map(|(_, piece)| count(piece)).sum::<usize>(), records);
    }

    #[test]
    fn a_file_that_cannot_be_cut_safely_is_one_piece() {
        let (text, _) = many();
        for text in [
            format!("device = []\n{text}"),
            format!("x = [\n{text}"),
            format!("{text}[[device]]\nid = '''\n[[device]]'''\n"),
            format!("{text}[[device]]\nid = \"\"\"\n[[device]]\"\"\"\n"),
            String::new(),
        ] {
            assert_eq!(pieces(&text), [(0, text.as_str())]);
        }
    }
}
