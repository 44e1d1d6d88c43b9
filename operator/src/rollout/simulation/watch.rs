//! The watches of one operator: each kind is behind by as much as it happens to be, so kinds reorder; nothing of one kind does.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use aviary_crds::{CANARY_OF_LABEL, ROLLOUT_LABEL};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::api::DynamicObject;
use kube_runtime::reflector::Lookup;
use kube_runtime::reflector::store::Writer;
use kube_runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{self, Type};
use crate::rollout::replica_sets;
use crate::rollout::views::{Guarded, Views};
use crate::rollout::watch::Change;
use crate::rollout::write::Kind;

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
}

impl Stream {
    pub(super) const ALL: [Stream; 9] = [
        Stream::Rollouts,
        Stream::Originals,
        Stream::Copies,
        Stream::ReplicaSets,
        Stream::Kept,
        Stream::Pods,
        Stream::Services,
        Stream::Slices,
        Stream::Freezes,
    ];

    pub(super) fn kind(self) -> Type {
        match self {
            Stream::Rollouts => Type::CanaryRollout,
            Stream::Originals | Stream::Copies => Type::Deployment,
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

    /// Whom it wakes.
    fn wakes(self, object: &Value) -> Option<Change> {
        let key = api::key(object);
        let by_label = |label: &str| {
            let rollout = object["metadata"]["labels"][label].as_str()?;
            Some(Change::Rollout(key.beside(rollout)))
        };
        match self {
            Stream::Rollouts => Some(Change::Rollout(key)),
            Stream::Originals | Stream::Kept => by_label(ROLLOUT_LABEL),
            Stream::Copies => by_label(CANARY_OF_LABEL),
            Stream::ReplicaSets => {
                let owner = object["metadata"]["ownerReferences"][0]["name"].as_str()?;
                Some(Change::Deployment(key.beside(owner)))
            }
            Stream::Services => Some(Change::Namespace(key.namespace)),
            Stream::Pods | Stream::Slices => Some(Change::Traffic),
            Stream::Freezes => Some(Change::Everything),
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
    rollouts: Writer<Guarded>,
    originals: Writer<DynamicObject>,
    copies: Writer<DynamicObject>,
    replica_sets: Writer<DynamicObject>,
    kept: Writer<DynamicObject>,
    pods: Writer<Pod>,
    services: Writer<Service>,
    slices: Writer<EndpointSlice>,
    claims: Writer<PersistentVolumeClaim>,
    freezes: Writer<ConfigMap>,
}

impl Watches {
    pub(super) fn new() -> Watches {
        let dynamic = |kind: Kind| Writer::new(kind.resource());
        let mut claims = Writer::new(());
        claims.apply_watcher_event(&Event::Init);
        claims.apply_watcher_event(&Event::InitDone);
        Watches {
            rollouts: Writer::new(()),
            originals: dynamic(Kind::Deployment),
            copies: dynamic(Kind::Deployment),
            replica_sets: dynamic(Kind::ReplicaSet),
            kept: dynamic(Kind::ControllerRevision),
            pods: Writer::new(()),
            services: Writer::new(()),
            slices: Writer::new(()),
            claims,
            freezes: Writer::new(()),
        }
    }

    pub(super) fn views(&self) -> Views {
        Views {
            rollouts: self.rollouts.as_reader(),
            originals: self.originals.as_reader(),
            copies: self.copies.as_reader(),
            replica_sets: self.replica_sets.as_reader(),
            kept: self.kept.as_reader(),
            pods: self.pods.as_reader(),
            services: self.services.as_reader(),
            slices: self.slices.as_reader(),
            claims: self.claims.as_reader(),
            freezes: self.freezes.as_reader(),
        }
    }

    pub(super) fn take(&mut self, stream: Stream, seen: &Seen) -> Option<Change> {
        match stream {
            Stream::Rollouts => feed(&mut self.rollouts, seen, |_| {}),
            Stream::Originals => feed(&mut self.originals, seen, |_| {}),
            Stream::Copies => feed(&mut self.copies, seen, |_| {}),
            Stream::ReplicaSets => feed(&mut self.replica_sets, seen, replica_sets::strip),
            Stream::Kept => feed(&mut self.kept, seen, |_| {}),
            Stream::Pods => feed(&mut self.pods, seen, |_| {}),
            Stream::Services => feed(&mut self.services, seen, |_| {}),
            Stream::Slices => feed(&mut self.slices, seen, |_| {}),
            Stream::Freezes => feed(&mut self.freezes, seen, |_| {}),
        }
        match seen {
            Seen::Applied(object) | Seen::Deleted(object) => stream.wakes(object),
            Seen::Listed(_) => Some(Change::Everything),
        }
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

fn feed<K>(writer: &mut Writer<K>, seen: &Seen, strip: fn(&mut K))
where
    K: Resource
        + Lookup<DynamicType = <K as Resource>::DynamicType>
        + Clone
        + DeserializeOwned
        + Debug,
    <K as Resource>::DynamicType: Eq + Hash + Clone,
{
    let read = |object: &Value| {
        let mut object: K =
            serde_json::from_value(object.clone()).expect("what the API server has can be read");
        strip(&mut object);
        object
    };
    match seen {
        Seen::Applied(object) => writer.apply_watcher_event(&Event::Apply(read(object))),
        Seen::Deleted(object) => writer.apply_watcher_event(&Event::Delete(read(object))),
        Seen::Listed(objects) => {
            writer.apply_watcher_event(&Event::Init);
            for object in objects {
                writer.apply_watcher_event(&Event::InitApply(read(object)));
            }
            writer.apply_watcher_event(&Event::InitDone);
        }
    }
}
