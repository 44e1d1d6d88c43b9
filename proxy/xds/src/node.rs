//! Who is on the other end: what a proxy says about itself in the first request of a stream. The control plane believes the
//! token, not the node; the node carries what a token cannot.

use envoy_types::pb::envoy::config::core::v3 as core;
use traffic_core::config::SignedRevocation;

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
}
