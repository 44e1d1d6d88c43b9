//! What the API server told us: watched objects, kept small and linked. A look reads from here and asks nothing of the network.

mod lacks;
mod namespaces;
mod pods;
mod policies;
mod shapes;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use aviary_crds::{CanaryRollout, ROLLOUT_LABEL};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::{DeserializeGuard, ObjectMeta};

use crate::key::Key;

pub use lacks::{Lacks, What};
pub use namespaces::NamespaceSeen;
pub use pods::{PodSeen, Sidecar};
pub use policies::Allowing;
pub use store::{By, Seen, Store, Writer};

/// A CanaryRollout, or what is known of one that this version cannot read: one of a newer version hides no other.
#[derive(Clone, Debug)]
pub struct Guarded(pub Result<Arc<CanaryRollout>, Illegible>);

/// A CanaryRollout that this version cannot read.
#[derive(Clone, Debug)]
pub struct Illegible {
    pub metadata: ObjectMeta,
    pub error: String,
}

impl From<DeserializeGuard<CanaryRollout>> for Guarded {
    fn from(DeserializeGuard(read): DeserializeGuard<CanaryRollout>) -> Guarded {
        Guarded(match read {
            Ok(mut rollout) => {
                rollout.metadata.managed_fields = None;
                Ok(Arc::new(rollout))
            }
            Err(invalid) => Err(Illegible {
                metadata: invalid.metadata,
                error: invalid.error,
            }),
        })
    }
}

impl Guarded {
    pub fn metadata(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(rollout) => &rollout.metadata,
            Err(illegible) => &illegible.metadata,
        }
    }
}

/// The stores. Clones are the same stores.
#[derive(Clone)]
pub struct Views {
    pub rollouts: Store<Guarded>,
    /// Adopted Deployments, as raw JSON: their templates must not lose a field.
    pub originals: Store<DynamicObject>,
    /// Which Deployments there are that nobody has adopted.
    pub unadopted: Store<Key>,
    /// Canary copies.
    pub copies: Store<DynamicObject>,
    /// Stripped to what [`super::replica_sets`] reads.
    pub replica_sets: Store<DynamicObject>,
    /// Templates that were kept as ControllerRevisions.
    pub kept: Store<DynamicObject>,
    pub pods: Store<PodSeen>,
    pub services: Store<Service>,
    pub slices: Store<EndpointSlice>,
    pub claims: Store<PersistentVolumeClaim>,
    pub freezes: Store<ConfigMap>,
    /// Those whose pods get sidecars.
    pub namespaces: Store<NamespaceSeen>,
    pub policies: Store<Allowing>,
}

/// Those who fill the stores.
pub struct Writers {
    pub rollouts: Writer<Guarded>,
    pub originals: Writer<DynamicObject>,
    pub unadopted: Writer<Key>,
    pub copies: Writer<DynamicObject>,
    pub replica_sets: Writer<DynamicObject>,
    pub kept: Writer<DynamicObject>,
    pub pods: Writer<PodSeen>,
    pub services: Writer<Service>,
    pub slices: Writer<EndpointSlice>,
    pub claims: Writer<PersistentVolumeClaim>,
    pub freezes: Writer<ConfigMap>,
    pub namespaces: Writer<NamespaceSeen>,
    pub policies: Writer<Allowing>,
}

impl Views {
    /// Stores without anything in them yet.
    pub fn new() -> (Views, Writers) {
        let writers = Writers {
            rollouts: Writer::new(shapes::ROLLOUTS),
            originals: Writer::new(shapes::ORIGINALS),
            unadopted: Writer::new(shapes::UNADOPTED),
            copies: Writer::new(shapes::COPIES),
            replica_sets: Writer::new(shapes::REPLICA_SETS),
            kept: Writer::new(shapes::KEPT),
            pods: Writer::new(shapes::PODS),
            services: Writer::new(shapes::SERVICES),
            slices: Writer::new(shapes::SLICES),
            claims: Writer::new(shapes::CLAIMS),
            freezes: Writer::new(shapes::FREEZES),
            namespaces: Writer::new(shapes::NAMESPACES),
            policies: Writer::new(shapes::POLICIES),
        };
        let views = Views {
            rollouts: writers.rollouts.as_reader(),
            originals: writers.originals.as_reader(),
            unadopted: writers.unadopted.as_reader(),
            copies: writers.copies.as_reader(),
            replica_sets: writers.replica_sets.as_reader(),
            kept: writers.kept.as_reader(),
            pods: writers.pods.as_reader(),
            services: writers.services.as_reader(),
            slices: writers.slices.as_reader(),
            claims: writers.claims.as_reader(),
            freezes: writers.freezes.as_reader(),
            namespaces: writers.namespaces.as_reader(),
            policies: writers.policies.as_reader(),
        };
        (views, writers)
    }

