//! A moment in words.

use std::time::Duration;

/// RFC 3339, to the millisecond, in UTC.
pub fn rfc3339(since_epoch: Duration) -> String {
    let (seconds, millis) = (since_epoch.as_secs(), since_epoch.subsec_millis());
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day since 1970-01-01 (H. Hinnant, chrono-Compatible Low-Level Date Algorithms, `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    /// Days of 400 years, and from 0000-03-01 to 1970-01-01.
    const ERA: u64 = 146_097;
    const EPOCH: u64 = 719_468;
    let days = days + EPOCH;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months since March: so a leap day is the last of its year.
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let year = year + era * 400;
    if month < 10 {
        (year, month + 3, of_month)
    } else {
        (year + 1, month - 9, of_month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, millis, expected) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (68_255_999, 999, "1972-02-29T23:59:59.999Z"),
            (951_782_400, 7, "2000-02-29T00:00:00.007Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000Z"),
            (1_798_761_599, 0, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = rfc3339(Duration::new(seconds, millis * 1_000_000));
            assert_eq!(time, expected);
        }
    }
}
