//! What every proxy has been sent and has said about it, by pod.
//!
//! ```text
//!   first request for routes ──> Open ──stream lost──> Lost{until} ──until, or the pod is gone──> forgotten
//!                                  ^──── a new stream of the pod ────┘
//! ```
//!
//! A pod whose stream ended stays with what it had: its proxy goes on routing with it, though with a canary's weight no longer
//! than its lease. A new stream is entered with its first request for routes, so that a reconnecting pod is a laggard until it
//! has said what it uses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aviary_xds::Resources;
use rollout_core::time::{Span, Time};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use traffic_core::config::Revocation;
use traffic_core::inbound::Unidentified;
use traffic_core::lease::LEASE;

use super::tally::{Counted, Tally};
use super::view::View;
use crate::key::Key;
use crate::mesh::Callers;

/// Revocations are kept as long as the process runs; a proxy that reports without end must not fill it.
const MOST_REVOCATIONS: usize = 100_000;

/// Names one stream of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(u64);

/// Who has called without an identity, as a sidecar has said on this stream, and when that was.
type Unnamed = (StreamId, Vec<(Unidentified, Instant)>);

/// That a sidecar accepts TLS, was said for the pod with this UID on this stream.
type Accepting = (Box<str>, StreamId);

#[derive(Debug, Default)]
pub(super) struct Registry {
    pods: BTreeMap<Key, Pod>,
    /// The pods that subscribe to a route, by the name that they call it.
    calling: HashMap<String, BTreeSet<Key>>,
    /// The pods that may be using a route of a rollout.
    using: HashMap<String, BTreeSet<Key>>,
    lost: BTreeSet<Key>,
    /// The pods whose sidecars accept TLS, as they have said on their newest stream, which may be over.
    accepting: HashMap<Key, Accepting>,
    unidentified: HashMap<Key, Unnamed>,
    /// Who may call the pods of a rollout; one that is missing is everybody's.
    restricted: HashMap<String, Callers>,
    revoked: BTreeSet<Revocation>,
    last_stream: u64,
    last_rejection: u64,
}

#[derive(Debug)]
struct Pod {
    /// Of its token.
    service_account: Box<str>,
    stream: StreamId,
    link: Link,
    view: View,
    /// Orders NACKs; 0 if there was none.
    rejected_at: u64,
}

/// What a sidecar says of the connections that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    /// Nothing: it has no certificate, or is of a version that takes none.
    Unknown,
    Tls,
}

#[derive(Debug)]
enum Link {
    /// Cancelling the token ends the stream.
    Open(CancellationToken),
    /// From then on it uses no canary's weight.
    Lost { until: Time },
}

impl Registry {
    pub(super) fn next_stream(&mut self) -> StreamId {
        self.last_stream += 1;
        StreamId(self.last_stream)
    }

    /// The stream now speaks for its pod; an older one is ended.
    pub(super) fn enter(
        &mut self,
        key: &Key,
        stream: StreamId,
        end: CancellationToken,
        (service_account, view): (&str, View),
    ) {
        self.lost.remove(key);
        self.relink(key, &view);
        let pod = Pod {
            service_account: service_account.into(),
            stream,
            link: Link::Open(end),
            view,
            rejected_at: 0,
        };
        if let Some(Pod {
            link: Link::Open(older),
            ..
        }) = self.pods.insert(key.clone(), pod)
        {
            older.cancel();
        }
    }

    /// Whether anything changed.
    pub(super) fn update(&mut self, key: &Key, stream: StreamId, view: View) -> bool {
        let known = self.pods.get(key).filter(|pod| pod.stream == stream);
        if known.is_none_or(|pod| pod.view == view) {
            return false;
        }
        self.relink(key, &view);
        if let Some(pod) = self.pods.get_mut(key) {
            pod.view = view;
        }
        true
    }

    /// The pod is found by what is in this view from now on, and by nothing else.
    fn relink(&mut self, key: &Key, view: &View) {
        let empty = View::default();
        let before = self.pods.get(key).map_or(&empty, |pod| &pod.view);
        for (links, old, new) in [
            (&mut self.calling, before.calls(), view.calls()),
            (&mut self.using, before.rollouts(), view.rollouts()),
        ] {
            for gone in old.difference(&new) {
                if let Some(pods) = links.get_mut(*gone) {
                    pods.remove(key);
                    if pods.is_empty() {
                        links.remove(*gone);
                    }
                }
            }
            for fresh in new.difference(&old) {
                let pods = links.entry((*fresh).to_owned()).or_default();
                pods.insert(key.clone());
            }
        }
    }

    /// The rollouts that the pod has to do with.
    pub(super) fn rollouts_of(&self, key: &Key, resources: &Resources) -> BTreeSet<String> {
        let pod = self.pods.get(key);
        pod.map_or_else(BTreeSet::new, |pod| pod.view.concerns(resources))
    }

