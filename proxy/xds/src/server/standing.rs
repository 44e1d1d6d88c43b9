//! Where the proxy stands: what it was sent, what it has accepted, and what it may still be using.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::subscriptions::Answer;
use super::{DeltaServer, Verdict};
use crate::kind::Kind;

/// The last route that was sent for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRoute {
    pub name: String,
    pub version: String,
    pub verdict: Verdict,
}

/// What is known about one route name that the proxy subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteState {
    /// The route that was last sent; `None` if nothing was, or that there is no route.
    pub sent: Option<SentRoute>,
    /// The rollouts (`<namespace>/<name>`) whose routes the proxy may be using: that of the route it has accepted last, and
    /// those of routes that were sent since.
    pub uses: Vec<String>,
}

/// The versions of a cluster that the proxy has accepted, where they are the newest that it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedCluster {
    pub cluster: Option<String>,
    pub endpoints: Option<String>,
}

impl DeltaServer {
    /// Every route name that the proxy subscribes to.
    pub fn routes(&self) -> BTreeMap<String, RouteState> {
        let state = |answer: &Answer| {
            let sent = match answer {
                Answer::Given {
                    resource: Some(given),
                    verdict,
                    ..
                } => Some(SentRoute {
                    name: given.name.clone(),
                    version: given.version.clone(),
                    verdict: verdict.clone(),
                }),
                Answer::Given { resource: None, .. } | Answer::Waiting | Answer::Resumed => None,
            };
            let uses = answer.in_use().into_iter();
            RouteState {
                sent,
                uses: uses.filter_map(|given| given.rollout.clone()).collect(),
            }
        };
        self.kinds[Kind::Route]
            .names
            .iter()
            .map(|(name, answer)| (name.clone(), state(answer)))
            .collect()
    }

    /// Every cluster of which the proxy has accepted what it was sent last, by name.
    pub fn accepted_clusters(&self) -> BTreeMap<String, AcceptedCluster> {
        let accepted = |kind: Kind| {
            self.kinds[kind]
                .names
                .iter()
                .filter_map(|(name, answer)| match answer {
                    Answer::Given {
                        resource: Some(given),
                        verdict: Verdict::Accepted,
                        ..
                    } => Some((name.clone(), given.version.clone())),
                    Answer::Given { .. } | Answer::Waiting | Answer::Resumed => None,
                })
        };
        let mut clusters: BTreeMap<String, AcceptedCluster> = BTreeMap::new();
        for (name, version) in accepted(Kind::Cluster) {
            clusters.entry(name).or_default().cluster = Some(version);
        }
        for (name, version) in accepted(Kind::Endpoints) {
            clusters.entry(name).or_default().endpoints = Some(version);
        }
        clusters
    }

    /// What the proxy has said of what it was told to do with what comes in; `None`: it was told nothing, or asked for nothing.
    pub fn inbound(&self) -> Option<&Verdict> {
        match self.kinds[Kind::Listener].names.get(&self.pod)? {
            Answer::Given {
                resource: Some(_),
                verdict,
                ..
            } => Some(verdict),
            Answer::Given { resource: None, .. } | Answer::Waiting | Answer::Resumed => None,
        }
    }

    /// Another number whenever what the other methods tell may be different.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// Clusters whose newest definition or endpoints the proxy has rejected, with the text of the NACK.
    pub fn rejected_clusters(&self) -> BTreeMap<String, Arc<str>> {
        let of_kind = |kind: Kind| {
            self.kinds[kind]
                .names
                .iter()
                .filter_map(|(name, answer)| match answer {
                    Answer::Given {
                        verdict: Verdict::Rejected(text),
                        ..
                    } => Some((name.clone(), Arc::clone(text))),
                    Answer::Given { .. } | Answer::Waiting | Answer::Resumed => None,
                })
        };
        of_kind(Kind::Cluster)
            .chain(of_kind(Kind::Endpoints))
            .collect()
    }
}
