//! What the API server told us: watched objects, kept small. A reconcile reads from here and asks nothing of the network.
//!
//! Pods and ReplicaSets are watched in the whole cluster, so they are stripped on arrival to what is read here.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use aviary_crds::{CanaryRollout, ROLLOUT_LABEL};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::reflector::store::{Store, Writer};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::copy::CANARY_OF_LABEL;
use crate::ads::Ads;
use crate::key::Key;
use crate::revision;

/// The ConfigMap in the operator's namespace that stops every raise in the cluster.
pub const FREEZE: &str = "aviary-freeze";

/// On a stripped ReplicaSet or Deployment: the revision and the content hash of its template.
pub const REVISION: &str = "revision";
pub const CONTENT: &str = "content";

#[derive(Clone)]
pub struct Stores {
    pub rollouts: Store<CanaryRollout>,
    /// Adopted Deployments, as raw JSON: their templates must not lose a field.
    pub originals: Store<DynamicObject>,
    /// Canary copies.
    pub copies: Store<DynamicObject>,
    pub replica_sets: Store<DynamicObject>,
    pub pods: Store<Pod>,
    pub services: Store<Service>,
    pub slices: Store<EndpointSlice>,
    pub freezes: Store<ConfigMap>,
}

/// Wakes those who depend on the stores.
#[derive(Clone)]
pub struct Wakes {
    /// An object that traffic depends on changed.
    pub traffic: Arc<Notify>,
    /// This rollout should be looked at.
    pub rollouts: mpsc::UnboundedSender<ObjectRef<CanaryRollout>>,
}

pub fn deployments() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&())
}

/// Starts the watches. They retry for ever: while the API server is away the stores keep what they have.
pub fn watch(
    client: &Client,
    namespace: &str,
    ads: &Ads,
    wakes: &Wakes,
    tasks: &mut JoinSet<()>,
) -> Stores {
    let all = watcher::Config::default();
    let replica_set = ApiResource::erase::<k8s_openapi::api::apps::v1::ReplicaSet>(&());
    let deployment = deployments();
    let adopted = watcher::Config::default().labels(ROLLOUT_LABEL);
    let copied = watcher::Config::default().labels(CANARY_OF_LABEL);
    let freeze = watcher::Config::default().fields(&format!("metadata.name={FREEZE}"));
    Stores {
        rollouts: start(
            Api::all(client.clone()),
            all.clone(),
            (),
            tasks,
            |_: &mut CanaryRollout| {},
            {
                let wakes = wakes.clone();
                move |rollout: &CanaryRollout| {
                    wakes.wake(rollout.namespace(), Some(rollout.name_any()))
                }
            },
        ),
        originals: start(
            Api::all_with(client.clone(), &deployment),
            adopted,
            deployment.clone(),
            tasks,
            keep_small,
            {
                let wakes = wakes.clone();
                move |object: &DynamicObject| {
                    wakes.wake(
                        object.namespace(),
                        object.labels().get(ROLLOUT_LABEL).cloned(),
                    )
                }
            },
        ),
        copies: start(
            Api::all_with(client.clone(), &deployment),
            copied,
            deployment,
            tasks,
            keep_small,
            {
                let wakes = wakes.clone();
                move |object: &DynamicObject| {
                    wakes.wake(
                        object.namespace(),
                        object.labels().get(CANARY_OF_LABEL).cloned(),
                    )
                }
            },
        ),
        replica_sets: start(
            Api::all_with(client.clone(), &replica_set),
            all.clone(),
            replica_set,
            tasks,
            hash_template,
            {
                let wakes = wakes.clone();
                move |_: &DynamicObject| wakes.traffic.notify_one()
            },
        ),
        pods: watch_pods(client, ads.clone(), wakes.clone(), tasks),
        services: start(
            Api::all(client.clone()),
            all.clone(),
            (),
            tasks,
            |_: &mut Service| {},
            {
                let wakes = wakes.clone();
                move |_: &Service| wakes.traffic.notify_one()
            },
        ),
        slices: start(
            Api::all(client.clone()),
            all,
            (),
            tasks,
            |_: &mut EndpointSlice| {},
            {
                let wakes = wakes.clone();
                move |_: &EndpointSlice| wakes.traffic.notify_one()
            },
        ),
        freezes: start(
            Api::namespaced(client.clone(), namespace),
            freeze,
            (),
            tasks,
            |_: &mut ConfigMap| {},
            |_| {},
        ),
    }
}

