//! What the proxy does, as JSON.

mod bounds;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use traffic_core::config::{Route, Weight};

use super::{Data, inbound};
use crate::identity::Generation;
use crate::rfc3339::rfc3339;

impl Data {
    /// What the proxy does now, as JSON: what it listens on and is, routes with the weights that really hold, clusters with
    /// their endpoints, revocations, and how it stands with the control plane. No key, and nothing that a caller has said.
    pub fn dump(&self) -> Value {
        let (table, revocations) = {
            let state = self.state();
            (state.table.clone(), state.memory.all())
        };
        let mut destinations: Vec<(&SocketAddr, _)> = table.routes.iter().collect();
        destinations.sort_by_key(|(address, _)| **address);
        let routes = destinations.into_iter().map(|(address, ready)| {
            let Some(ready) = ready else {
                return json!({"destination": address.to_string(), "route": null});
            };
            json!({
                "destination": address.to_string(),
                "route": ready.route.name,
                "rollout": ready.route.rollout,
                "protocol": format!("{:?}", ready.route.protocol),
                "stable": {"revision": ready.split.stable.revision, "cluster": ready.split.stable.cluster},
                "canary": ready.split.canary.as_ref().map(|canary| json!({
                    "revision": canary.arm.revision,
                    "cluster": canary.arm.cluster,
                    "run": canary.run,
                    "weight": canary.weight.to_string(),
                })),
                "wanted": wanted(&ready.route).to_string(),
                "picks": ready.interleaver.requests(),
                "bounds": bounds::calls(&ready.route.bounds),
            })
        });
        let mut applications: Vec<_> = table.applications.iter().collect();
        applications.sort_by_key(|(address, _)| **address);
        let applications = applications.into_iter().map(|(address, ready)| {
            let ready = ready.as_ref();
            let canary = ready.and_then(|ready| ready.split.canary.as_ref());
            json!({
                "address": address.to_string(),
                "route": ready.map(|ready| &ready.route.name),
                "weight": canary.map(|canary| canary.weight.to_string()),
                "picks": ready.map(|ready| ready.interleaver.requests()),
            })
        });
        let mut clusters: Vec<_> = table.clusters.values().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let clusters = clusters.into_iter().map(|cluster| {
            let endpoints = cluster.endpoints.iter().map(|endpoint| {
                json!({"address": endpoint.address.to_string(), "health": format!("{:?}", endpoint.health),
                    "identity": endpoint.identity.as_ref().map(|it| &*it.id), "tls": endpoint.identity.as_ref().map(|it| it.accepts)})
            });
            json!({"name": cluster.name, "endpoints": endpoints.collect::<Vec<_>>()})
        });
        let listeners = self.listeners.iter();
        let listeners =
            listeners.map(|(name, address)| json!({"name": name, "address": address.to_string()}));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "connected": self.metrics.connected.load(Ordering::Relaxed) == 1,
            "identity": table.identity.as_ref().map(|own| self.identity(own)),
            "listeners": listeners.collect::<Vec<_>>(),
            "limits": bounds::own(&self.limits),
            "xds": self.standing.get().map(|standing| standing.standing()),
            "inbound": table.inbound.as_deref().map(inbound::dump),
            "installs": self.metrics.installs.load(Ordering::Relaxed),
            "routes": routes.collect::<Vec<_>>(),
            "applications": applications.collect::<Vec<_>>(),
            "clusters": clusters.collect::<Vec<_>>(),
            "revocations": revocations.iter().map(|each| &each.revocation).map(|r| json!({
                "rollout": r.rollout, "revision": r.revision, "run": r.run,
            })).collect::<Vec<_>>(),
        })
    }

    /// Who this pod is, and until when it can show it.
    fn identity(&self, own: &Generation) -> Value {
        let expires_at = self.metrics.identity.expires_at();
        let expires_at = expires_at.and_then(|seconds| u64::try_from(seconds).ok());
        json!({
            "id": &*own.id,
            "number": own.number,
            "expires_at": expires_at.map(|seconds| rfc3339(Duration::from_secs(seconds))),
        })
    }
}

fn wanted(route: &Route) -> Weight {
    route
        .split
        .canary
        .as_ref()
        .map_or(Weight::ZERO, |canary| canary.weight)
}
