//! [`Key`] as the hash policy of a route, and as what its weighted clusters use for chance: Envoy's own form. Envoy hashes what the
//! policy reads, and takes the rest of that by the sum of the weights; with stable first in the list a higher weight of the canary
//! adds users to it here, too. It knows of no seed: its users are the same in every release.
//!
//! A policy that would make cookies, rewrite values or look at anything else is not ours.

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    Cookie, Header, PolicySpecifier,
};
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
use envoy_types::pb::google::protobuf::BoolValue;
use traffic_core::split::sticky::{InvalidKey, Key};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StickyProblem {
    #[error("{0} hash policies, expected at most one")]
    Policies(usize),
    #[error("the hash policy is not of a plain header or cookie")]
    NotPlain,
    #[error("the hash policy's {0}")]
    Key(#[from] InvalidKey),
    #[error("there is a hash policy, and the weighted clusters do not use it")]
    Unused,
    #[error("the weighted clusters use a hash policy, and there is none")]
    Missing,
    #[error("the weighted clusters take their random value from header `{0}`")]
    RandomValue(String),
}

/// The route's hash policies, and where its weighted clusters take their random value from.
pub(crate) fn encode(key: Option<&Key>) -> (Vec<HashPolicy>, Option<RandomValueSpecifier>) {
    let Some(key) = key else {
        return (Vec::new(), None);
    };
    let of = match key {
        Key::Header(name) => PolicySpecifier::Header(Header {
            header_name: name.as_str().to_owned(),
            ..Header::default()
        }),
        Key::Cookie(name) => PolicySpecifier::Cookie(Cookie {
            name: name.as_str().to_owned(),
            ..Cookie::default()
        }),
    };
    let policy = HashPolicy {
        policy_specifier: Some(of),
        ..HashPolicy::default()
    };
    let used = RandomValueSpecifier::UseHashPolicy(BoolValue { value: true });
    (vec![policy], Some(used))
}

pub(crate) fn decode(
    policies: &[HashPolicy],
    random: Option<&RandomValueSpecifier>,
) -> Result<Option<Key>, StickyProblem> {
    let is_used = match random {
        None => false,
        Some(RandomValueSpecifier::UseHashPolicy(used)) => used.value,
        Some(RandomValueSpecifier::HeaderName(name)) => {
            return Err(StickyProblem::RandomValue(name.clone()));
        }
    };
    match (policies, is_used) {
        ([], false) => Ok(None),
        ([], true) => Err(StickyProblem::Missing),
        ([_], false) => Err(StickyProblem::Unused),
        ([policy], true) => key(policy).map(Some),
        (several, _) => Err(StickyProblem::Policies(several.len())),
    }
}

fn key(policy: &HashPolicy) -> Result<Key, StickyProblem> {
    match &policy.policy_specifier {
        Some(PolicySpecifier::Header(Header {
            header_name,
            regex_rewrite: None,
        })) => Ok(Key::header(header_name)?),
        Some(PolicySpecifier::Cookie(Cookie {
            name,
            ttl: None,
            path,
            attributes,
        })) if path.is_empty() && attributes.is_empty() => Ok(Key::cookie(name)?),
        Some(_) | None => Err(StickyProblem::NotPlain),
    }
}
