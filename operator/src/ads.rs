//! The xDS server of the sidecars: delta ADS over TLS, authenticated by ServiceAccount tokens.
//!
//! ```text
//!   apply ──> Resources, and whoever subscribes to what changed ──> one task per stream: DeltaServer ──> proxy
//!   rollout_acks, touched <── Registry <── what was sent, acknowledged, rejected ──────────────────┘
//! ```
//!
//! Each stream is a task that encodes nothing and asks for the next message only when its transport takes one, so a slow or dead
//! proxy costs itself and nobody else. Nothing is answered before the first world: a control plane that has just started knows
//! nothing, and must not say that there is nothing.
//!
//! Not here: state-of-the-world xDS and stock Envoy's wildcards.

mod acks;
mod allowance;
mod authenticate;
mod certify;
mod debounce;
mod door;
mod interests;
mod loads;
mod proxies;
mod registry;
mod remembered;
mod service;
mod sign;
mod stream;
mod tallies;
mod tally;
mod view;
mod visit;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use aviary_xds::{Kind, Resources};
use rollout_core::time::Time;
use tokio::sync::watch;
use traffic_core::config::Revocation;
use traffic_core::inbound::Unidentified;

use crate::key::Key;
use crate::mesh::{RouteEntry, World, WorldChange};
use crate::outcomes::Outcomes;
use crate::serve::places::Places;
use crate::tenure::Tenure;

pub use acks::{Acks, Laggard, Rejection};
pub use authenticate::{AuthError, Authenticated, Authenticator, PodIdentity};
pub use proxies::{Proxy, Stands};
pub use service::ServeError;
pub use sign::{KEY_BYTES, RevocationKey};

use interests::Interests;
use registry::Registry;
pub use registry::StreamId;
use tallies::Tallies;

/// The handle on the server. Clones are the same server.
#[derive(Clone)]
pub struct Ads(Arc<Inner>);

struct Inner {
    key: RevocationKey,
    /// `None`: nothing was published yet. Locked before the registry, and never while anybody waits.
    resources: RwLock<Option<Resources>>,
    interests: Mutex<Interests>,
    registry: Mutex<Registry>,
    /// Locked after the registry.
    tallies: Mutex<Tallies>,
    touched: Mutex<Touched>,
    changes: watch::Sender<u64>,
    counters: Counters,
    streams_of_pods: Arc<Places<Key>>,
    reports_of_pods: Arc<Places<Key>>,
    outcomes: Outcomes,
    tenure: OnceLock<Tenure>,
}

/// Open streams of one pod: the one that speaks for it, and some that are about to end. A newer one ends the oldest.
const STREAMS_OF_ONE_POD: usize = 4;

/// Whom news of proxies concern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Rollouts (`<namespace>/<name>`) whose [`Ads::rollout_acks`] or [`Ads::revoked_of`] may have another answer.
    pub rollouts: BTreeSet<String>,
    /// Pods whose stream is another one, or lost, or that are gone.
    pub pods: BTreeSet<Key>,
}

#[derive(Default)]
struct Counters {
    streams: AtomicU64,
    pushes: AtomicU64,
    heartbeats: AtomicU64,
    rejections: AtomicU64,
}

/// For metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open streams.
    pub streams: u64,
    /// Messages with something new that were sent since the start.
    pub pushes: u64,
    /// Messages that renewed leases.
    pub heartbeats: u64,
    /// NACKs received since the start.
    pub rejections: u64,
}

impl Ads {
    /// Revocations are signed with `key`.
    pub fn new(key: RevocationKey) -> Ads {
        Ads(Arc::new(Inner {
            key,
            resources: RwLock::default(),
            interests: Mutex::default(),
            registry: Mutex::default(),
            tallies: Mutex::default(),
            touched: Mutex::default(),
            changes: watch::Sender::new(0),
            counters: Counters::default(),
            streams_of_pods: Places::new(usize::MAX, STREAMS_OF_ONE_POD),
            reports_of_pods: Places::new(usize::MAX, 1),
            outcomes: Outcomes::default(),
            tenure: OnceLock::new(),
        }))
    }

    /// From now on weights are lent for as long only as this replica may write: one that is cut off from the API server does not hear what another decides, so
    /// what it has lent ends by itself. What lowers a weight is sent as ever.
    pub fn lends_during(&self, tenure: Tenure) {
        self.0.tenure.set(tenure).ok();
    }

    fn may_renew(&self) -> bool {
        self.0.tenure.get().is_none_or(Tenure::holds)
    }

