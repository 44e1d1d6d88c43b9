//! Who is on the other end: what a proxy says about itself in the first request of a stream. The control plane believes the
//! token, not the node; the node carries what a token cannot.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use traffic_core::config::SignedRevocation;
use traffic_core::inbound::Unidentified;

use crate::metadata::{self, FieldProblem, Fields};

/// How a client says that it lets resources lapse that have a TTL and are not renewed.
const RESOURCE_TTL: &str = "xds.config.supports-resource-ttl";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `<pod>.<namespace>`.
    pub id: String,
    /// The proxy's version.
    pub version: String,
    /// Rollbacks that the proxy remembers: a new leader that did not see them must not undo them.
    pub revocations: Vec<SignedRevocation>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node `{id}`: {problem}")]
pub struct InvalidNode {
    pub id: String,
    pub problem: FieldProblem,
}

pub(crate) fn encode(node: &Node) -> core::Node {
    core::Node {
        id: node.id.clone(),
        cluster: "aviary-proxy".to_owned(),
        user_agent_name: "aviary-proxy".to_owned(),
        client_features: vec![RESOURCE_TTL.to_owned()],
        metadata: Some(metadata::fields([
            ("version", metadata::text(&node.version)),
            ("revocations", metadata::revocations(&node.revocations)),
        ])),
        ..core::Node::default()
    }
}

/// Who has called without an identity, and how long ago.
pub type Report = Vec<(Unidentified, Duration)>;

const UNIDENTIFIED: &str = "unidentified";

/// What a proxy says of its callers, in a request for listeners that is not the first of its stream.
pub(crate) fn encode_report(report: &[(Unidentified, Duration)]) -> core::Node {
    let callers = report.iter().map(|(Unidentified { address, port }, age)| {
        metadata::fields([
            ("address", metadata::text(address.to_string())),
            ("port", metadata::text(port.to_string())),
            ("seconds", metadata::text(age.as_secs().to_string())),
        ])
    });
    core::Node {
        metadata: Some(metadata::fields([(UNIDENTIFIED, metadata::list(callers))])),
        ..core::Node::default()
    }
}

/// `None`: it says nothing of them.
pub(crate) fn decode_report(wire: &core::Node) -> Result<Option<Report>, InvalidNode> {
    let Some(fields) = wire.metadata.as_ref().map(Fields) else {
        return Ok(None);
    };
    let callers = fields.structs_if_any(UNIDENTIFIED).and_then(|callers| {
        let callers = callers.map(|all| all.into_iter().map(caller).collect());
        callers.transpose()
    });
    callers.map_err(|problem| InvalidNode {
        id: wire.id.clone(),
        problem,
    })
}

fn caller(fields: Fields<'_>) -> Result<(Unidentified, Duration), FieldProblem> {
    let address = fields.text("address")?.parse::<IpAddr>();
    let address = address.map_err(|_| FieldProblem::NotA {
        field: "address",
        expected: "an IP address",
    })?;
    let port = u16::try_from(fields.number("port")?);
    let port = port.map_err(|_| FieldProblem::NotA {
        field: "port",
        expected: "a port",
    })?;
    let age = Duration::from_secs(fields.number("seconds")?);
    Ok((Unidentified { address, port }, age))
}

/// Whether the proxy lets resources lapse that are not renewed.
pub(crate) fn honours_leases(wire: &core::Node) -> bool {
    wire.client_features
        .iter()
        .any(|feature| feature == RESOURCE_TTL)
}

/// A stock Envoy's node has none of our metadata: that is no error.
pub(crate) fn decode(wire: &core::Node) -> Result<Node, InvalidNode> {
    let mut node = Node {
        id: wire.id.clone(),
        ..Node::default()
    };
    if let Some(metadata) = &wire.metadata {
        let fields = Fields(metadata);
        node.version = fields.text("version").unwrap_or_default().to_owned();
        node.revocations = fields
            .revocations("revocations")
            .map_err(|problem| InvalidNode {
                id: wire.id.clone(),
                problem,
            })?;
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use traffic_core::config::{Revocation, Signature};

    use super::*;

    #[test]
    fn a_node_survives_the_wire_with_its_revocations() {
        let node = Node {
            id: "web-1.shop".to_owned(),
            version: "0.1.0".to_owned(),
            revocations: [None, Some(Signature([0xab; 32]))]
                .map(|signature| SignedRevocation {
                    revocation: Revocation {
                        rollout: "shop/web".to_owned(),
                        revision: "v2".to_owned(),
                        run: u64::MAX,
                    },
                    signature,
                })
                .into(),
        };
        assert_eq!(decode(&encode(&node)), Ok(node));
    }

    #[test]
    fn a_stock_envoy_has_no_revocations() {
        let wire = core::Node {
            id: "envoy".to_owned(),
            ..core::Node::default()
        };
        assert_eq!(
            decode(&wire),
            Ok(Node {
                id: "envoy".to_owned(),
                ..Node::default()
            })
        );
    }

    #[test]
    fn a_report_of_callers_survives_the_wire_and_need_not_be_there() {
        let caller = |address: &str, port, seconds| {
            let address = address.parse().unwrap();
            let caller = Unidentified { address, port };
            (caller, Duration::from_secs(seconds))
        };
        for report in [
            vec![],
            vec![caller("10.1.0.7", 8080, 0), caller("fd00::7", 1, 599)],
        ] {
            let wire = encode_report(&report);
            assert_eq!(decode_report(&wire), Ok(Some(report)));
        }
        for silent in [core::Node::default(), encode(&Node::default())] {
            assert_eq!(decode_report(&silent), Ok(None));
        }
        let with = |field: &'static str, value: &str| {
            let mut fields = metadata::fields([
                ("address", metadata::text("10.1.0.7")),
                ("port", metadata::text("80")),
                ("seconds", metadata::text("1")),
            ]);
            let value = metadata::text(value);
            fields.fields.insert(field.to_owned(), value);
            let all = metadata::fields([(UNIDENTIFIED, metadata::list([fields]))]);
            let wire = core::Node {
                metadata: Some(all),
                ..core::Node::default()
            };
            decode_report(&wire).unwrap_err().problem.to_string()
        };
        for (field, value) in [("address", "web"), ("port", "65536"), ("seconds", "-1")] {
            let problem = with(field, value);
            assert!(problem.contains(&format!("`{field}` is not")), "{problem}");
        }
    }
}
