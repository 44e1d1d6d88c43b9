//! What the proxies are told: the splits of all rollouts, and the world made of them and of the stores.
//!
//! A split is published at once; changes of endpoints are gathered for a moment first. Nothing is published before every
//! rollout has said its split once, so a fresh operator never serves a world in which a canary is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rollout_core::plan::Percent;
use rollout_core::state::State;
use tokio::sync::Notify;
use traffic_core::config::{Revocation, Weight};

use super::revisions;
use super::stores::Stores;
use crate::ads::Ads;
use crate::mesh::{self, CanarySplit, TargetSplit};

/// How long changes of endpoints are gathered.
const GATHER: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct Traffic(Arc<Inner>);

struct Inner {
    ads: Ads,
    stores: Stores,
    wake: Arc<Notify>,
    splits: Mutex<Splits>,
}

#[derive(Default)]
struct Splits {
    by_rollout: BTreeMap<(String, String), Split>,
    sent: BTreeMap<(String, String), Sent>,
    /// Nothing is published before.
    open: bool,
    said: Vec<String>,
}

/// How one rollout's traffic is to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub deployment: String,
    pub pod_labels: BTreeMap<String, String>,
    pub state: State,
    /// The canary's revision, run and effective weight.
    pub canary: Option<(String, u64, Percent)>,
    /// Copies of these revisions get nothing any more.
    pub retired: BTreeSet<String>,
}

/// What is in the world that was published last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub routes: usize,
    pub canary: Option<(u64, Percent)>,
    pub retired: BTreeSet<String>,
}

impl Traffic {
    pub fn new(ads: Ads, stores: Stores, wake: Arc<Notify>) -> Traffic {
        Traffic(Arc::new(Inner {
            ads,
            stores,
            wake,
            splits: Mutex::default(),
        }))
    }

    /// Publishes from now on.
    pub fn open(&self) {
        self.lock().open = true;
        self.publish();
    }

    /// Sends the split of one rollout to the proxies, now.
    pub fn set(&self, namespace: &str, rollout: &str, split: Split) {
        let key = (namespace.to_owned(), rollout.to_owned());
        if self.lock().by_rollout.get(&key) != Some(&split) {
            self.lock().by_rollout.insert(key, split);
            self.publish();
        }
    }

    /// The rollout is gone; calls to its Services pass through unsplit.
    pub fn remove(&self, namespace: &str, rollout: &str) {
        let removed = self
            .lock()
            .by_rollout
            .remove(&(namespace.to_owned(), rollout.to_owned()));
        if removed.is_some() {
            self.publish();
        }
    }

    pub fn sent(&self, namespace: &str, rollout: &str) -> Sent {
        self.lock()
            .sent
            .get(&(namespace.to_owned(), rollout.to_owned()))
            .cloned()
            .unwrap_or_default()
    }

    /// The rollouts that have a split.
    pub fn rollouts(&self) -> Vec<(String, String)> {
        self.lock().by_rollout.keys().cloned().collect()
    }

    /// Publishes again whenever endpoints change.
    pub async fn follow(self) {
        loop {
            self.0.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            self.publish();
        }
    }

    fn publish(&self) {
        let mut splits = self.lock();
        if !splits.open {
            return;
        }
        let stores = &self.0.stores;
        let targets: Vec<TargetSplit> = splits
            .by_rollout
            .iter()
            .map(|((namespace, name), split)| target(namespace, name, split))
            .collect();
        let retired = splits
            .by_rollout
            .iter()
            .flat_map(|((namespace, _), split)| {
                split
                    .retired
                    .iter()
                    .map(move |r| (namespace.clone(), r.clone()))
            })
            .collect();
        let state = |namespace: &str, rollout: &str| {
            splits
                .by_rollout
                .get(&(namespace.to_owned(), rollout.to_owned()))
                .map(|split| split.state.clone())
        };
        let revisions = revisions::of_pods(stores, state, &retired);
        let copies = revisions::of_copies(stores);
        let (services, slices) = (stores.services.state(), stores.slices.state());
        let view = mesh::view(
            mesh::Objects {
                services: &services,
                slices: &slices,
                revisions: &revisions,
                copies: &copies,
            },
            &targets,
        );
        let said: Vec<String> = view.findings.iter().map(ToString::to_string).collect();
        for finding in said.iter().filter(|finding| !splits.said.contains(finding)) {
            tracing::info!(finding, "not everything goes through the split");
        }
        splits.said = said;
        splits.sent = splits
            .by_rollout
            .iter()
            .map(|(key, split)| {
                let rollout = format!("{}/{}", key.0, key.1);
                let routes: Vec<_> = view
                    .world
                    .routes
                    .values()
                    .filter(|entry| entry.route.rollout == rollout)
                    .collect();
                // A canary without endpoints has weight 0 in the world, whatever was asked for.
                let weight = routes
                    .iter()
                    .filter_map(|entry| entry.route.split.canary.as_ref())
                    .map(|canary| canary.weight)
                    .min();
                let canary = match (&split.canary, weight) {
                    (Some((_, run, wanted)), Some(weight)) => {
                        let whole = i64::from(weight.units() / (Weight::SCALE / 100));
                        Some((*run, Percent::new(whole).unwrap_or(*wanted)))
                    }
                    (Some(_), None) | (None, Some(_) | None) => None,
                };
                (
                    key.clone(),
                    Sent {
                        routes: routes.len(),
                        canary,
                        retired: split.retired.clone(),
                    },
                )
            })
            .collect();
        // Inside the lock: worlds must be published in the order in which they were made.
        self.0.ads.set_world(Arc::new(view.world));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Splits> {
        self.0.splits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn target(namespace: &str, name: &str, split: &Split) -> TargetSplit {
    let rollout = format!("{namespace}/{name}");
    TargetSplit {
        rollout: rollout.clone(),
        namespace: namespace.to_owned(),
        deployment: split.deployment.clone(),
        pod_labels: split.pod_labels.clone(),
        stable: split.state.stable.revision.clone(),
        canary: split
            .canary
            .as_ref()
            .map(|(revision, run, weight)| CanarySplit {
                revision: revision.clone(),
                weight: Weight::percent(u32::from(weight.get())).unwrap_or(Weight::ZERO),
                run: *run,
            }),
        revoked: split
            .state
            .revoked
            .iter()
            .map(|revoked| Revocation {
                rollout: rollout.clone(),
                revision: revoked.revision.clone(),
                run: revoked.run,
            })
            .collect(),
    }
}
