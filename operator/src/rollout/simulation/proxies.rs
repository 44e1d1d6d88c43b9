//! Proxies that call the Service, and what an operator knows of them: routes on their way, acknowledgements, leases that lapse,
//! revocations that are remembered. What a proxy makes of a route is its own code: `revoked::effective` and `lease::patience`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rollout_core::time::{Span, Time};
use traffic_core::config::{Cluster, Health, Revocation, Route, Split, Weight};
use traffic_core::lease::{self, LEASE};
use traffic_core::revoked::{self, RevocationMemory};

use super::agenda::Process;
use crate::key::Key;
use crate::mesh::World;
use crate::rollout::heard::{Acknowledgement, Laggard};

/// The route of the only Service.
pub(super) const ROUTE: &str = "shop/payment/80";
const NAMED: usize = 10;

/// What a proxy was sent of the Service: its route, and the clusters that the route names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Served {
    pub(super) route: Route,
    pub(super) clusters: BTreeMap<String, Cluster>,
}

impl Served {
    pub(super) fn of(world: &World) -> Option<Served> {
        let route = world.routes.get(ROUTE)?.route.clone();
        let arms = [
            Some(&route.split.stable),
            route.split.canary.as_ref().map(|canary| &canary.arm),
        ];
        let clusters = arms
            .into_iter()
            .flatten()
            .filter_map(|arm| {
                Some((
                    arm.cluster.clone(),
                    world.clusters.get(&arm.cluster)?.clone(),
                ))
            })
            .collect();
        Some(Served { route, clusters })
    }

    /// Where requests of an arm can go.
    pub(super) fn healthy(&self, cluster: &str) -> Vec<IpAddr> {
        let endpoints = self
            .clusters
            .get(cluster)
            .map(|cluster| cluster.endpoints.as_slice());
        endpoints
            .unwrap_or_default()
            .iter()
            .filter(|endpoint| endpoint.health == Health::Healthy)
            .map(|endpoint| endpoint.address.ip())
            .collect()
    }
}

#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) pod: Key,
    pub(super) there: bool,
    /// The operator that it has a stream with, and the stream's number.
    pub(super) link: Option<(Process, u64)>,
    pub(super) installed: Option<Served>,
    pub(super) memory: RevocationMemory,
    heard_at: i64,
    patience: i64,
    pub(super) lapsed: bool,
    /// It takes nothing new before.
    pub(super) lags_until: i64,
    /// It refuses everything new before.
    pub(super) refuses_until: i64,
    pub(super) hears: bool,
    /// What it has said that has not arrived yet.
    pub(super) says: std::collections::VecDeque<Option<Served>>,
}

impl Proxy {
    pub(super) fn new(pod: Key) -> Proxy {
        Proxy {
            pod,
            there: true,
            link: None,
            installed: None,
            memory: RevocationMemory::default(),
            heard_at: 0,
            patience: 0,
            lapsed: false,
            lags_until: 0,
            refuses_until: 0,
            hears: false,
            says: std::collections::VecDeque::new(),
        }
    }

    /// `chance`: in 0..1.
    pub(super) fn install(&mut self, served: Served, now: i64, chance: f64) {
        self.memory.learn(&served.route.revoked);
        let ttl = served
            .route
            .split
            .canary
            .as_ref()
            .and_then(traffic_core::config::CanaryArm::ttl);
        self.patience = ttl.map_or(i64::MAX, |ttl| millis(lease::patience(ttl, chance)));
        self.installed = Some(served);
        self.heard_at = now;
        self.lapsed = false;
    }

    /// The control plane says that the weight still holds.
    pub(super) fn renew(&mut self, now: i64) {
        if now - self.heard_at >= millis(lease::heartbeat(lease::TTL)) {
            self.heard_at = now;
        }
    }

    /// What it was to hear after a lag that lasts longer, it hears no sooner.
    pub(super) fn lag(&mut self, until: i64) {
        self.lags_until = self.lags_until.max(until);
    }

    pub(super) fn tick(&mut self, now: i64) {
        self.lapsed |= self.patience != i64::MAX && now - self.heard_at >= self.patience;
    }

    /// How its requests go now.
    pub(super) fn split(&self) -> Option<Split> {
        let mut split = revoked::effective(&self.installed.as_ref()?.route, &self.memory);
        if let Some(canary) = split.canary.as_mut().filter(|_| self.lapsed) {
            canary.weight = Weight::ZERO;
        }
        Some(split)
    }

    /// The canary's run and weight that it uses.
    pub(super) fn uses(&self) -> Option<(u64, Weight)> {
        let canary = self.split()?.canary?;
        (canary.weight != Weight::ZERO).then_some((canary.run, canary.weight))
    }
}

/// One proxy, as an operator knows it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) stream: u64,
    pub(super) state: LinkState,
    /// What it has said that it uses.
    pub(super) accepted: Option<Served>,
    /// It may be using a route of this rollout.
    pub(super) uses: BTreeSet<String>,
    pub(super) rejected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    Open,
    Lost { until: Time },
}

/// What the xDS server of one operator knows.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) of: BTreeMap<Key, Link>,
    pub(super) revoked: BTreeSet<Revocation>,
}

impl Links {
    pub(super) fn lose(&mut self, pod: &Key, stream: u64, now: Time) {
        if let Some(link) = self.of.get_mut(pod).filter(|link| link.stream == stream) {
            link.state = LinkState::Lost {
                until: now + Span(millis(LEASE)),
            };
        }
    }

    /// As the registry of streams counts them.
    pub(super) fn acknowledgement(
        &mut self,
        rollout: &Key,
        world: &World,
        now: Time,
    ) -> Acknowledgement {
        let lease = Span(millis(LEASE));
        self.of.retain(|_, link| match &mut link.state {
            LinkState::Open => true,
            LinkState::Lost { until } => {
                *until = (*until).min(now + lease);
                now < *until
            }
        });
        let rollout = rollout.to_string();
        let current = Served::of(world).filter(|served| served.route.rollout == rollout);
        let mut acks = Acknowledgement::default();
        for (pod, link) in &self.of {
            let uses = link.uses.contains(&rollout);
            let until = match link.state {
                LinkState::Lost { until } if uses => Some(until),
                LinkState::Lost { .. } => continue,
                LinkState::Open if uses || current.is_some() => None,
                LinkState::Open => continue,
            };
            acks.proxies += 1;
            let accepted = link
                .accepted
                .as_ref()
                .zip(current.as_ref())
                .filter(|_| until.is_none());
            let route = accepted.is_some_and(|(accepted, current)| accepted.route == current.route);
            acks.settled += u32::from(
                accepted.is_some_and(|(accepted, current)| accepted.clusters == current.clusters),
            );
            if route {
                acks.acknowledged += 1;
            } else {
                if acks.laggards.len() < NAMED {
                    acks.laggards.push(Laggard {
                        pod: pod.clone(),
                        until,
                    });
                }
                if link.rejected && until.is_none() {
                    acks.rejected = Some(format!("{pod}: no"));
                }
            }
        }
        acks
    }

    pub(super) fn open(&self) -> BTreeSet<Key> {
        let open = self
            .of
            .iter()
            .filter(|(_, link)| link.state == LinkState::Open);
        open.map(|(pod, _)| pod.clone()).collect()
    }
}

pub(super) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