    /// Waits until every watch has listed once.
    pub async fn ready(&self) {
        let Views {
            rollouts,
            originals,
            unadopted,
            copies,
            replica_sets,
            kept,
            pods,
            services,
            slices,
            claims,
            freezes,
            namespaces,
            policies,
        } = self;
        rollouts.listed().await;
        originals.listed().await;
        unadopted.listed().await;
        copies.listed().await;
        replica_sets.listed().await;
        kept.listed().await;
        pods.listed().await;
        services.listed().await;
        slices.listed().await;
        claims.listed().await;
        freezes.listed().await;
        namespaces.listed().await;
        policies.listed().await;
    }

    pub fn rollout(&self, key: &Key) -> Option<Arc<Guarded>> {
        self.rollouts.get(key)
    }

    /// The readable CanaryRollouts that name this Deployment.
    pub fn rivals(&self, deployment: &Key) -> Vec<Arc<CanaryRollout>> {
        let named = self.rollouts.by(By::Deployment, deployment).into_iter();
        named.filter_map(|each| each.0.clone().ok()).collect()
    }

    /// The adopted Deployment of this name, whoever has adopted it.
    pub fn original(&self, key: &Key) -> Option<Arc<DynamicObject>> {
        self.originals.get(key)
    }

    /// The rollout that has adopted this Deployment.
    pub fn rollout_of(&self, deployment: &Key) -> Option<Key> {
        let original = self.original(deployment)?;
        let rollout = original.labels().get(ROLLOUT_LABEL)?;
        Some(deployment.beside(rollout))
    }

    /// The Deployments that carry the label of this rollout.
    pub fn originals_of(&self, rollout: &Key) -> Vec<Arc<DynamicObject>> {
        self.originals.by(By::Rollout, rollout)
    }

    /// All copies that a rollout has made, by name.
    pub fn copies_of(&self, rollout: &Key) -> Vec<Arc<DynamicObject>> {
        self.copies.by(By::Rollout, rollout)
    }

    /// The templates that were kept for a rollout, by name.
    pub fn kept_of(&self, rollout: &Key) -> Vec<Arc<DynamicObject>> {
        self.kept.by(By::Rollout, rollout)
    }

    /// The ReplicaSets that a Deployment controls, by name.
    pub fn replica_sets_of(&self, deployment: &DynamicObject) -> Vec<Arc<DynamicObject>> {
        let mut owned = self.replica_sets.by(By::Deployment, &Key::of(deployment));
        owned.retain(|set| {
            let mut owners = set.owner_references().iter();
            owners.any(|owner| {
                owner.controller == Some(true)
                    && Some(&owner.uid) == deployment.metadata.uid.as_ref()
            })
        });
        owned
    }

    pub fn service(&self, key: &Key) -> Option<Arc<Service>> {
        self.services.get(key)
    }

    /// Access modes of these volume claims, as far as they exist.
    pub fn claims(&self, namespace: &str, names: &[String]) -> BTreeMap<String, Vec<String>> {
        let modes = |name: &String| {
            let claim = self.claims.get(&Key::new(namespace, name))?;
            let modes = claim.spec.as_ref().and_then(|s| s.access_modes.clone());
            Some((name.clone(), modes.unwrap_or_default()))
        };
        names.iter().filter_map(modes).collect()
    }

    /// Whether the pods of a namespace get sidecars.
    pub fn labelled(&self, namespace: &str) -> bool {
        self.namespaces.has(&lacks::named(namespace))
    }

    /// The pods of a namespace that lack a sidecar which they should have, by name.
    pub fn lacking(&self, namespace: &str) -> Vec<Arc<PodSeen>> {
        let all = lacks::of_namespace(namespace);
        let mut lacking = self.pods.by(By::Lacks, &all);
        if self.labelled(namespace) {
            lacking.extend(self.pods.by(By::Bare, &all));
        }
        lacking.sort_by(|a, b| a.key.cmp(&b.key));
        lacking
    }

    pub fn frozen(&self) -> bool {
        !self.freezes.is_empty()
    }
}