    /// Serves this world from now on, and nothing else.
    pub fn set_world(&self, world: impl AsRef<World>) {
        let world = world.as_ref();
        let mut change = WorldChange::default();
        if let Some(served) = &*self.world() {
            let names = |kind: Kind| served.names(kind).cloned();
            change.routes = names(Kind::Route).map(|name| (name, None)).collect();
            change.clusters = names(Kind::Cluster).map(|name| (name, None)).collect();
            let pods = names(Kind::Listener).filter_map(|pod| Key::read(&pod));
            change.inbound = pods.map(|pod| (pod, None)).collect();
            let restricted = self.registry().restricted().into_iter();
            change.callers = restricted.map(|rollout| (rollout, None)).collect();
        }
        let routes = world.routes.iter();
        let routes = routes.map(|(name, entry)| (name.clone(), Some(entry.clone())));
        let clusters = world.clusters.iter();
        let clusters = clusters.map(|(name, cluster)| (name.clone(), Some(cluster.clone())));
        change.routes.extend(routes);
        change.clusters.extend(clusters);
        let inbound = world.inbound.iter();
        let inbound = inbound.map(|(pod, inbound)| (pod.clone(), Some(inbound.clone())));
        change.inbound.extend(inbound);
        let callers = world.callers.iter();
        let callers = callers.map(|(rollout, callers)| (rollout.clone(), Some(callers.clone())));
        change.callers.extend(callers);
        self.apply(change);
    }

    /// Serves this from now on. Returns at once; every stream that has to do with it is sent what changed for it, routes first.
    pub fn apply(&self, mut change: WorldChange) {
        self.0.key.sign_all(&mut change);
        let mut served = self
            .0
            .resources
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let first = served.is_none();
        let resources = served.get_or_insert_default();
        let (mut changed, mut rollouts) = (HashSet::new(), BTreeSet::new());
        for (name, cluster) in change.clusters {
            let kinds = match cluster {
                Some(cluster) => resources.insert_cluster(&cluster),
                None if resources.remove_cluster(&name) => vec![Kind::Cluster, Kind::Endpoints],
                None => Vec::new(),
            };
            if let Some((route, _)) = name.rsplit_once('/').filter(|_| !kinds.is_empty()) {
                let route = resources.resolve(Kind::Route, route);
                rollouts.extend(route.and_then(|route| route.rollout.clone()));
            }
            changed.extend(kinds.into_iter().map(|kind| (kind, name.clone())));
        }
        rollouts.remove("");
        for (name, entry) in change.routes {
            let before = resources.resolve(Kind::Route, &name).cloned();
            let (other, applications) = match entry {
                Some(RouteEntry {
                    route,
                    destinations,
                    applications,
                }) => (resources.insert_route(&route, &destinations), applications),
                None => (resources.remove_route(&name), Vec::new()),
            };
            let mut called = resources.set_applications(&name, &applications);
            if other {
                called.extend_from_slice(resources.applications_of(&name));
            }
            if !other && called.is_empty() {
                continue;
            }
            changed.extend(called.into_iter().map(|name| (Kind::Route, name)));
            let after = resources.resolve(Kind::Route, &name).cloned();
            for route in before.into_iter().chain(after) {
                if other {
                    let names = std::iter::once(&route.name).chain(&route.aliases);
                    changed.extend(names.map(|name| (Kind::Route, name.clone())));
                }
                rollouts.extend(route.rollout.clone().filter(|rollout| !rollout.is_empty()));
            }
        }
        for (pod, inbound) in change.inbound {
            let pod = pod.to_string();
            let other = match inbound {
                Some(inbound) => resources.insert_inbound(&pod, &inbound),
                None => resources.remove_inbound(&pod),
            };
            if other {
                changed.insert((Kind::Listener, pod));
            }
        }
        for (rollout, callers) in change.callers {
            if self.registry().restrict(&rollout, callers) {
                rollouts.insert(rollout);
            }
        }
        lock(&self.0.tallies).discard(rollouts.iter().map(String::as_str));
        drop(served);
        if first {
            self.interests().wake_everyone();
        } else {
            self.interests().wake(&changed);
        }
        if !rollouts.is_empty() {
            lock(&self.0.touched).rollouts.extend(rollouts);
            self.changed();
        }
    }

    /// How far the proxies are with the routes of one rollout (`<namespace>/<name>`). Lost proxies count until their lease is
    /// over: [`Acks::next_lapse`] says when to look again, since nothing wakes then.
    pub fn rollout_acks(&self, rollout: &str, now: Time) -> Acks {
        let resources = self.world();
        let Some(resources) = &*resources else {
            return Acks::default();
        };
        let mut registry = self.registry();
        let mut tallies = lock(&self.0.tallies);
        for pod in registry.lapse(now) {
            tallies.doubt_everywhere(&pod);
        }
        tallies.acks(rollout, &registry, resources)
    }

    /// Whether a connected pod still goes by another weight of the rollout than the newest.
    pub fn is_behind(&self, rollout: &Key, pod: &Key) -> bool {
        let rollout = rollout.to_string();
        // Asked for each report: mostly nobody is.
        if !lock(&self.0.tallies).may_lag(&rollout) {
            return false;
        }
        let world = self.world();
        let Some(resources) = &*world else {
            return false;
        };
        let counted = self.registry().counted(pod, &rollout, resources);
        counted.is_some_and(|counted| !counted.acknowledged)
    }

    /// Whether the rollout's pods may be called by this one, as far as policies say.
    pub fn may_call(&self, rollout: &Key, pod: &PodIdentity) -> bool {
        let registry = self.registry();
        registry.may_call(&rollout.to_string(), &pod.namespace, &pod.service_account)
    }

