//! Lists of ports in annotations.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {annotation}: '{text}' is not a port; write numbers from 1 to 65535, separated by commas, for example \"8080,9090\""
)]
pub struct PortsError {
    annotation: &'static str,
    text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports(BTreeSet<u16>);

impl Ports {
    pub(super) fn from_annotation(
        pod: &Value,
        annotation: &'static str,
    ) -> Result<Ports, PortsError> {
        let list = pod["metadata"]["annotations"][annotation]
            .as_str()
            .unwrap_or_default();
        let ports = list
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| match text.parse::<u16>() {
                Ok(port) if port > 0 => Ok(port),
                Ok(_) | Err(_) => Err(PortsError {
                    annotation,
                    text: text.to_owned(),
                }),
            })
            .collect::<Result<BTreeSet<u16>, PortsError>>()?;
        Ok(Ports(ports))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, port: u64) -> bool {
        u16::try_from(port).is_ok_and(|port| self.0.contains(&port))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&list.join(","))
    }
}
