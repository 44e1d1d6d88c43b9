//! Every proxy that the server knows, and where it stands: for people, who ask with `kubectl aviary proxy status`.

use std::collections::BTreeMap;

use aviary_xds::Resources;
use jiff::Timestamp;
use rollout_core::time::Time;
use serde::Serialize;

use super::Ads;
use super::registry::Registry;
use crate::key::Key;

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    pub namespace: String,
    pub pod: String,
    pub connected: bool,
    /// Its stream is lost: at the latest then it has given up every canary's weight, and is waited for no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Its sidecar has said that it accepts TLS.
    pub tls: bool,
    /// By `<namespace>/<name>` of the rollouts whose routes it has.
    pub rollouts: BTreeMap<String, Stands>,
}

/// Where a proxy stands with one rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stands {
    /// It uses the newest version of every route of the rollout that it has.
    pub acknowledged: bool,
    /// It knows the newest endpoints of them.
    pub endpoints: bool,
    /// Why it refused what it was sent last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Ads {
    /// All of them, by namespace and name; those that are lost as long as they count.
    pub fn proxies(&self, now: Time) -> Vec<Proxy> {
        let resources = self.world();
        let nothing = Resources::default();
        let resources = resources.as_ref().unwrap_or(&nothing);
        let registry = self.registry();
        let of = |key: &Key| of(key, &registry, resources);
        registry.known(now).into_iter().map(of).collect()
    }
}

pub(super) fn of(key: &Key, registry: &Registry, resources: &Resources) -> Proxy {
    let rollouts = registry.rollouts_of(key, resources);
    let rollouts = rollouts.into_iter().filter_map(|rollout| {
        let counted = registry.counted(key, &rollout, resources)?;
        let stands = Stands {
            acknowledged: counted.acknowledged,
            endpoints: counted.endpoints,
            refused: counted.rejection.map(|(_, text)| text.to_string()),
        };
        Some((rollout, stands))
    });
    let until = registry.lost_until(key);
    Proxy {
        namespace: key.namespace.clone(),
        pod: key.name.clone(),
        connected: until.is_none(),
        until: until.and_then(|until| Timestamp::from_millisecond(until.0).ok()),
        tls: registry.accepting(key).is_some(),
        rollouts: rollouts.collect(),
    }
}
