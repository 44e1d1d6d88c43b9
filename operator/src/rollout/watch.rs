//! Keeps the views up to date, and wakes who depends on them: always after the view has what it is about.
//!
//! Most of it is watched in the whole cluster, or in the one namespace that the operator is for ([`Scope`]), so it is stripped on arrival to what is read ([`strip`]).

mod strip;

use std::fmt::Debug;

use aviary_crds::{CANARY_OF_LABEL, CallerPolicy, CanaryRollout, INJECT_LABEL, ROLLOUT_LABEL};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::DynamicObject;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::changes::{self, About, Change};
use super::replica_sets;
use super::views::{Allowing, Guarded, NamespaceSeen, PodSeen, Seen, Views, Writer};
use super::write::Kind;
use crate::ads::Ads;
use crate::key::Key;
use crate::scope::Scope;

/// Objects of a list that are in memory at once before they are stripped.
const PAGE: u32 = 200;
/// The ConfigMap in the operator's namespace that stops every raise in the cluster.
pub const FREEZE: &str = "aviary-freeze";

#[derive(Clone)]
pub struct Changes(mpsc::UnboundedSender<Change>);

impl Changes {
    pub fn new() -> (Changes, mpsc::UnboundedReceiver<Change>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Changes(sender), receiver)
    }

    /// Something has changed that is no object.
    pub(crate) fn tell(&self, change: Change) {
        self.send(change);
    }

    fn send(&self, change: Change) {
        // The receiver is gone only when the process ends.
        let _ = self.0.send(change);
    }
}

/// Starts the watches of what is in `scope`; `namespace` is the operator's own. They retry for ever: while the API server is away the views keep what they have.
pub fn watch(
    client: &Client,
    scope: &Scope,
    namespace: &str,
    ads: &Ads,
    changes: &Changes,
    tasks: &mut JoinSet<()>,
) -> Views {
    let all = watcher::Config::default().page_size(PAGE);
    let labelled = |label: &str| all.clone().labels(label);
    let dynamic = |kind: Kind| scope.api_with(client.clone(), &kind.resource());
    let (views, writers) = Views::new();
    let mut start = Start {
        changes,
        tasks: &mut *tasks,
    };
    let rollouts: Api<DeserializeGuard<CanaryRollout>> = scope.api(client.clone());
    start.watch(
        rollouts,
        all.clone(),
        Guarded::from,
        writers.rollouts,
        changes::of_rollout,
    );
    let deployments = dynamic(Kind::Deployment);
    let originals = labelled(ROLLOUT_LABEL);
    start.watch(
        deployments.clone(),
        originals,
        deployment,
        writers.originals,
        changes::of_original,
    );
    let names: Api<PartialObjectMeta<Deployment>> = scope.api(client.clone());
    start.watch(
        names,
        labelled(&format!("!{ROLLOUT_LABEL},!{CANARY_OF_LABEL}")),
        |deployment| Key::of(&deployment),
        writers.unadopted,
        changes::of_unadopted,
    );
    let copies = labelled(CANARY_OF_LABEL);
    start.watch(
        deployments,
        copies,
        deployment,
        writers.copies,
        changes::of_copy,
    );
    let replica_sets = dynamic(Kind::ReplicaSet);
    let stripped = stripping(replica_sets::strip);
    start.watch(
        replica_sets,
        all.clone(),
        stripped,
        writers.replica_sets,
        changes::of_replica_set,
    );
    let kept = dynamic(Kind::ControllerRevision);
    start.watch(
        kept,
        labelled(ROLLOUT_LABEL),
        stripping(forget_managers::<DynamicObject>),
        writers.kept,
        changes::of_kept,
    );
    let services = scope.api(client.clone());
    start.watch(
        services,
        all.clone(),
        stripping(strip::service),
        writers.services,
        changes::of_service,
    );
    let slices = scope.api(client.clone());
    start.watch(
        slices,
        all.clone(),
        stripping(strip::slice),
        writers.slices,
        changes::of_slice,
    );
    let claims = scope.api(client.clone());
    start.watch(
        claims,
        all.clone(),
        stripping(strip::claim),
        writers.claims,
        changes::of_claim,
    );
    let freezes = Api::namespaced(client.clone(), namespace);
    let freeze = all.clone().fields(&format!("metadata.name={FREEZE}"));
    start.watch(
        freezes,
        freeze,
        stripping(forget_managers::<ConfigMap>),
        writers.freezes,
        changes::of_freeze,
    );
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    start.watch(
        namespaces,
        scope.of_namespaces(labelled(&format!("{INJECT_LABEL}=enabled"))),
        NamespaceSeen::from,
        writers.namespaces,
        changes::of_namespace,
    );
    let policies: Api<DeserializeGuard<CallerPolicy>> = scope.api(client.clone());
    start.watch(
        policies,
        all.clone(),
        Allowing::from,
        writers.policies,
        changes::of_policy,
    );
    let pods = scope.api(client.clone());
    tasks.spawn(follow_pods(
        pods,
        all,
        writers.pods,
        ads.clone(),
        changes.clone(),
    ));
    views
}

