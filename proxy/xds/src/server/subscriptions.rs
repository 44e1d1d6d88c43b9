//! What a proxy subscribes to of one kind, and what it was last told about each name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::leases::Leases;
use super::limits::{self, Limit};
use super::{ProtocolError, Verdict};
use crate::Request;
use crate::kind::Kind;
use crate::resources::{Resource, Resources};

#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions {
    pub(super) names: BTreeMap<String, Answer>,
    /// What the proxy had when it connected: resource name to version.
    initial: HashMap<String, String>,
    started: bool,
    pub(super) unanswered_nonces: BTreeSet<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Subscribed with the first request, which also says what the proxy has.
    Resumed,
    /// Subscribed, and nothing sent.
    Waiting,
    Given {
        resource: Option<Given>,
        nonce: u64,
        verdict: Verdict,
        /// Sent before, and not known to be replaced: one for each rollout.
        kept: Vec<Given>,
        /// When the resource's lease is to be renewed; `None`: it has none.
        renew_at: Option<Instant>,
    },
}

/// The resource that was sent for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) version: String,
    /// Of a route that belongs to a rollout.
    pub(super) rollout: Option<String>,
}

/// A subscription whose last answer is no longer right.
pub(super) struct Due<'a> {
    pub(super) name: &'a str,
    pub(super) answer: &'a Answer,
    /// `None`: there is no such resource.
    pub(super) target: Option<&'a Arc<Resource>>,
}

impl Subscriptions {
    /// Subscribes and unsubscribes.
    pub(super) fn change(
        &mut self,
        kind: Kind,
        request: &mut Request,
    ) -> Result<(), ProtocolError> {
        self.check_not_wildcard(kind, request)?;
        let first = !std::mem::replace(&mut self.started, true);
        if first {
            self.initial = std::mem::take(&mut request.initial_resource_versions);
        }
        for name in request.resource_names_unsubscribe.drain(..) {
            self.names.remove(&name);
        }
        for name in request.resource_names_subscribe.drain(..) {
            let answer = if first {
                Answer::Resumed
            } else {
                Answer::Waiting
            };
            self.names.insert(name, answer);
            if self.names.len() > limits::MOST_NAMES {
                return Err(Limit::Names(kind).into());
            }
        }
        Ok(())
    }

    /// What the proxy brought along and is still current counts as sent and accepted. Whether there was any.
    pub(super) fn settle(
        &mut self,
        kind: Kind,
        resources: &Resources,
        leases: Leases,
        now: Instant,
    ) -> bool {
        let mut settled = false;
        for (name, answer) in &mut self.names {
            if *answer != Answer::Resumed {
                continue;
            }
            let target = resources.resolve(kind, name);
            let current =
                target.filter(|target| self.initial.get(&target.name) == Some(&target.version));
            *answer = current.map_or(Answer::Waiting, |target| Answer::Given {
                resource: Some(Given::of(target)),
                nonce: 0,
                verdict: Verdict::Accepted,
                kept: Vec::new(),
                // Nobody knows when it was renewed last: now is not too early.
                renew_at: leases.ttl(target).map(|_| now),
            });
            settled = true;
        }
        // All that was resumed is settled now.
        self.initial = HashMap::new();
        settled
    }

    /// Records that `resource` is sent for `name` (`None`: that there is none).
    pub(super) fn give(
        &mut self,
        name: String,
        resource: Option<Given>,
        nonce: u64,
        renew_at: Option<Instant>,
    ) {
        let answer = self.names.entry(name).or_insert(Answer::Waiting);
        *answer = Answer::Given {
            kept: answer.in_use().into_iter().cloned().collect(),
            resource,
            nonce,
            verdict: Verdict::Pending,
            renew_at,
        };
    }

    pub(super) fn due<'a>(
        &'a self,
        kind: Kind,
        resources: &'a Resources,
    ) -> impl Iterator<Item = Due<'a>> {
        self.names.iter().filter_map(move |(name, answer)| {
            let target = resources.resolve(kind, name);
            let current = match (answer, target) {
                (Answer::Resumed | Answer::Waiting, _) => false,
                (Answer::Given { resource: None, .. }, target) => target.is_none(),
                (
                    Answer::Given {
                        resource: Some(given),
                        ..
                    },
                    target,
                ) => target.is_some_and(|each| given.is(each)),
            };
            (!current).then_some(Due {
                name,
                answer,
                target,
            })
        })
    }

    /// An unknown nonce is one of a lost race or another stream's: it says nothing about what is out.
    pub(super) fn judge(&mut self, acknowledged: u64, judgement: Verdict) {
        if !self.unanswered_nonces.remove(&acknowledged) {
            return;
        }
        for answer in self.names.values_mut() {
            match answer {
                Answer::Given {
                    nonce,
                    verdict,
                    resource: _,
                    kept,
                    renew_at: _,
                } if *nonce == acknowledged => {
                    *verdict = judgement.clone();
                    if judgement == Verdict::Accepted {
                        kept.clear();
                    }
                }
                Answer::Given { .. } | Answer::Waiting | Answer::Resumed => {}
            }
        }
    }

    /// Before xDS had `*`, a first request for clusters or listeners that named none meant all of them.
    fn check_not_wildcard(&self, kind: Kind, request: &Request) -> Result<(), ProtocolError> {
        let legacy = matches!(kind, Kind::Cluster | Kind::Listener)
            && !self.started
            && request.resource_names_subscribe.is_empty();
        if legacy
            || request
                .resource_names_subscribe
                .iter()
                .any(|name| name == "*")
        {
            return Err(ProtocolError::Wildcard(kind));
        }
        Ok(())
    }
}

impl Answer {
    /// What the proxy may be using: what it has accepted last, and what it was sent since.
    pub(super) fn in_use(&self) -> Vec<&Given> {
        let Answer::Given {
            resource,
            verdict,
            kept,
            nonce: _,
            renew_at: _,
        } = self
        else {
            return Vec::new();
        };
        let sent = match verdict {
            Verdict::Pending | Verdict::Accepted => resource.as_ref(),
            Verdict::Rejected(_) => None,
        };
        let older = kept
            .iter()
            .filter(|kept| sent.is_none_or(|sent| sent.rollout != kept.rollout));
        older.chain(sent).collect()
    }
}

impl Given {
    pub(super) fn of(resource: &Resource) -> Given {
        Given {
            name: resource.name.clone(),
            version: resource.version.clone(),
            rollout: resource.rollout.clone().filter(|name| !name.is_empty()),
        }
    }

    pub(super) fn is(&self, resource: &Resource) -> bool {
        self.name == resource.name && self.version == resource.version
    }
}
