//! What the xDS server knows of the proxies, for one rollout: who uses what was sent, and who is waited for.
//!
//! A proxy counts while it has a route of the rollout's Services, and, once its stream is lost, until its weight lease has
//! lapsed. An operator that has just started does not know who had what: for one lease, every sidecar that runs and has no
//! stream counts.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use rollout_core::time::{Span, Time};
use traffic_core::lease::LEASE;

use super::heard::{Acknowledgement, Laggard};
use super::views::Views;
use crate::ads::Ads;
use crate::key::Key;
use crate::names::PROXY_CONTAINER;

/// How many laggards are named.
const NAMED: usize = 10;

/// `waits`: whether the rollout waits for anybody; if not, nobody is looked for.
pub(super) fn acknowledgement(
    ads: &Ads,
    views: &Views,
    rollout: &Key,
    waits: bool,
    started: Instant,
    now: Time,
) -> Acknowledgement {
    let acks = ads.rollout_acks(&rollout.to_string(), now);
    let mut acknowledgement = Acknowledgement {
        proxies: acks.proxies,
        acknowledged: acks.acknowledged,
        settled: acks.endpoints,
        laggards: acks
            .laggards
            .into_iter()
            .map(|laggard| Laggard {
                pod: laggard.pod,
                until: laggard.until,
            })
            .collect(),
        rejected: acks
            .rejected
            .map(|rejection| format!("{}: {}", rejection.pod, rejection.text)),
    };
    if let (true, Some(left)) = (waits, LEASE.checked_sub(started.elapsed())) {
        // Rounded up: at that moment the lease is over.
        let until = now
            + Span(
                i64::try_from(left.as_millis())
                    .unwrap_or(0)
                    .saturating_add(1),
            );
        add_silent(&mut acknowledgement, ads, views, until);
    }
    acknowledgement
}

/// Sidecars that run and have no stream: nobody knows what they use.
fn add_silent(acknowledgement: &mut Acknowledgement, ads: &Ads, views: &Views, until: Time) {
    let connected = ads.connected();
    for pod in views.pods.state() {
        let key = Key::of(&*pod);
        let counted = acknowledgement.laggards.iter().any(|each| each.pod == key);
        if counted || connected.contains(&key) || !sidecar_runs(&pod) {
            continue;
        }
        acknowledgement.proxies += 1;
        if acknowledgement.laggards.len() < NAMED {
            acknowledgement.laggards.push(Laggard {
                pod: key,
                until: Some(until),
            });
        }
    }
}

fn sidecar_runs(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten()
        .any(|container| container.name == PROXY_CONTAINER && container.started == Some(true))
}

/// Revisions and runs of this rollout that a proxy has seen revoked.
pub(super) fn revoked(ads: &Ads, rollout: &Key) -> Vec<(String, u64)> {
    let rollout = rollout.to_string();
    let all = ads.revoked().into_iter();
    all.filter(|revocation| revocation.rollout == rollout)
        .map(|revocation| (revocation.revision, revocation.run))
        .collect()
}