impl Stores {
    /// Waits until every watch has listed once.
    pub async fn ready(&self) {
        // A writer is dropped only when its task ends, which is when the process ends.
        let Stores {
            rollouts,
            originals,
            copies,
            replica_sets,
            pods,
            services,
            slices,
            freezes,
        } = self;
        let _ = rollouts.wait_until_ready().await;
        let _ = originals.wait_until_ready().await;
        let _ = copies.wait_until_ready().await;
        let _ = replica_sets.wait_until_ready().await;
        let _ = pods.wait_until_ready().await;
        let _ = services.wait_until_ready().await;
        let _ = slices.wait_until_ready().await;
        let _ = freezes.wait_until_ready().await;
    }
}

impl Wakes {
    fn wake(&self, namespace: Option<String>, rollout: Option<String>) {
        self.traffic.notify_one();
        if let (Some(namespace), Some(rollout)) = (namespace, rollout) {
            // The receiver is gone only when the process ends.
            let _ = self
                .rollouts
                .send(ObjectRef::new(&rollout).within(&namespace));
        }
    }
}

fn start<K>(
    api: Api<K>,
    config: watcher::Config,
    kind: K::DynamicType,
    tasks: &mut JoinSet<()>,
    strip: impl FnMut(&mut K) + Send + 'static,
    wake: impl Fn(&K) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Debug + Send + Sync + Unpin,
{
    let writer = Writer::new(kind);
    let store = writer.as_reader();
    let stream = watcher(api, config)
        .default_backoff()
        .modify(strip)
        .reflect(writer)
        .touched_objects();
    tasks.spawn(drain(stream, wake));
    store
}

async fn drain<K: Resource>(
    stream: impl Stream<Item = Result<K, watcher::Error>>,
    wake: impl Fn(&K),
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(next) = stream.next().await {
        match next {
            Ok(object) => wake(&object),
            Err(error) => {
                tracing::warn!(%error, "a watch broke; it is taken up again, and until then the last known objects count")
            }
        }
    }
}

/// Pods are also who is behind a stream: a proxy whose pod is gone is no laggard.
fn watch_pods(client: &Client, ads: Ads, wakes: Wakes, tasks: &mut JoinSet<()>) -> Store<Pod> {
    let writer: Writer<Pod> = reflector::store::Writer::default();
    let store = writer.as_reader();
    let reader = writer.as_reader();
    let api: Api<Pod> = Api::all(client.clone());
    let mut known: HashSet<(String, String)> = HashSet::new();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(strip_pod)
        .reflect(writer)
        .inspect_ok(move |event| match event {
            watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                known.insert(key(pod));
            }
            watcher::Event::Delete(pod) => {
                let (namespace, name) = key(pod);
                ads.forget_pod(&Key::new(namespace.clone(), name.clone()));
                known.remove(&(namespace, name));
            }
            watcher::Event::Init => {}
            watcher::Event::InitDone => {
                let now: HashSet<_> = reader.state().iter().map(|pod| key(pod.as_ref())).collect();
                for (namespace, name) in known.difference(&now) {
                    ads.forget_pod(&Key::new(namespace.clone(), name.clone()));
                }
                known = now;
            }
        })
        .touched_objects();
    tasks.spawn(drain(stream, move |_: &Pod| wakes.traffic.notify_one()));
    store
}

fn key<K: ResourceExt>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn keep_small(object: &mut DynamicObject) {
    object.managed_fields_mut().clear();
}

fn hash_template(replica_set: &mut DynamicObject) {
    replica_set.managed_fields_mut().clear();
    replica_set.annotations_mut().clear();
    let revision = replica_set
        .data
        .pointer("/spec/template")
        .map(revision::revision)
        .unwrap_or_default();
    replica_set.data = serde_json::json!({ REVISION: revision });
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
            *container = k8s_openapi::api::core::v1::Container {
                name,
                ..Default::default()
            };
        }
    }
}
