//! Points in time as text (RFC 3339).

/// Length of a time as text.
pub const RFC3339_BYTES: usize = 24;

const DAY_MS: i64 = 86_400_000;
/// 0001-01-01T00:00:00.000Z
const FIRST_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z
const LAST_MS: i64 = 253_402_300_799_999;

/// The time as UTC with milliseconds, such as `2020-09-27T08:52:42.389Z`; `None` outside the years 1 to 9999.
pub fn rfc3339(ms: i64) -> Option<[u8; RFC3339_BYTES]> {
    if !(FIRST_MS..=LAST_MS).contains(&ms) {
        return None;
    }
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], of_day / 3_600_000);
    digits(&mut text[14..16], of_day / 60_000 % 60);
    digits(&mut text[17..19], of_day / 1000 % 60);
    digits(&mut text[20..23], of_day % 1000);
    Some(text)
}

fn digits(text: &mut [u8], mut number: i64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Counts in eras of 400 years that
/// begin in March, so that the leap day ends its year.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let days = days + 719_468;
    let era = days.div_euclid(ERA_DAYS);
    let of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ms: i64) -> Option<String> {
        rfc3339(ms).map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn known_moments_have_their_known_text() {
        let rows = [
            (1_601_196_762_389, "2020-09-27T08:52:42.389Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (FIRST_MS, "0001-01-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ];
        for (ms, expected) in rows {
            assert_eq!(text(ms).as_deref(), Some(expected));
        }
    }

    #[test]
    fn times_outside_the_years_1_to_9999_have_no_text() {
        for ms in [FIRST_MS - 1, LAST_MS + 1, i64::MIN, i64::MAX] {
            assert_eq!(text(ms), None);
        }
    }

    #[test]
    fn every_day_of_10000_years_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1, 1, 1);
        for days in FIRST_MS / DAY_MS..=LAST_MS / DAY_MS {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
