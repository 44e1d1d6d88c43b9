//! A bound of a number: an integer, or a decimal as a string, since the API has no floats.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::units::{self, DECIMAL_PATTERN, UnitError};

/// The longest string that the schema admits.
const LONGEST: usize = 32;

/// An integer, or a string with a decimal such as `"0.05"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Decimal {
    Integer(i64),
    Text(String),
}

impl Decimal {
    /// The number nearest to it.
    pub fn number(&self) -> Result<f64, UnitError> {
        match self {
            #[allow(clippy::cast_precision_loss)] // bounds beyond 2^53 have no use
            Decimal::Integer(number) => Ok(*number as f64),
            Decimal::Text(text) => units::decimal(text),
        }
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The pattern is asked of strings only.
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": DECIMAL_PATTERN,
            "maxLength": LONGEST,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<f64, String> {
        let decimal: Decimal = serde_json::from_str(json).map_err(|error| error.to_string())?;
        decimal.number().map_err(|error| error.to_string())
    }

    #[test]
    fn an_integer_and_a_string_are_the_same_number() {
        for (json, number) in [
            ("100", 100.0),
            ("-1", -1.0),
            (r#""100""#, 100.0),
            (r#""0.05""#, 0.05),
            (r#""-1.5""#, -1.5),
            (r#""007""#, 7.0),
        ] {
            assert_eq!(read(json), Ok(number), "{json}");
        }
    }

    /// An object that was stored as an integer is written as one.
    #[test]
    fn what_was_stored_is_written_as_it_was() {
        for json in ["100", r#""0.050""#] {
            let decimal: Decimal = serde_json::from_str(json).expect("it is read");
            assert_eq!(serde_json::to_string(&decimal).expect("it is JSON"), json);
        }
    }

    #[test]
    fn what_is_no_decimal_is_refused_with_the_right_form() {
        for json in [
            r#""""#,
            r#"".5""#,
            r#""5.""#,
            r#""1e3""#,
            r#""inf""#,
            r#""NaN""#,
            r#""5%""#,
            r#""0,5""#,
            r#"" 1""#,
            r#""--1""#,
            r#""1.0.0""#,
            r#""-""#,
        ] {
            let why = read(json).expect_err(json);
            assert!(
                why.contains(r#"write an integer, or a decimal in quotes like "0.05""#),
                "{why}"
            );
        }
        assert!(read("0.05").is_err(), "the API has no floats");
    }
}
