//! Times, lengths and shares, as people read them.

use jiff::{SignedDuration, Timestamp};

/// `4m12s`: the two largest units, rounded up to whole seconds; nothing below 0.
pub fn length(span: SignedDuration) -> String {
    let seconds = (span.as_millis().max(0) + 999) / 1000;
    let (minutes, rest) = (seconds / 60, seconds % 60);
    let (hours, of_hour) = (minutes / 60, minutes % 60);
    let (days, of_day) = (hours / 24, hours % 24);
    match (days, hours, minutes, rest) {
        (1.., ..) if of_day == 0 => format!("{days}d"),
        (1.., ..) => format!("{days}d{of_day}h"),
        (_, 1.., ..) if of_hour == 0 => format!("{hours}h"),
        (_, 1.., ..) => format!("{hours}h{of_hour}m"),
        (_, _, 1.., 0) => format!("{minutes}m"),
        (_, _, 1.., rest) => format!("{minutes}m{rest}s"),
        (.., rest) => format!("{rest}s"),
    }
}

/// How long ago; `now` may be behind.
pub fn since(then: Timestamp, now: Timestamp) -> String {
    length(now.duration_since(then))
}

/// `10:05:00Z`, and the day before it if that is not today's.
pub fn clock(at: Timestamp, now: Timestamp) -> String {
    let day = |time: Timestamp| time.strftime("%F").to_string();
    if day(at) == day(now) {
        at.strftime("%H:%M:%SZ").to_string()
    } else {
        at.strftime("%F %H:%M:%SZ").to_string()
    }
}

/// `0.17%` of a whole; `None` of nothing. Two digits where one is too few: below 1 %, and above 99 %.
pub fn share(part: i64, whole: i64) -> Option<String> {
    if whole <= 0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss)] // for people
    let percent = part as f64 * 100.0 / whole as f64;
    Some(match percent {
        0.0 => "0%".to_owned(),
        100.0.. => "100%".to_owned(),
        // Not none, and not all.
        ..0.005 => "<0.01%".to_owned(),
        99.995.. => ">99.99%".to_owned(),
        ..1.0 | 99.0.. => format!("{percent:.2}%"),
        _ => format!("{percent:.1}%"),
    })
}

/// `12 345`: digits in threes.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// One request, two requests.
pub fn plural(number: i64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {one}{s}", count(number))
}

/// A table: columns as wide as their widest cell, two blanks between, nothing after the last.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (252, "4m12s"),
            (3600, "1h"),
            (3661, "1h1m"),
            (86_400, "1d"),
            (90_061, "1d1h"),
        ] {
            assert_eq!(length(SignedDuration::from_secs(seconds)), text);
        }
        assert_eq!(length(SignedDuration::from_millis(1)), "1s", "not over yet");
    }

    #[test]
    fn a_share_says_no_more_than_it_knows() {
        assert_eq!(share(0, 0), None);
        assert_eq!(share(0, 7).as_deref(), Some("0%"));
        assert_eq!(share(1, 600).as_deref(), Some("0.17%"));
        assert_eq!(share(1, 10).as_deref(), Some("10.0%"));
        assert_eq!(share(599, 600).as_deref(), Some("99.83%"));
        assert_eq!(share(7, 7).as_deref(), Some("100%"));
        assert_eq!(share(99_999, 100_000).as_deref(), Some(">99.99%"));
        assert_eq!(share(1, 100_000).as_deref(), Some("<0.01%"));
    }

    #[test]
    fn numbers_are_read_in_threes() {
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(999), "999");
        assert_eq!(count(-1000), "-1 000");
        assert_eq!(plural(1, "request"), "1 request");
        assert_eq!(plural(2, "request"), "2 requests");
    }

    #[test]
    fn another_day_is_named() {
        let now: Timestamp = "2026-03-04T10:00:00Z".parse().unwrap();
        let at = |text: &str| clock(text.parse().unwrap(), now);
        assert_eq!(at("2026-03-04T09:05:00Z"), "09:05:00Z");
        assert_eq!(at("2026-03-03T23:05:00Z"), "2026-03-03 23:05:00Z");
    }

    #[test]
    fn a_table_has_no_blanks_at_its_right_edge() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["NAME", "PHASE", "WEIGHT"]), row(["a", "", ""])];
        assert_eq!(table(&rows), ["NAME  PHASE  WEIGHT", "a"]);
    }
}
