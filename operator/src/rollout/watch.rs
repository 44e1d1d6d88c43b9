//! Keeps the views up to date, and wakes who depends on them: always after the view has what it is about.
//!
//! Pods, ReplicaSets and volume claims are watched in the whole cluster, so they are stripped on arrival to what is read.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use aviary_crds::{CANARY_OF_LABEL, ROLLOUT_LABEL};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod};
use kube::api::DynamicObject;
use kube::{Api, Client, Resource, ResourceExt};
use kube_runtime::reflector::store::Writer;
use kube_runtime::reflector::{Lookup, Store};
use kube_runtime::{WatchStreamExt, reflector, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::replica_sets;
use super::views::Views;
use super::write::Kind;
use crate::ads::Ads;
use crate::key::Key;

/// The ConfigMap in the operator's namespace that stops every raise in the cluster.
pub const FREEZE: &str = "aviary-freeze";

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something about this rollout.
    Rollout(Key),
    /// Something that the rollout of this Deployment depends on.
    Deployment(Key),
    /// Something that the rollouts of this namespace may depend on, and routes.
    Namespace(String),
    /// Something that every rollout may depend on: a whole list came anew, or the freeze.
    Everything,
    /// Something that routes and endpoints are made of.
    Traffic,
}

#[derive(Clone)]
pub struct Changes(mpsc::UnboundedSender<Change>);

impl Changes {
    pub fn new() -> (Changes, mpsc::UnboundedReceiver<Change>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Changes(sender), receiver)
    }

    fn send(&self, change: Change) {
        // The receiver is gone only when the process ends.
        let _ = self.0.send(change);
    }
}

/// Starts the watches. They retry for ever: while the API server is away the views keep what they have.
pub fn watch(
    client: &Client,
    namespace: &str,
    ads: &Ads,
    changes: &Changes,
    tasks: &mut JoinSet<()>,
) -> Views {
    let all = watcher::Config::default();
    let labelled = |label: &str| watcher::Config::default().labels(label);
    let dynamic = |kind: Kind| {
        (
            Api::all_with(client.clone(), &kind.resource()),
            kind.resource(),
        )
    };
    let by_label = |label: &'static str| {
        move |object: &DynamicObject| {
            let rollout = object.labels().get(label)?;
            Some(Change::Rollout(Key::of(object).beside(rollout)))
        }
    };
    let (deployments, deployment) = dynamic(Kind::Deployment);
    let (replica_sets, replica_set) = dynamic(Kind::ReplicaSet);
    let (kept, kept_kind) = dynamic(Kind::ControllerRevision);
    let (pods, pod_writer) = reflector::store();
    tasks.spawn(follow_pods(
        client.clone(),
        pod_writer,
        ads.clone(),
        changes.clone(),
    ));
    let freeze = watcher::Config::default().fields(&format!("metadata.name={FREEZE}"));
    Views {
        rollouts: start(
            Api::all(client.clone()),
            all.clone(),
            (),
            changes,
            tasks,
            |_| {},
            |rollout| Some(Change::Rollout(Key::of(rollout))),
        ),
        originals: start(
            deployments.clone(),
            labelled(ROLLOUT_LABEL),
            deployment.clone(),
            changes,
            tasks,
            forget_managers,
            by_label(ROLLOUT_LABEL),
        ),
        copies: start(
            deployments,
            labelled(CANARY_OF_LABEL),
            deployment,
            changes,
            tasks,
            forget_managers,
            by_label(CANARY_OF_LABEL),
        ),
        replica_sets: start(
            replica_sets,
            all.clone(),
            replica_set,
            changes,
            tasks,
            replica_sets::strip,
            |set| {
                let owners = set.owner_references().iter();
                let mut owner = owners.filter(|owner| owner.controller == Some(true));
                Some(Change::Deployment(
                    Key::of(set).beside(owner.next()?.name.clone()),
                ))
            },
        ),
        kept: start(
            kept,
            labelled(ROLLOUT_LABEL),
            kept_kind,
            changes,
            tasks,
            forget_managers,
            by_label(ROLLOUT_LABEL),
        ),
        pods,
        services: start(
            Api::all(client.clone()),
            all.clone(),
            (),
            changes,
            tasks,
            |_| {},
            |service: &k8s_openapi::api::core::v1::Service| {
                service.metadata.namespace.clone().map(Change::Namespace)
            },
        ),
        slices: start(
            Api::all(client.clone()),
            all.clone(),
            (),
            changes,
            tasks,
            |_| {},
            |_| Some(Change::Traffic),
        ),
        claims: start(
            Api::all(client.clone()),
            all,
            (),
            changes,
            tasks,
            strip_claim,
            |claim| claim.metadata.namespace.clone().map(Change::Namespace),
        ),
        freezes: start(
            Api::namespaced(client.clone(), namespace),
            freeze,
            (),
            changes,
            tasks,
            |_| {},
            |_| Some(Change::Everything),
        ),
    }
}