struct Start<'a> {
    changes: &'a Changes,
    tasks: &'a mut JoinSet<()>,
}

impl Start<'_> {
    fn watch<K, V>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        keep: impl Fn(K) -> V + Send + 'static,
        writer: Writer<V>,
        about: About<V>,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        V: Send + Sync + 'static,
    {
        let stream = watcher(api, config).default_backoff();
        let changes = self.changes.clone();
        self.tasks
            .spawn(follow(stream, keep, writer, about, changes));
    }
}

async fn follow<K, V>(
    stream: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
    keep: impl Fn(K) -> V,
    mut writer: Writer<V>,
    about: About<V>,
    changes: Changes,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                let seen = writer.apply(kept(event, &keep));
                changes::of(&seen, about)
                    .into_iter()
                    .for_each(|change| changes.send(change));
            }
            Err(error) => broke(&error),
        }
    }
}

fn kept<K, V>(event: watcher::Event<K>, keep: impl Fn(K) -> V) -> watcher::Event<V> {
    match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(keep(object)),
        watcher::Event::Delete(object) => watcher::Event::Delete(keep(object)),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitApply(object) => watcher::Event::InitApply(keep(object)),
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}

/// Keeps an object without what nobody reads.
fn stripping<K>(strip: fn(&mut K)) -> impl Fn(K) -> K {
    move |mut object| {
        strip(&mut object);
        object
    }
}

/// Pods are also who is behind a stream: a proxy whose pod is gone is no laggard.
async fn follow_pods(
    api: Api<Pod>,
    config: watcher::Config,
    mut writer: Writer<PodSeen>,
    ads: Ads,
    changes: Changes,
) {
    let reader = writer.as_reader();
    let stream = watcher(api, config).default_backoff();
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => kept(event, PodSeen::from),
            Err(error) => {
                broke(&error);
                continue;
            }
        };
        let known = match &event {
            watcher::Event::InitDone => reader.keys(),
            _ => Vec::new(),
        };
        let seen = writer.apply(event);
        if let Seen::One {
            before: Some(before),
            after: None,
        } = &seen
        {
            ads.forget_pod(&before.key);
        }
        for gone in known.iter().filter(|key| !reader.has(key)) {
            ads.forget_pod(gone);
        }
        changes::of(&seen, changes::of_pod)
            .into_iter()
            .for_each(|change| changes.send(change));
    }
}

/// Nobody reads of an adopted Deployment or a copy what these hold.
fn deployment(mut deployment: DynamicObject) -> DynamicObject {
    strip::deployment(&mut deployment);
    deployment
}

fn broke(error: &watcher::Error) {
    tracing::warn!(%error, "a watch broke; it is taken up again, and until then the last known objects count");
}

fn forget_managers<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
}

#[cfg(test)]
mod tests;
