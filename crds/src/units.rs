//! Strings with units, parsed once: durations (`90s`, `1m30s`, `500ms`) and percentages (`99%`, `99.5%`).
//!
//! The patterns are also in the CRD's schema, so that the API server refuses what cannot be parsed here.

use std::time::Duration;

/// Durations that the schema admits: one or more of a number with `ms`, `s`, `m` or `h`.
pub const DURATION_PATTERN: &str = r"^([0-9]{1,6}(ms|s|m|h))+$";
/// The same, with a length: CEL for fields where no time at all makes no sense.
pub const DURATION_ABOVE_ZERO: &str = "self.matches('[1-9]')";
/// Names of Services: labels of DNS (newer clusters let them begin with a digit).
pub const DNS_LABEL_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Days that the schema admits: `1d` to `366d`.
pub const DAYS_PATTERN: &str = r"^([1-9]|[1-9][0-9]|[12][0-9][0-9]|3[0-5][0-9]|36[0-6])d$";
/// Percentages that the schema admits: 0% to 100%, up to three decimals.
pub const PERCENT_PATTERN: &str = r"^(100(\.0{1,3})?|[0-9]{1,2}(\.[0-9]{1,3})?)%$";
/// Quantiles that the schema admits: above 0 and below 1.
pub const QUANTILE_PATTERN: &str = r"^0\.[0-9]{0,4}[1-9][0-9]{0,4}$";

/// Decimals that the schema admits, as strings.
pub const DECIMAL_PATTERN: &str = r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("'{0}' is not a duration: write a number and a unit, like 500ms, 30s, 5m, 1h or 1m30s")]
    Duration(String),
    #[error("'{0}' is not a number of days: write 1d to 366d, for example 30d")]
    Days(String),
    #[error("'{0}' is not a percentage: write a number from 0 to 100 and %, like 99% or 99.5%")]
    Percent(String),
    #[error("'{0}' is not a quantile: write a number above 0 and below 1, like 0.99")]
    Quantile(String),
    #[error(
        "'{0}' is not a number: write an integer, or a decimal in quotes like \"0.05\" (at most 15 digits before the point and 9 after it)"
    )]
    Decimal(String),
}

/// `1m30s` -> 90 s.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let refuse = || UnitError::Duration(text.to_owned());
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(refuse)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        if number > 999_999 {
            return Err(refuse());
        }
        rest = &rest[digits..];
        let (unit, tail) = match () {
            () if rest.starts_with("ms") => (Duration::from_millis(1), &rest[2..]),
            () if rest.starts_with('s') => (Duration::from_secs(1), &rest[1..]),
            () if rest.starts_with('m') => (Duration::from_secs(60), &rest[1..]),
            () if rest.starts_with('h') => (Duration::from_secs(3600), &rest[1..]),
            () => return Err(refuse()),
        };
        total += unit * u32::try_from(number).expect("at most six digits");
        rest = tail;
    }
    Ok(total)
}

/// `30d` -> 30; from 1 to 366.
pub fn days(text: &str) -> Result<u32, UnitError> {
    let refuse = || UnitError::Days(text.to_owned());
    let number = text.strip_suffix('d').ok_or_else(refuse)?;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse() {
        Ok(days @ 1..=366) if is_plain && !number.starts_with('0') => Ok(days),
        Ok(_) | Err(_) => Err(refuse()),
    }
}

/// `99.5%` -> 99 500 thousandths of a percent (100 000 is the whole).
pub fn percent(text: &str) -> Result<u32, UnitError> {
    let refuse = || UnitError::Percent(text.to_owned());
    let number = text.strip_suffix('%').ok_or_else(refuse)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 3 || fraction.len() > 3 {
        return Err(refuse());
    }
    let whole: u32 = whole.parse().map_err(|_| refuse())?;
    let thousandths: u32 = format!("{fraction:0<3}").parse().map_err(|_| refuse())?;
    let value = whole * 1000 + thousandths;
    if value > 100_000 {
        Err(refuse())
    } else {
        Ok(value)
    }
}

/// `0.99`, kept as a number strictly between 0 and 1.
pub fn quantile(text: &str) -> Result<f64, UnitError> {
    match text.parse::<f64>() {
        Ok(q) if q > 0.0 && q < 1.0 && text.starts_with("0.") => Ok(q),
        Ok(_) | Err(_) => Err(UnitError::Quantile(text.to_owned())),
    }
}

/// `0.05`: what [`DECIMAL_PATTERN`] admits, so no exponent, and nothing that is not finite.
pub fn decimal(text: &str) -> Result<f64, UnitError> {
    let refuse = || UnitError::Decimal(text.to_owned());
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let of = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !of(whole, 15) || !of(fraction, 9) {
        return Err(refuse());
    }
    text.parse().map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn nonsense_durations_are_refused_by_name() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5d", "9999999s"] {
            assert_eq!(
                duration(text),
                Err(UnitError::Duration(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn days_are_a_year_at_most() {
        assert_eq!(days("30d"), Ok(30));
        assert_eq!((days("1d"), days("366d")), (Ok(1), Ok(366)));
        for text in [
            "",
            "d",
            "0d",
            "367d",
            "030d",
            "+3d",
            "30",
            "4w",
            "1.5d",
            "99999999999d",
        ] {
            assert_eq!(days(text), Err(UnitError::Days(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn percentages_keep_three_decimals() {
        assert_eq!(percent("99%"), Ok(99_000));
        assert_eq!(percent("99.5%"), Ok(99_500));
        assert_eq!(percent("0.001%"), Ok(1));
        assert_eq!(percent("100%"), Ok(100_000));
        for text in ["", "%", "99", "101%", "100.1%", "99.%", "-1%", "1e2%"] {
            assert_eq!(
                percent(text),
                Err(UnitError::Percent(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn quantiles_are_inside_the_unit_interval() {
        assert_eq!(quantile("0.99"), Ok(0.99));
        for text in ["0", "1", "1.0", "0.0", "99%", "-0.5", "NaN"] {
            assert!(quantile(text).is_err(), "{text}");
        }
    }
}
