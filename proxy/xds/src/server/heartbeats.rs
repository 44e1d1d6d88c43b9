//! Renewing leases: a route that carries a canary's weight is sent with a TTL, and then renewed by heartbeats (a resource with its
//! name, version and TTL and no body) as long as it is what is served and the proxy has it.
//!
//! A proxy that has not accepted the current version gets none, so what it keeps instead decays to stable, too.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#resource-ttl>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::Resource as WireResource;

use super::leases::{Leases, duration};
use super::subscriptions::Answer;
use super::{DeltaServer, Verdict};
use crate::Response;
use crate::kind::Kind;
use crate::resources::{Resource, Resources};

impl DeltaServer {
    /// Whether leases are renewed. Where they are not, what the proxy has decays to stable in its time; they are renewed again as soon as they may be.
    pub fn renews(&mut self, renews: bool) {
        self.keeps_leases = !renews;
    }

    /// When [`DeltaServer::next`] has a lease to renew; `None`: this proxy has none.
    pub fn heartbeat_at(&self, resources: &Resources) -> Option<Instant> {
        self.leased(resources).map(|(at, _)| at).min()
    }

    /// Every lease that is due.
    pub(super) fn next_heartbeat(
        &mut self,
        resources: &Resources,
        now: Instant,
    ) -> Option<Response> {
        let due: BTreeMap<String, Arc<Resource>> = self
            .leased(resources)
            .filter(|(at, _)| *at <= now)
            .map(|(_, resource)| (resource.name.clone(), Arc::clone(resource)))
            .collect();
        if due.is_empty() {
            return None;
        }
        for answer in self.kinds[Kind::Route].names.values_mut() {
            if let Answer::Given {
                resource: Some(given),
                renew_at,
                ..
            } = answer
                && let Some(renewed) = due.get(&given.name)
            {
                *renew_at = self.leases.renew_at(renewed, now);
            }
        }
        // The nonce is waited for by nobody: whatever the proxy says to a heartbeat, it has what it has.
        self.last_nonce += 1;
        Some(Response {
            type_url: Kind::Route.type_url().to_owned(),
            resources: due
                .values()
                .map(|each| heartbeat(each, self.leases))
                .collect(),
            nonce: self.last_nonce.to_string(),
            ..Response::default()
        })
    }

    /// Routes that this proxy has accepted and that are still served, with the time of their renewal.
    fn leased<'a>(
        &'a self,
        resources: &'a Resources,
    ) -> impl Iterator<Item = (Instant, &'a Arc<Resource>)> {
        let names = self.kinds[Kind::Route].names.iter();
        let names = names.filter(|_| !self.keeps_leases);
        names.filter_map(|(name, answer)| match answer {
            Answer::Given {
                resource: Some(given),
                verdict: Verdict::Accepted,
                renew_at: Some(at),
                ..
            } => {
                let current = resources.resolve(Kind::Route, name)?;
                given.is(current).then_some((*at, current))
            }
            Answer::Given { .. } | Answer::Waiting | Answer::Resumed => None,
        })
    }
}

/// Whether a message of [`DeltaServer::next`] only renews leases.
pub fn is_heartbeat(response: &Response) -> bool {
    let resources = &response.resources;
    !resources.is_empty() && resources.iter().all(|each| each.resource.is_none())
}

fn heartbeat(resource: &Resource, leases: Leases) -> WireResource {
    WireResource {
        name: resource.name.clone(),
        version: resource.version.clone(),
        ttl: leases.ttl(resource).map(duration),
        ..WireResource::default()
    }
}

#[cfg(test)]
mod tests;