    /// Nobody asks about this rollout any more.
    pub fn forget_rollout(&self, rollout: &str) {
        lock(&self.0.tallies).discard([rollout]);
    }

    /// Pods with an open stream.
    pub fn connected(&self) -> BTreeSet<Key> {
        self.registry().connected()
    }

    /// Every rollback that a proxy has told us of since this process started, sorted. Only what this installation has made: a
    /// report without its signature counts for nothing.
    pub fn revoked(&self) -> Vec<Revocation> {
        self.registry().revoked()
    }

    /// The same of one rollout: revisions and runs.
    pub fn revoked_of(&self, rollout: &str) -> Vec<(String, u64)> {
        self.registry().revoked_of(rollout)
    }

    pub fn is_connected(&self, pod: &Key) -> bool {
        self.registry().is_connected(pod)
    }

    /// Whether the pod's sidecar has said that it accepts TLS: for which UID of the pod, and on which stream.
    pub fn accepting(&self, pod: &Key) -> Option<(Box<str>, StreamId)> {
        self.registry().accepting(pod)
    }

    /// Who has called the pod without an identity, and how long ago; `None`: its sidecar is not connected, or has not said.
    pub fn unidentified(&self, pod: &Key) -> Option<Vec<(Unidentified, Duration)>> {
        let registry = self.registry();
        let callers = registry.unidentified(pod)?.iter();
        Some(
            callers
                .map(|(caller, at)| (*caller, at.elapsed()))
                .collect(),
        )
    }

    /// Connected pods that call a namespace and have not taken over yet what they were sent of its endpoints.
    pub fn behind(&self, namespace: &str) -> Vec<Key> {
        let world = self.world();
        world.as_ref().map_or_else(Vec::new, |resources| {
            self.registry().behind(namespace, resources)
        })
    }

    /// The pods whose sidecars have said so.
    pub fn accepting_pods(&self) -> Vec<Key> {
        self.registry().accepting_pods()
    }

    /// The pod is gone: it is no laggard any more.
    pub fn forget_pod(&self, pod: &Key) {
        self.learn(pod, |registry| registry.gone(pod));
    }

    /// Whom the news since the last call concern.
    pub fn take_touched(&self) -> Touched {
        std::mem::take(&mut *lock(&self.0.touched))
    }

    /// Wakes whenever [`Ads::take_touched`] has something, and an answer of [`Ads::rollout_acks`], [`Ads::connected`] or
    /// [`Ads::revoked`] may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// What the proxies report of requests.
    pub fn outcomes(&self) -> &Outcomes {
        &self.0.outcomes
    }

    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters {
            streams,
            pushes,
            heartbeats,
            rejections,
        } = &self.0.counters;
        Counts {
            streams: read(streams),
            pushes: read(pushes),
            heartbeats: read(heartbeats),
            rejections: read(rejections),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.0.registry)
    }

    fn interests(&self) -> MutexGuard<'_, Interests> {
        lock(&self.0.interests)
    }

    fn world(&self) -> RwLockReadGuard<'_, Option<Resources>> {
        self.0
            .resources
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a pod, if it does. That concerns whom the pod had to do with, and whom it has to do with now.
    fn learn(&self, pod: &Key, change: impl FnOnce(&mut Registry) -> bool) {
        let resources = self.world();
        let mut registry = self.registry();
        let of = |registry: &Registry| {
            let resources = resources.as_ref();
            resources.map_or_else(BTreeSet::new, |served| registry.rollouts_of(pod, served))
        };
        let mut rollouts = of(&registry);
        if !change(&mut registry) {
            return;
        }
        rollouts.extend(of(&registry));
        lock(&self.0.tallies).doubt(&rollouts, pod);
        drop(registry);
        drop(resources);
        self.touched(rollouts, pod);
    }

    fn touched(&self, rollouts: BTreeSet<String>, pod: &Key) {
        {
            let mut touched = lock(&self.0.touched);
            touched.rollouts.extend(rollouts);
            touched.pods.insert(pod.clone());
        }
        self.changed();
    }

    fn changed(&self) {
        self.0.changes.send_modify(|version| *version += 1);
    }
}

/// Streams without a transport, for tests of who looks at them from outside.
#[cfg(test)]
impl Ads {
    /// A new stream of the pod, whose token is for this UID.
    pub(crate) fn stream_of(&self, pod: &Key, uid: &str, accepts: bool) {
        use registry::Accepts;
        let stream = self.registry().next_stream();
        let accepts = if accepts {
            Accepts::Tls
        } else {
            Accepts::Unknown
        };
        self.learn(pod, |registry| {
            registry.enter(pod, stream, Default::default(), Default::default());
            registry.accepts(pod, stream, uid, accepts);
            true
        });
    }

    /// The pod's newest stream ends.
    pub(crate) fn end_stream_of(&self, pod: &Key) {
        self.learn(pod, |registry| registry.leave_newest(pod, Time(0)));
    }
}

/// No code panics with one of these locks held half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
