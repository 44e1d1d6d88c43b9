//! The xDS server of the sidecars: delta ADS over TLS, authenticated by ServiceAccount tokens.
//!
//! ```text
//!   set_world ──> watch<Resources> ──> one task per stream: DeltaServer ──> proxy
//!   rollout_acks <── Registry <── what was sent, acknowledged, rejected ──┘
//! ```
//!
//! Each stream is a task that encodes nothing and asks for the next message only when its transport takes one, so a slow or dead
//! proxy costs itself and nobody else. Nothing is answered before the first world: a control plane that has just started knows
//! nothing, and must not say that there is nothing.
//!
//! Not here: state-of-the-world xDS and stock Envoy's wildcards, and load reports.

mod acks;
mod authenticate;
mod debounce;
mod registry;
mod service;
mod sign;
mod stream;
mod view;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aviary_xds::Resources;
use rollout_core::time::Time;
use tokio::sync::watch;
use traffic_core::config::Revocation;

use crate::key::Key;
use crate::mesh::World;

pub use acks::{Acks, Laggard, Rejection};
pub use authenticate::{AuthError, Authenticated, Authenticator, PodIdentity};
pub use service::ServeError;
pub use sign::{KEY_BYTES, RevocationKey};

use registry::Registry;

/// The handle on the server. Clones are the same server.
#[derive(Clone)]
pub struct Ads(Arc<Inner>);

struct Inner {
    key: RevocationKey,
    resources: watch::Sender<Option<Arc<Resources>>>,
    world: Mutex<Option<Arc<World>>>,
    registry: Mutex<Registry>,
    changes: watch::Sender<u64>,
    counters: Counters,
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
            resources: watch::Sender::new(None),
            world: Mutex::default(),
            registry: Mutex::default(),
            changes: watch::Sender::new(0),
            counters: Counters::default(),
        }))
    }

    /// Serves `world` from now on. Returns at once; every stream is sent what changed for it, routes first.
    pub fn set_world(&self, world: Arc<World>) {
        let world = self.0.key.sign_world(world);
        let mut current = lock(&self.0.world);
        if current.as_ref().is_some_and(|current| *current == world) {
            return;
        }
        let encoded = self.0.resources.borrow().clone();
        let resources = world.resources(current.as_deref().zip(encoded.as_deref()));
        self.0.resources.send_replace(Some(Arc::new(resources)));
        *current = Some(world);
        drop(current);
        self.changed();
    }

    /// How far the proxies are with the routes of one rollout (`<namespace>/<name>`). Lost proxies count until their lease is
    /// over: [`Acks::next_lapse`] says when to look again, since nothing wakes then.
    pub fn rollout_acks(&self, rollout: &str, now: Time) -> Acks {
        let resources = self.0.resources.borrow().clone();
        resources.map_or_else(Acks::default, |resources| {
            self.registry().acks(rollout, &resources, now)
        })
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

    /// The pod is gone: it is no laggard any more.
    pub fn forget_pod(&self, pod: &Key) {
        if self.registry().forget(pod) {
            self.changed();
        }
    }

    /// Wakes whenever an answer of [`Ads::rollout_acks`], [`Ads::connected`] or [`Ads::revoked`] may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
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

    fn changed(&self) {
        self.0.changes.send_modify(|version| *version += 1);
    }
}

/// No code panics with one of these locks held half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
