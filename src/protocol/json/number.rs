//! Whole numbers out of JSON, exactly.

/// The whole part of a checked JSON number; `None` outside 64 bits with sign. Exponents are carried out exactly.
pub fn whole_i64(number: &str) -> Option<i64> {
    if let Ok(number) = number.parse() {
        return Some(number);
    }
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (mantissa, exponent) = match number.find(['e', 'E']) {
        // An exponent beyond the range of i64 still has the right sign, and that decides.
        Some(at) => (&number[..at], saturating(&number[at + 1..])),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // How many digits of the mantissa stand before the point once the exponent is carried out.
    let point = i64::try_from(whole.len()).ok()?.saturating_add(exponent);
    let mut magnitude = 0_u64;
    let mut taken = 0_i64;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if taken >= point {
            break;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        taken += 1;
    }
    while taken < point && magnitude != 0 {
        magnitude = magnitude.checked_mul(10)?;
        taken += 1;
    }
    signed(negative, magnitude)
}

/// A text that is a whole number of 64 bits with sign: an optional `-` and digits.
pub fn whole_text_i64(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    signed(negative, digits.parse().ok()?)
}

fn signed(negative: bool, magnitude: u64) -> Option<i64> {
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

fn saturating(exponent: &str) -> i64 {
    let negative = exponent.starts_with('-');
    let digits = exponent.trim_start_matches(['+', '-']);
    let magnitude = digits.parse::<i64>().unwrap_or(i64::MAX);
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_becomes_its_whole_part_within_64_bits() {
        let rows = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.9", Some(0)),
            ("1601196762389.7", Some(1_601_196_762_389)),
            ("-1601196762389.7", Some(-1_601_196_762_389)),
            ("1.601196762389e12", Some(1_601_196_762_389)),
            ("1.6011967623899E+12", Some(1_601_196_762_389)),
            ("16011967623890e-1", Some(1_601_196_762_389)),
            ("9e18", Some(9_000_000_000_000_000_000)),
            ("1e19", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775807.99", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("123e-3", Some(0)),
            ("123e-2", Some(1)),
            ("1e-999999999999999999999999", Some(0)),
            ("1e999999999999999999999999", None),
            ("0e999999999999999999999999", Some(0)),
            ("0.000001e6", Some(1)),
            ("0.0000000000000000000000000012345e30", Some(1234)),
            ("99999999999999999999999999e-20", Some(999_999)),
        ];
        for (number, expected) in rows {
            assert_eq!(whole_i64(number), expected, "{number}");
        }
    }

    #[test]
    fn a_text_is_a_whole_number_only_without_sign_plus_point_exponent_and_space() {
        for (text, expected) in
            [("12", Some(12)), ("-12", Some(-12)), ("007", Some(7)), ("-9223372036854775808", Some(i64::MIN))]
        {
            assert_eq!(whole_text_i64(text), expected, "{text}");
        }
        for text in ["", "-", "+1", "1.0", "1e3", " 1", "1 ", "٣", "9223372036854775808", "0x10"] {
            assert_eq!(whole_text_i64(text), None, "{text}");
        }
    }
}