    /// Whether the stream speaks for the pod.
    pub(super) fn rejected(&mut self, key: &Key, stream: StreamId) -> bool {
        let pod = self.pods.get_mut(key).filter(|pod| pod.stream == stream);
        let Some(pod) = pod else { return false };
        self.last_rejection += 1;
        pod.rejected_at = self.last_rejection;
        true
    }

    /// Whether the stream spoke for the pod.
    pub(super) fn leave(&mut self, key: &Key, stream: StreamId, now: Time) -> bool {
        let pod = self.pods.get_mut(key).filter(|pod| pod.stream == stream);
        let Some(pod) = pod else { return false };
        pod.link = Link::Lost { until: lapse(now) };
        self.lost.insert(key.clone());
        true
    }

    #[cfg(test)]
    pub(super) fn leave_newest(&mut self, key: &Key, now: Time) -> bool {
        let stream = self.pods.get(key).map(|pod| pod.stream);
        stream.is_some_and(|stream| self.leave(key, stream, now))
    }

    /// Whether the pod's sidecar accepts TLS, as it says on the stream that speaks for it. Says whether that is another way than before.
    pub(super) fn accepts(
        &mut self,
        key: &Key,
        stream: StreamId,
        uid: &str,
        accepts: Accepts,
    ) -> bool {
        if self.pods.get(key).is_none_or(|pod| pod.stream != stream) {
            return false;
        }
        match accepts {
            Accepts::Tls => {
                let said = (uid.into(), stream);
                self.accepting.insert(key.clone(), said) != Some((uid.into(), stream))
            }
            Accepts::Unknown => self.accepting.remove(key).is_some(),
        }
    }

    /// For which UID it was said, and where.
    pub(super) fn accepting(&self, key: &Key) -> Option<(Box<str>, StreamId)> {
        self.accepting.get(key).cloned()
    }

    pub(super) fn accepting_pods(&self) -> Vec<Key> {
        self.accepting.keys().cloned().collect()
    }

    /// Who has called the pod without an identity, as its sidecar says on the stream that speaks for it. Says whether it does.
    pub(super) fn called(
        &mut self,
        key: &Key,
        stream: StreamId,
        callers: Vec<(Unidentified, Instant)>,
    ) -> bool {
        let speaks = self.pods.get(key).is_some_and(|pod| pod.stream == stream);
        if speaks {
            self.unidentified.insert(key.clone(), (stream, callers));
        }
        speaks
    }

    /// `None`: the sidecar is not connected, or has not said.
    pub(super) fn unidentified(&self, key: &Key) -> Option<&[(Unidentified, Instant)]> {
        let pod = self.pods.get(key)?;
        let (stream, callers) = self.unidentified.get(key)?;
        let is_open = matches!(pod.link, Link::Open(_));
        (is_open && pod.stream == *stream).then_some(callers)
    }

    /// Connected pods that have not taken over what they are to know of the endpoints of a namespace.
    pub(super) fn behind(&self, namespace: &str, resources: &Resources) -> Vec<Key> {
        let open = self
            .pods
            .iter()
            .filter(|(_, pod)| matches!(pod.link, Link::Open(_)));
        let behind = open.filter(|(_, pod)| pod.view.is_behind(namespace, resources));
        behind.map(|(key, _)| key.clone()).collect()
    }

    /// Who may call the rollout's pods; `None`: everybody. Says whether that is somebody else than before.
    pub(super) fn restrict(&mut self, rollout: &str, callers: Option<Callers>) -> bool {
        match callers {
            Some(callers) => {
                let before = self.restricted.insert(rollout.to_owned(), callers);
                before.as_ref() != self.restricted.get(rollout)
            }
            None => self.restricted.remove(rollout).is_some(),
        }
    }

    /// The rollouts whose pods not everybody may call.
    pub(super) fn restricted(&self) -> Vec<String> {
        self.restricted.keys().cloned().collect()
    }

    pub(super) fn may_call(&self, rollout: &str, namespace: &str, service_account: &str) -> bool {
        let callers = self.restricted.get(rollout);
        callers.is_none_or(|callers| callers.include(namespace, service_account))
    }

    /// The pod is gone, and with it whatever it has said. Says whether there was anything.
    pub(super) fn gone(&mut self, key: &Key) -> bool {
        let accepted = self.accepting.remove(key).is_some();
        self.unidentified.remove(key);
        self.forget(key) || accepted
    }

    /// Whether there was such a pod.
    pub(super) fn forget(&mut self, key: &Key) -> bool {
        self.relink(key, &View::default());
        self.lost.remove(key);
        let gone = self.pods.remove(key);
        if let Some(Pod {
            link: Link::Open(stream),
            ..
        }) = &gone
        {
            stream.cancel();
        }
        gone.is_some()
    }