impl Views {
    /// Waits until every watch has listed once.
    pub async fn ready(&self) {
        // A writer is dropped only when its task ends, which is when the process ends.
        let Views {
            rollouts,
            originals,
            copies,
            replica_sets,
            kept,
            pods,
            services,
            slices,
            claims,
            freezes,
        } = self;
        let _ = rollouts.wait_until_ready().await;
        let _ = originals.wait_until_ready().await;
        let _ = copies.wait_until_ready().await;
        let _ = replica_sets.wait_until_ready().await;
        let _ = kept.wait_until_ready().await;
        let _ = pods.wait_until_ready().await;
        let _ = services.wait_until_ready().await;
        let _ = slices.wait_until_ready().await;
        let _ = claims.wait_until_ready().await;
        let _ = freezes.wait_until_ready().await;
    }
}

fn start<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: <K as Resource>::DynamicType,
    changes: &Changes,
    tasks: &mut JoinSet<()>,
    strip: impl FnMut(&mut K) + Send + 'static,
    change: impl Fn(&K) -> Option<Change> + Send + 'static,
) -> Store<K>
where
    K: Resource + Lookup<DynamicType = <K as Resource>::DynamicType>,
    K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    <K as Resource>::DynamicType: Eq + Hash + Clone + Debug + Send + Sync + Unpin,
{
    let writer = Writer::new(kind);
    let store = writer.as_reader();
    let stream = watcher(api, config)
        .default_backoff()
        .modify(strip)
        .reflect(writer);
    let changes = changes.clone();
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => {
                    if let Some(change) = change(&object) {
                        changes.send(change);
                    }
                }
                // The view has a list only when all of it is here.
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Ok(watcher::Event::InitDone) => changes.send(Change::Everything),
                Err(error) => broke(&error),
            }
        }
    });
    store
}

/// Pods are also who is behind a stream: a proxy whose pod is gone is no laggard.
async fn follow_pods(client: Client, writer: Writer<Pod>, ads: Ads, changes: Changes) {
    let reader = writer.as_reader();
    let api: Api<Pod> = Api::all(client);
    let mut known: HashSet<Key> = HashSet::new();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(strip_pod)
        .reflect(writer);
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(pod)) => {
                known.insert(Key::of(&pod));
            }
            Ok(watcher::Event::Delete(pod)) => {
                let key = Key::of(&pod);
                ads.forget_pod(&key);
                known.remove(&key);
            }
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => continue,
            Ok(watcher::Event::InitDone) => {
                let now: HashSet<Key> = reader.state().iter().map(|pod| Key::of(&**pod)).collect();
                for gone in known.difference(&now) {
                    ads.forget_pod(gone);
                }
                known = now;
            }
            Err(error) => {
                broke(&error);
                continue;
            }
        }
        changes.send(Change::Traffic);
    }
}

fn broke(error: &watcher::Error) {
    tracing::warn!(%error, "a watch broke; it is taken up again, and until then the last known objects count");
}

fn forget_managers(object: &mut DynamicObject) {
    object.managed_fields_mut().clear();
}

fn strip_claim(claim: &mut PersistentVolumeClaim) {
    claim.managed_fields_mut().clear();
    claim.annotations_mut().clear();
    claim.status = None;
}

fn strip_pod(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    pod.annotations_mut().clear();
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            let name = std::mem::take(&mut container.name);
            *container = Container {
                name,
                ..Container::default()
            };
        }
    }
}
