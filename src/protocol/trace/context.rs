//! `traceparent`, as W3C Trace Context (level 1) writes it.

use std::fmt;

/// Length of a `traceparent` of version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// The bit of the flags that says sampled.
const SAMPLED: u8 = 1;

/// Names a trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub(super) [u8; 16]);

/// Names a span within its trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub(super) [u8; 8]);

/// A place in a trace: what comes next is a child of this span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether spans of this trace are exported.
    pub sampled: bool,
}

/// A `traceparent` as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent([u8; TRACEPARENT_BYTES]);

impl TraceContext {
    /// Reads a `traceparent`: that of version 00, or what later versions share with it. `None` for everything else,
    /// which must be treated as if it were absent (section 4.3 of the recommendation).
    ///
    /// ```
    /// use jetlinks_bridge::protocol::trace::TraceContext;
    ///
    /// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// let context = TraceContext::parse(text).unwrap();
    /// assert!(context.sampled);
    /// assert_eq!(context.to_text().as_str(), text);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (head, rest) = bytes.split_at_checked(TRACEPARENT_BYTES)?;
        let [version] = unhex(&head[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !is_whole || [2, 35, 52].iter().any(|&at| head[at] != b'-') {
            return None;
        }
        let trace_id = TraceId(unhex(&head[3..35])?);
        let span_id = SpanId(unhex(&head[36..52])?);
        let [flags] = unhex(&head[53..])?;
        let is_named = trace_id.0 != [0; 16] && span_id.0 != [0; 8];
        is_named.then_some(Self { trace_id, span_id, sampled: flags & SAMPLED != 0 })
    }

    /// The `traceparent`, of version 00.
    #[inline]
    pub fn to_text(self) -> Traceparent {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id.0);
        write_hex(&mut text[36..52], &self.span_id.0);
        text[54] += u8::from(self.sampled);
        Traceparent(text)
    }
}

impl Traceparent {
    /// As text.
    pub fn as_str(&self) -> &str {
        // Hexadecimal digits and hyphens are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As bytes, all of which are ASCII.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TraceId {
    /// As OTLP carries it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// As OTLP carries it.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Writes two digits for each byte, eight digits at a time.
#[inline]
fn write_hex(text: &mut [u8], bytes: &[u8]) {
    for (digits, four) in text.chunks_exact_mut(8).zip(bytes.chunks_exact(4)) {
        digits.copy_from_slice(&hex([four[0], four[1], four[2], four[3]]));
    }
}

/// Spreads the half bytes over eight bytes and makes digits of all of them at once.
#[inline]
fn hex(bytes: [u8; 4]) -> [u8; 8] {
    let number = u64::from(u32::from_be_bytes(bytes));
    let number = (number & 0xffff) | (number & 0xffff_0000) << 16;
    let number = (number & 0x0000_00ff_0000_00ff) | (number & 0x0000_ff00_0000_ff00) << 8;
    let number = (number & 0x000f_000f_000f_000f) | (number & 0x00f0_00f0_00f0_00f0) << 4;
    let letters = (number + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (number + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Lower-case digits alone: the recommendation allows no others.
fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_well_formed_traceparent_is_read_and_its_flag_alone_says_sampled() {
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-03"), true),
            (format!("00-{TRACE}-{SPAN}-fe"), false),
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true),
            (format!("fe-{TRACE}-{SPAN}-01-"), true),
        ] {
            let context = TraceContext::parse(&text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(context.sampled, sampled, "{text}");
            assert_eq!(format!("{:?}-{:?}", context.trace_id, context.span_id), format!("{TRACE}-{SPAN}"));
            let expected = format!("00-{TRACE}-{SPAN}-{:02x}", u8::from(sampled));
            assert_eq!(context.to_text().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn a_malformed_traceparent_is_none() {
        for text in [
            String::new(),
            "t".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-0"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("ff-{TRACE}-{SPAN}-01-more"),
            format!("01-{TRACE}-{SPAN}-01.more"),
            format!("0g-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0X"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}_01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}g-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", "é".repeat(16)),
            format!("00-{}é-{SPAN}-0", &TRACE[1..]),
        ] {
            assert_eq!(TraceContext::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn every_byte_is_written_as_its_two_digits() {
        for byte in 0..=u8::MAX {
            let digits = hex([byte, !byte, 0x9a, byte]);
            assert_eq!(std::str::from_utf8(&digits), Ok(&*format!("{byte:02x}{:02x}9a{byte:02x}", !byte)));
        }
    }

    #[test]
    fn a_record_carries_a_context_in_less_than_the_half_of_its_text() {
        assert_eq!(size_of::<Option<TraceContext>>(), 25);
    }
}
