//! Texts with a unit, and addresses.

use std::net::SocketAddr;
use std::time::Duration;

const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Description of a duration, for messages.
pub const DURATION: &str = r#"a duration with a unit (ms, s, m, h, d), such as "10s" or "1h30m""#;
/// Description of a size, for messages.
pub const SIZE: &str = r#"a size with a unit (B, KB, KiB, MB, MiB, GB, GiB, TB, TiB), such as "256KiB""#;
/// Description of listen addresses, for messages.
pub const ADDRESSES: &str =
    r#"an IP address with a port, such as "0.0.0.0:1883" or "[::]:1883", several with commas between, or "" for off"#;

/// Reads `500ms`, `10s`, `20m`, `24h`, `7d` or several of them, largest first (`1h30m`). `None`: no duration.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = 0u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let (number, unit, after) = quantity(rest)?;
        let scale = DURATIONS.iter().find(|(name, _)| *name == unit)?.1;
        if scale >= last {
            return None;
        }
        last = scale;
        sum = sum.checked_add(number.checked_mul(scale)?)?;
        rest = after;
    }
    (last != u64::MAX).then(|| Duration::from_millis(sum))
}

/// Reads `512B`, `256KiB`, `10MB`; letters in either case. `None`: no size.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit, after) = quantity(text.trim())?;
    let scale = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    if after.is_empty() { number.checked_mul(scale) } else { None }
}

/// Splits a text into its leading digits, the letters after them and what is left.
fn quantity(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..digits].parse().ok()?;
    let rest = text[digits..].trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    Some((number, &rest[..letters], rest[letters..].trim_start()))
}

/// A short text that [`duration`] reads as this many whole milliseconds; `60s` and `24h` rather than `1m` and `1d`.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let is_usual = |unit: &str, count: u64| count > 1 || !matches!(unit, "m" | "d");
    let exact = DURATIONS
        .iter()
        .find(|(unit, scale)| millis != 0 && millis.is_multiple_of(*scale) && is_usual(unit, millis / scale));
    exact.map_or_else(|| "0s".to_owned(), |(unit, scale)| format!("{}{unit}", millis / scale))
}

/// The shortest text that [`size`] reads as this many bytes.
pub fn show_size(bytes: u64) -> String {
    let exact = SIZES.iter().filter(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale)).max_by_key(|(_, s)| *s);
    exact.map_or_else(|| "0B".to_owned(), |(unit, scale)| format!("{}{unit}", bytes / scale))
}

/// Reads addresses with commas between; "" is none. `None`: one of them is no address, or stands twice.
pub fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let address: SocketAddr = part.parse().ok()?;
        if address.port() != 0 && all.contains(&address) {
            return None;
        }
        all.push(address);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("20m", 1_200_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            (" 10 s ", 10_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "10", "s", "10x", "-1s", "1.5s", "10S", "30m1h", "1s1s", "99999999999999999999s", "9999999999999999d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, bytes) in
            [("512B", 512), ("256KiB", 262_144), ("1MiB", 1 << 20), ("10MB", 10_000_000), ("1gib", 1 << 30), ("0B", 0)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "512", "KiB", "1K", "1M", "-1B", "1.5MB", "1MB1B", "99999999TiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_shown_quantity_reads_back() {
        for millis in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 86_400_000] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&show_duration(value)), Some(value));
        }
        for bytes in [0, 1, 1_000, 1_024, 1_500, 10_000_000, 256 << 20, 7 << 40] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
        let shown = [1, 60, 1_200, 3_600, 86_400, 604_800].map(|secs| show_duration(Duration::from_secs(secs)));
        assert_eq!(shown, ["1s", "60s", "20m", "1h", "24h", "7d"]);
        assert_eq!([256 << 20, 10_000_000, 1_025].map(show_size), ["256MiB", "10MB", "1025B"]);
    }

    #[test]
    fn addresses_are_ip_addresses_with_a_port() {
        assert_eq!(addresses(""), Some(vec![]));
        assert_eq!(addresses("0.0.0.0:1883, [::]:1883").map(|all| all.len()), Some(2));
        assert_eq!(addresses("127.0.0.1:0,127.0.0.1:0").map(|all| all.len()), Some(2));
        for text in ["localhost:1883", "127.0.0.1", ":1883", "1883", "127.0.0.1:1883,127.0.0.1:1883", "127.0.0.1:1,"] {
            assert_eq!(addresses(text), None, "{text}");
        }
    }
}
