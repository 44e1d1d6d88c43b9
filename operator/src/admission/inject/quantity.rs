//! Amounts of CPU and memory as Kubernetes writes them.

use std::fmt;

use serde_json::Value;

/// One kind of amount that an annotation may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Of the container's `requests` or `limits`.
    pub name: &'static str,
    least: Bound,
    most: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    text: &'static str,
    /// In thousandths of a core, or of a byte.
    thousandths: u128,
}

/// Cores.
pub(super) const CPU: Resource = Resource {
    name: "cpu",
    least: Bound {
        text: "1m",
        thousandths: 1,
    },
    most: Bound {
        text: "64",
        thousandths: 64_000,
    },
};

/// Bytes. A sidecar that does nothing has about 6 MiB.
pub(super) const MEMORY: Resource = Resource {
    name: "memory",
    least: Bound {
        text: "8Mi",
        thousandths: 8 * 1024 * 1024 * 1000,
    },
    most: Bound {
        text: "64Gi",
        thousandths: 64 * 1024 * 1024 * 1024 * 1000,
    },
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no amount of {resource} from {least} to {most}; write it like \"{example}\"")]
pub struct InvalidQuantity {
    text: String,
    resource: &'static str,
    least: &'static str,
    most: &'static str,
    example: &'static str,
}

/// An amount that has been read. As text it is what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    text: String,
    thousandths: u128,
}

impl Resource {
    pub(super) fn parse(self, text: &str) -> Result<Quantity, InvalidQuantity> {
        let bounds = self.least.thousandths..=self.most.thousandths;
        let amount = thousandths(text).filter(|amount| bounds.contains(amount));
        let thousandths = amount.ok_or_else(|| InvalidQuantity {
            text: text.chars().take(32).collect(),
            resource: self.name,
            least: self.least.text,
            most: self.most.text,
            example: if self == CPU { "100m" } else { "64Mi" },
        })?;
        Ok(Quantity {
            text: text.to_owned(),
            thousandths,
        })
    }
}

impl Quantity {
    pub(super) fn is_more_than(&self, other: &Quantity) -> bool {
        self.thousandths > other.thousandths
    }

    pub(super) fn to_json(&self) -> Value {
        Value::from(self.text.as_str())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `None`: no quantity of Kubernetes, or one with more than three digits behind the point. Those with an exponent are not taken.
fn thousandths(text: &str) -> Option<u128> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit: u128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1000_u128.pow(2),
        "M" => 1000_u128.pow(3),
        "G" => 1000_u128.pow(4),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || whole.len() > 15 || part.len() > 3 {
        return None;
    }
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let of = |text: &str| text.parse::<u128>().unwrap_or(0);
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    Some((of(whole) * scale + of(part)) * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("1", 1000),
            ("0.5", 500),
            (".5", 500),
            ("1.", 1000),
            ("100m", 100),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1536 * 1024 * 1024 * 1000),
            ("2M", 2_000_000_000),
            ("3G", 3_000_000_000_000),
        ] {
            assert_eq!(thousandths(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            ".",
            "m",
            "-1",
            "+1",
            "1 m",
            "1e3",
            "1mi",
            "1KI",
            "1..2",
            "1.2.3",
            "0.0001",
            "x",
            "9999999999999999",
        ] {
            assert_eq!(thousandths(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_too_little_or_too_much_says_what_would_do() {
        assert!(CPU.parse("250m").is_ok() && MEMORY.parse("8Mi").is_ok());
        for (resource, text) in [(CPU, "0"), (CPU, "65"), (MEMORY, "8"), (MEMORY, "65Gi")] {
            assert!(resource.parse(text).is_err(), "{text}");
        }
        assert_eq!(
            MEMORY.parse("64MB").unwrap_err().to_string(),
            "'64MB' is no amount of memory from 8Mi to 64Gi; write it like \"64Mi\""
        );
    }
}
