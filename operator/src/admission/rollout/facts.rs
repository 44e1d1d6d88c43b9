//! The objects that a CanaryRollout names, and how they are fetched.

use std::collections::BTreeMap;

use aviary_crds::CanaryRollout;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// What [`super::validate`] looks at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub deployment: Option<Deployment>,
    pub service: Option<Service>,
    /// The CanaryRollouts of the namespace; the one that is checked may be among them.
    pub rollouts: Vec<CanaryRollout>,
    /// Access modes of the volume claims that the Deployment mounts, by name, as far as they exist.
    pub claims: BTreeMap<String, Vec<String>>,
    pub prometheus: PrometheusPolicy,
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
    #[error("CanaryRollouts cannot be read")]
    Rollouts(#[source] kube::Error),
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

/// Asks the API server itself: CanaryRollouts change rarely, and a cache might not have the Service yet that was
/// applied a moment ago.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub prometheus: PrometheusPolicy,
}

impl Lookup for Cluster {
    fn facts<'a>(
        &'a self,
        rollout: &'a CanaryRollout,
    ) -> BoxFuture<'a, Result<Facts, LookupError>> {
        Box::pin(self.fetch(rollout))
    }
}

impl Cluster {
    async fn fetch(&self, rollout: &CanaryRollout) -> Result<Facts, LookupError> {
        let namespace = rollout.namespace().unwrap_or_default();
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let services: Api<Service> = Api::namespaced(self.client.clone(), &namespace);
        let rollouts: Api<CanaryRollout> = Api::namespaced(self.client.clone(), &namespace);
        let everything = ListParams::default();
        let (deployment, service, rollouts) = tokio::join!(
            deployments.get_opt(&rollout.spec.target_ref.name),
            services.get_opt(&rollout.spec.service.name),
            rollouts.list(&everything),
        );
        let deployment = deployment.map_err(LookupError::Deployment)?;
        let claims = match &deployment {
            Some(deployment) => self.claims(&namespace, deployment).await?,
            None => BTreeMap::new(),
        };
        Ok(Facts {
            deployment,
            service: service.map_err(LookupError::Service)?,
            rollouts: rollouts.map_err(LookupError::Rollouts)?.items,
            claims,
            prometheus: self.prometheus.clone(),
        })
    }

    async fn claims(
        &self,
        namespace: &str,
        deployment: &Deployment,
    ) -> Result<BTreeMap<String, Vec<String>>, LookupError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let mut claims = BTreeMap::new();
        for name in claim_names(deployment) {
            if let Some(claim) = api.get_opt(name).await.map_err(LookupError::Claims)? {
                let modes = claim
                    .spec
                    .and_then(|spec| spec.access_modes)
                    .unwrap_or_default();
                claims.insert(name.to_owned(), modes);
            }
        }
        Ok(claims)
    }
}

/// The volume claims that every pod of `deployment` mounts together.
pub(super) fn claim_names(deployment: &Deployment) -> impl Iterator<Item = &str> {
    deployment
        .spec
        .iter()
        .filter_map(|spec| spec.template.spec.as_ref())
        .flat_map(|pod| pod.volumes.iter().flatten())
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .map(|claim| claim.claim_name.as_str())
}
