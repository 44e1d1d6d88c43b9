//! The watches of one operator: each kind is behind by as much as it happens to be, so kinds reorder; nothing of one kind does.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use aviary_crds::{CANARY_OF_LABEL, CanaryRollout, REVISION_LABEL, ROLLOUT_LABEL};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube_runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{self, Type};
use crate::key::Key;
use crate::rollout::changes::{self, About, Change};
use crate::rollout::replica_sets;
use crate::rollout::views::{Guarded, Views, Writer, Writers};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stream {
    Rollouts,
    Originals,
    Copies,
    ReplicaSets,
    Kept,
    Pods,
    Services,
    Slices,
    Freezes,
    Unadopted,
}

impl Stream {
    pub(super) const ALL: [Stream; 10] = [
        Stream::Rollouts,
        Stream::Originals,
        Stream::Copies,
        Stream::ReplicaSets,
        Stream::Kept,
        Stream::Pods,
        Stream::Services,
        Stream::Slices,
        Stream::Freezes,
        Stream::Unadopted,
    ];

    /// Those whose lag is left to chance. The other is always as late as the adopted ones may be.
    pub(super) const CHANCY: &[Stream] = Self::ALL.split_at(9).0;

    pub(super) fn kind(self) -> Type {
        match self {
            Stream::Rollouts => Type::CanaryRollout,
            Stream::Originals | Stream::Copies | Stream::Unadopted => Type::Deployment,
            Stream::ReplicaSets => Type::ReplicaSet,
            Stream::Kept => Type::ControllerRevision,
            Stream::Pods => Type::Pod,
            Stream::Services => Type::Service,
            Stream::Slices => Type::EndpointSlice,
            Stream::Freezes => Type::ConfigMap,
        }
    }

    /// By label, as the watch asks for it.
    fn selects(self, object: &Value) -> bool {
        let has = |label: &str| object["metadata"]["labels"].get(label).is_some();
        match self {
            Stream::Originals | Stream::Kept => has(ROLLOUT_LABEL),
            Stream::Copies => has(CANARY_OF_LABEL),
            Stream::Unadopted => !has(ROLLOUT_LABEL) && !has(CANARY_OF_LABEL),
            Stream::Rollouts
            | Stream::ReplicaSets
            | Stream::Pods
            | Stream::Services
            | Stream::Slices
            | Stream::Freezes => true,
        }
    }

    /// What the watch says of a change.
    pub(super) fn sees(self, change: &api::Change) -> Option<Seen> {
        if change.kind != self.kind() {
            return None;
        }
        let of = |object: &Option<Arc<Value>>| object.clone().filter(|object| self.selects(object));
        match (of(&change.before), of(&change.after)) {
            (_, Some(after)) => Some(Seen::Applied(after)),
            (Some(before), None) => Some(Seen::Deleted(before)),
            (None, None) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Seen {
    Applied(Arc<Value>),
    Deleted(Arc<Value>),
    /// The watch broke, and begins anew with all that there is.
    Listed(Vec<Arc<Value>>),
}

/// What one stream has not told yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) queue: VecDeque<Seen>,
    /// Nothing is told before.
    pub(super) not_before: i64,
}

pub(super) struct Watches {
    views: Views,
    writers: Writers,
    /// Addresses of copies' pods, and their revisions, as the watch has told.
    addresses: BTreeMap<String, (IpAddr, String)>,
}

impl Watches {
    pub(super) fn new() -> Watches {
        let (views, mut writers) = Views::new();
        writers.claims.apply(Event::Init);
        writers.claims.apply(Event::InitDone);
        Watches {
            views,
            writers,
            addresses: BTreeMap::new(),
        }
    }

    pub(super) fn views(&self) -> Views {
        self.views.clone()
    }

    pub(super) fn copies(&self) -> BTreeMap<IpAddr, String> {
        self.addresses.values().cloned().collect()
    }

    /// What it means that a watch has seen this.
    pub(super) fn take(&mut self, stream: Stream, seen: &Seen) -> Vec<Change> {
        let to = &mut self.writers;
        match stream {
            Stream::Rollouts => feed(&mut to.rollouts, seen, read, changes::of_rollout),
            Stream::Originals => feed(&mut to.originals, seen, same, changes::of_original),
            Stream::Copies => feed(&mut to.copies, seen, same, changes::of_copy),
            Stream::ReplicaSets => feed(
                &mut to.replica_sets,
                seen,
                |mut set| {
                    replica_sets::strip(&mut set);
                    set
                },
                changes::of_replica_set,
            ),
            Stream::Kept => feed(&mut to.kept, seen, same, changes::of_kept),
            Stream::Pods => {
                note(&mut self.addresses, seen);
                feed(&mut to.pods, seen, |pod: Pod| pod.into(), changes::of_pod)
            }
            Stream::Services => feed(&mut to.services, seen, same, changes::of_service),
            Stream::Slices => feed(&mut to.slices, seen, same, changes::of_slice),
            Stream::Unadopted => feed(
                &mut to.unadopted,
                seen,
                |deployment: DynamicObject| Key::of(&deployment),
                changes::of_unadopted,
            ),
            Stream::Freezes => feed(&mut to.freezes, seen, same, changes::of_freeze),
        }
    }
}

fn note(addresses: &mut BTreeMap<String, (IpAddr, String)>, seen: &Seen) {
    let name = |pod: &Value| {
        format!(
            "{}/{}",
            pod["metadata"]["namespace"], pod["metadata"]["name"]
        )
    };
    let of = |pod: &Value| {
        let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
        let revision = pod["metadata"]["labels"][REVISION_LABEL].as_str()?;
        Some((address, revision.to_owned()))
    };
    let applied: &[Arc<Value>] = match seen {
        Seen::Applied(pod) => std::slice::from_ref(pod),
        Seen::Deleted(pod) => {
            addresses.remove(&name(pod));
            &[]
        }
        Seen::Listed(pods) => {
            addresses.clear();
            pods
        }
    };
    for pod in applied {
        match of(pod) {
            Some(of) => addresses.insert(name(pod), of),
            None => addresses.remove(&name(pod)),
        };
    }
}

/// All that a watch would list now.
pub(super) fn list(api: &api::Api, stream: Stream) -> Seen {
    Seen::Listed(
        api.list(stream.kind())
            .filter(|object| stream.selects(object))
            .cloned()
            .collect(),
    )
}

fn read(rollout: DeserializeGuard<CanaryRollout>) -> Guarded {
    Guarded::from(rollout)
}

fn same<K>(object: K) -> K {
    object
}

fn feed<K: DeserializeOwned, V>(
    writer: &mut Writer<V>,
    seen: &Seen,
    keep: fn(K) -> V,
    about: About<V>,
) -> Vec<Change> {
    let read = |object: &Value| {
        keep(serde_json::from_value(object.clone()).expect("what the API server has can be read"))
    };
    let seen = match seen {
        Seen::Applied(object) => writer.apply(Event::Apply(read(object))),
        Seen::Deleted(object) => writer.apply(Event::Delete(read(object))),
        Seen::Listed(objects) => {
            writer.apply(Event::Init);
            for object in objects {
                writer.apply(Event::InitApply(read(object)));
            }
            writer.apply(Event::InitDone)
        }
    };
    changes::of(&seen, about)
}