    /// Those whose signatures were verified.
    pub(super) fn report_revocations(&mut self, revocations: impl IntoIterator<Item = Revocation>) {
        let room = MOST_REVOCATIONS.saturating_sub(self.revoked.len());
        self.revoked.extend(revocations.into_iter().take(room));
    }

    pub(super) fn revoked(&self) -> Vec<Revocation> {
        self.revoked.iter().cloned().collect()
    }

    /// Revisions and runs of one rollout.
    pub(super) fn revoked_of(&self, rollout: &str) -> Vec<(String, u64)> {
        let first = Revocation {
            rollout: rollout.to_owned(),
            revision: String::new(),
            run: 0,
        };
        let from_it_on = self.revoked.range(first..);
        let of_it = from_it_on.take_while(|revoked| revoked.rollout == rollout);
        of_it
            .map(|revoked| (revoked.revision.clone(), revoked.run))
            .collect()
    }

    pub(super) fn is_connected(&self, key: &Key) -> bool {
        let pod = self.pods.get(key);
        pod.is_some_and(|pod| matches!(pod.link, Link::Open(_)))
    }

    /// Those that are connected, and those that are lost and still count.
    pub(super) fn known(&self, now: Time) -> Vec<&Key> {
        let counts = |pod: &Pod| match pod.link {
            Link::Open(_) => true,
            Link::Lost { until } => now < until,
        };
        let known = self.pods.iter().filter(|(_, pod)| counts(pod));
        known.map(|(key, _)| key).collect()
    }

    /// Until when a pod whose stream is lost counts.
    pub(super) fn lost_until(&self, key: &Key) -> Option<Time> {
        match self.pods.get(key)?.link {
            Link::Open(_) => None,
            Link::Lost { until } => Some(until),
        }
    }

    pub(super) fn connected(&self) -> BTreeSet<Key> {
        let open = self
            .pods
            .iter()
            .filter(|(_, pod)| matches!(pod.link, Link::Open(_)));
        open.map(|(key, _)| key.clone()).collect()
    }

    /// Forgets lost pods whose lease is over. Returns those that stand elsewhere now.
    pub(super) fn lapse(&mut self, now: Time) -> Vec<Key> {
        let (mut moved, mut over) = (Vec::new(), Vec::new());
        for key in &self.lost {
            if let Some(Pod {
                link: Link::Lost { until },
                ..
            }) = self.pods.get_mut(key)
            {
                // A clock that was set back must not keep it longer than one more lease.
                let at_most = lapse(now);
                if *until > at_most {
                    *until = at_most;
                    moved.push(key.clone());
                }
                if now >= *until {
                    over.push(key.clone());
                }
            }
        }
        for key in &over {
            self.forget(key);
        }
        moved.extend(over);
        moved
    }

    /// How the pod counts for the rollout; `None`: it does not. Whoever may not call the rollout's pods is refused by them whatever it goes by: it has no say in
    /// when they are released.
    pub(super) fn counted(
        &self,
        key: &Key,
        rollout: &str,
        resources: &Resources,
    ) -> Option<Counted> {
        let pod = self.pods.get(key)?;
        if !self.may_call(rollout, &key.namespace, &pod.service_account) {
            return None;
        }
        match pod.link {
            Link::Lost { until } => pod.view.uses(rollout).then_some(Counted {
                acknowledged: false,
                endpoints: false,
                until: Some(until),
                rejection: None,
            }),
            Link::Open(_) => {
                let standing = pod.view.standing(rollout, resources)?;
                let rejection = standing.rejection.filter(|_| pod.rejected_at > 0);
                Some(Counted {
                    acknowledged: standing.acknowledged,
                    endpoints: standing.endpoints,
                    until: None,
                    rejection: rejection.map(|text| (pod.rejected_at, Arc::clone(text))),
                })
            }
        }
    }

    /// Everybody who counts for the rollout.
    pub(super) fn tally(&self, rollout: &str, resources: &Resources) -> Tally {
        let names = resources
            .routes_of(rollout)
            .flat_map(|route| std::iter::once(&route.name).chain(&route.aliases));
        let calling = names.filter_map(|name| self.calling.get(name));
        let concerned: BTreeSet<&Key> = calling.chain(self.using.get(rollout)).flatten().collect();
        let mut tally = Tally::default();
        for key in concerned {
            tally.put(key, self.counted(key, rollout, resources));
        }
        tally
    }
}

/// When a proxy that is lost now has given up a canary's weight.
fn lapse(now: Time) -> Time {
    let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    now + Span(lease)
}

#[cfg(test)]
mod tests;
