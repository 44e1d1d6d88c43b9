//! The objects that a CanaryRollout names, and how they are fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aviary_crds::CanaryRollout;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::allowed::AllowList;
use crate::key::{Key, is_name};
use crate::rollout::views::{By, Guarded, Store};

/// What [`super::validate`] looks at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub deployment: Option<Target>,
    pub service: Option<Service>,
    /// The CanaryRollouts of the namespace, or of more; the one that is checked may be among them.
    pub rollouts: Vec<Rival>,
    /// Access modes of the volume claims of the namespace, by name, as far as they exist.
    pub claims: BTreeMap<String, Vec<String>>,
    pub prometheus: PrometheusPolicy,
    /// Which hooks are called.
    pub hooks: AllowList,
}

impl Facts {
    /// From objects that somebody watches already: nothing is fetched.
    pub fn from_objects<'a>(
        deployment: Option<&DynamicObject>,
        service: Option<&Service>,
        rollouts: impl Iterator<Item = &'a CanaryRollout>,
        claims: BTreeMap<String, Vec<String>>,
        prometheus: &PrometheusPolicy,
    ) -> Facts {
        Facts {
            deployment: deployment.map(Target::from),
            service: service.cloned(),
            rollouts: rollouts.map(Rival::from).collect(),
            claims,
            prometheus: prometheus.clone(),
            hooks: AllowList::default(),
        }
    }
}

/// What matters of the Deployment. Read from raw JSON, so that a field of a later Kubernetes hides none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub strategy: Option<String>,
    /// Which labels its selector asks for.
    pub selector: BTreeSet<String>,
    /// The labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// The volume claims that all of its pods mount together.
    pub claims: Vec<String>,
}

impl From<&DynamicObject> for Target {
    fn from(deployment: &DynamicObject) -> Self {
        let spec = &deployment.data["spec"];
        let template = &spec["template"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let selector = spec["selector"]["matchLabels"].as_object();
        let labels = template["metadata"]["labels"].as_object();
        let volumes = template["spec"]["volumes"].as_array();
        Target {
            name: deployment.name_any(),
            strategy: text(&spec["strategy"]["type"]),
            selector: selector
                .into_iter()
                .flat_map(|selector| selector.keys().cloned())
                .collect(),
            labels: labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
                .collect(),
            claims: volumes
                .into_iter()
                .flatten()
                .filter_map(|volume| text(&volume["persistentVolumeClaim"]["claimName"]))
                .collect(),
        }
    }
}

/// A CanaryRollout that may want the same Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    pub namespace: String,
    pub name: String,
    pub target: String,
    /// None while it is being created.
    pub created: Option<Timestamp>,
}

impl From<&CanaryRollout> for Rival {
    fn from(rollout: &CanaryRollout) -> Self {
        Rival {
            namespace: rollout.namespace().unwrap_or_default(),
            name: rollout.name_any(),
            target: rollout.spec.target_ref.name.clone(),
            created: rollout.creation_timestamp().map(|time| time.0),
        }
    }
}

impl Rival {
    /// The older of two wins. One that is being created is younger than all others; names decide between equals.
    pub(super) fn is_older_than(&self, other: &Rival) -> bool {
        self.age() < other.age()
    }

    fn age(&self) -> (bool, Option<Timestamp>, &str) {
        (self.created.is_none(), self.created, &self.name)
    }
}

/// Which addresses the operator fetches metrics from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrometheusPolicy {
    pub default: Option<String>,
    pub allowed: Vec<String>,
}

impl PrometheusPolicy {
    pub fn allows(&self, address: &str) -> bool {
        let address = address.trim_end_matches('/');
        self.default
            .iter()
            .chain(&self.allowed)
            .any(|allowed| allowed.trim_end_matches('/') == address)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("Deployments cannot be read")]
    Deployment(#[source] kube::Error),
    #[error("Services cannot be read")]
    Service(#[source] kube::Error),
    #[error("PersistentVolumeClaims cannot be read")]
    Claims(#[source] kube::Error),
    #[error("the API server does not answer in time")]
    Timeout,
}

/// Fetches the facts for one CanaryRollout.
pub trait Lookup: Send + Sync {
    fn facts<'a>(&'a self, rollout: &'a CanaryRollout)
    -> BoxFuture<'a, Result<Facts, LookupError>>;
}

/// Asks the API server itself for the objects that a CanaryRollout names: it changes rarely, and a cache might not have the
/// Service yet that was applied a moment ago. Who else names the Deployment is watched anyway.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    rollouts: Store<Guarded>,
    prometheus: PrometheusPolicy,
    hooks: AllowList,
    turns: Arc<Semaphore>,
}

/// CanaryRollouts that are looked up at once: anybody can have one checked, and must not make the operator ask the API server without end.
const AT_ONCE: usize = 8;

impl Lookup for Cluster {
    fn facts<'a>(
        &'a self,
        rollout: &'a CanaryRollout,
    ) -> BoxFuture<'a, Result<Facts, LookupError>> {
        Box::pin(self.fetch(rollout))
    }
}

impl Cluster {
    pub fn new(
        client: Client,
        rollouts: Store<Guarded>,
        prometheus: PrometheusPolicy,
        hooks: AllowList,
    ) -> Cluster {
        Cluster {
            client,
            rollouts,
            prometheus,
            hooks,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    async fn fetch(&self, rollout: &CanaryRollout) -> Result<Facts, LookupError> {
        let _turn = self.turns.acquire().await;
        let namespace = rollout.namespace().unwrap_or_default();
        let deployment = ApiResource::erase::<Deployment>(&());
        let deployments: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &namespace, &deployment);
        let services: Api<Service> = Api::namespaced(self.client.clone(), &namespace);
        let target = Key::new(namespace.clone(), &rollout.spec.target_ref.name);
        let rivals = self.rollouts.by(By::Deployment, &target);
        let (deployment, service) = tokio::join!(
            named(&deployments, &namespace, &rollout.spec.target_ref.name),
            named(&services, &namespace, &rollout.spec.service.name),
        );
        let deployment = deployment.map_err(LookupError::Deployment)?;
        let claims = match &deployment {
            Some(deployment) => self.claims(&namespace, &Target::from(deployment)).await?,
            None => BTreeMap::new(),
        };
        let mut facts = Facts::from_objects(
            deployment.as_ref(),
            service.map_err(LookupError::Service)?.as_ref(),
            rivals.iter().filter_map(|rival| rival.0.as_deref().ok()),
            claims,
            &self.prometheus,
        );
        facts.hooks = self.hooks.clone();
        Ok(facts)
    }

    async fn claims(
        &self,
        namespace: &str,
        target: &Target,
    ) -> Result<BTreeMap<String, Vec<String>>, LookupError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let mut claims = BTreeMap::new();
        for name in &target.claims {
            let claim = named(&api, namespace, name).await;
            if let Some(claim) = claim.map_err(LookupError::Claims)? {
                let modes = claim
                    .spec
                    .and_then(|spec| spec.access_modes)
                    .unwrap_or_default();
                claims.insert(name.clone(), modes);
            }
        }
        Ok(claims)
    }
}

/// `None`: there is none, or there can be none of such a name.
async fn named<K>(api: &Api<K>, namespace: &str, name: &str) -> kube::Result<Option<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    if is_name(namespace) && is_name(name) {
        api.get_opt(name).await
    } else {
        Ok(None)
    }
}
