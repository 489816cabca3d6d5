//! Writing a value again without line breaks and without duplicate keys.

use std::borrow::Cow;

use super::unescape;

/// Up to this many keys each pair is compared; beyond, they are sorted.
const PAIRS_MAX: usize = 16;

/// One member of an object that is open.
struct Entry<'a> {
    key: Cow<'a, str>,
    /// Start of the member in the output, at the quote of its key.
    start: usize,
}

/// Writes a checked JSON value without spaces; of equal keys in one object (after their escapes) the last stays.
///
/// Numbers and strings stay as written. Costs time in proportion to the value, and once more for each object around a
/// duplicate, of which there are at most [`DEPTH_MAX`](super::DEPTH_MAX).
pub fn compact(value: &str) -> Vec<u8> {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    // For each open bracket: the first of its entries, or `None` for an array.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut key_next = false;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b'"' => {
                let end = string_end(bytes, at);
                if key_next {
                    entries.push(Entry { key: unescape(&value[at + 1..end - 1]), start: out.len() });
                    key_next = false;
                }
                out.extend_from_slice(&bytes[at..end]);
                at = end;
                continue;
            }
            b'{' => {
                open.push(Some(entries.len()));
                key_next = true;
            }
            b'[' => open.push(None),
            b']' => drop(open.pop()),
            b'}' => {
                key_next = false;
                if let Some(Some(first)) = open.pop() {
                    drop_duplicates(&mut out, &entries[first..]);
                    entries.truncate(first);
                }
            }
            b',' => key_next = matches!(open.last(), Some(Some(_))),
            _ => {}
        }
        out.push(*byte);
        at += 1;
    }
    out
}

/// Index behind the closing quote of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
            Some(found) if bytes[at + found] == b'"' => return at + found + 1,
            Some(found) => at += found + 2,
            None => return bytes.len(),
        }
    }
}

/// Removes from the end of the output the members whose key comes again later. The object is not closed yet.
fn drop_duplicates(out: &mut Vec<u8>, entries: &[Entry<'_>]) {
    let superseded: Vec<usize> = if entries.len() <= PAIRS_MAX {
        let again = |index: &usize| entries[index + 1..].iter().any(|later| later.key == entries[*index].key);
        (0..entries.len()).filter(again).collect()
    } else {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_unstable_by(|a, b| entries[*a].key.cmp(&entries[*b].key).then(a.cmp(b)));
        let pairs = order.windows(2).filter(|pair| entries[pair[0]].key == entries[pair[1]].key);
        let mut superseded: Vec<usize> = pairs.map(|pair| pair[0]).collect();
        superseded.sort_unstable();
        superseded
    };
    let Some(first) = superseded.first() else { return };
    let mut write = entries[*first].start;
    let mut skipped = superseded.iter().peekable();
    for index in *first..entries.len() {
        if skipped.next_if_eq(&&index).is_some() {
            continue;
        }
        // The member with the comma behind it, or the last one, which is never superseded.
        let start = entries[index].start;
        let end = entries.get(index + 1).map_or(out.len(), |next| next.start);
        out.copy_within(start..end, write);
        write += end - start;
    }
    out.truncate(write);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(value: &str) -> String {
        String::from_utf8(compact(value)).expect("a part of a text")
    }

    #[test]
    fn of_equal_keys_the_last_stays_at_every_depth() {
        let rows = [
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"b":2,"a":3,"c":4}"#, r#"{"b":2,"a":3,"c":4}"#),
            (r#"{"a":1,"\u0061":2}"#, r#"{"\u0061":2}"#),
            (r#"{"a":{"x":1,"x":[{"y":1,"y":2},{"y":1}]},"b":{}}"#, r#"{"a":{"x":[{"y":2},{"y":1}]},"b":{}}"#),
            (r#"{"a":{"x":1,"x":2},"a":{"x":3,"x":4},"z":[1,{"":1,"":2}]}"#, r#"{"a":{"x":4},"z":[1,{"":2}]}"#),
            (r#"{"a":1,"a":1,"a":1,"a":"\"a\":5,"}"#, r#"{"a":"\"a\":5,"}"#),
            (r#"["a","a",{"b":"a","a":"b"}]"#, r#"["a","a",{"b":"a","a":"b"}]"#),
        ];
        for (value, expected) in rows {
            assert_eq!(compacted(value), expected, "{value}");
        }
    }

    #[test]
    fn spaces_and_line_breaks_vanish_outside_strings_alone() {
        assert_eq!(compacted("{ \"a b\" :\r\n\t[ 1.50 , \" x \\\" \" ,\n{ } ] }"), "{\"a b\":[1.50,\" x \\\" \",{}]}");
    }

    #[test]
    fn the_last_of_many_equal_keys_stays_among_many_others() {
        let members: String = (0..50_000).map(|index| format!("\"{}\":{index},", index % 1000)).collect();
        let text = compacted(&format!("{{{members}\"end\":0}}"));
        let expected: String = (49_000..50_000).map(|index| format!("\"{}\":{index},", index % 1000)).collect();
        assert_eq!(text, format!("{{{expected}\"end\":0}}"));
    }
}
