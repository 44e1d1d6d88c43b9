//! `tcpSocket` probes: what they are worth behind a sidecar.

use serde_json::{Value, json};

use super::containers_of;
use super::ports::Ports;
use crate::names;

const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

/// The sidecar accepts every connection before it knows whether the app would.
pub(super) fn warnings(spec: &Value, skipped: &Ports) -> Vec<String> {
    let mut warnings = Vec::new();
    for container in containers_of(spec) {
        for probe in PROBES {
            let port = &container[probe]["tcpSocket"]["port"];
            if port.is_null() || number(container, port).is_some_and(|port| skipped.contains(port))
            {
                continue;
            }
            let name = container["name"].as_str().unwrap_or_default();
            let port =
                number(container, port).map_or_else(|| port.to_string(), |port| port.to_string());
            warnings.push(format!(
                "container {name}: {probe} (tcpSocket, port {port}) always passes behind the sidecar, which accepts for the app: use httpGet or grpc, or annotation {}: \"{port}\"",
                names::SKIP_INBOUND_ANNOTATION
            ));
        }
    }
    warnings
}

/// A probe's port is a number, or the name of one of the container's ports.
fn number(container: &Value, port: &Value) -> Option<u64> {
    if let Some(number) = port.as_u64() {
        return Some(number);
    }
    let ports = container["ports"].as_array()?;
    let named = ports
        .iter()
        .find(|named| named["name"] == *port && *port != json!(null))?;
    named["containerPort"].as_u64()
}
