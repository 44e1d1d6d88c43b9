//! The cluster: what is asked of it, and what is said when it does not answer.

mod error;
mod forward;

use aviary_crds::CanaryRollout;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::core::gvk::GroupVersionKind;
use kube::{Api, Client, Config, ResourceExt};

pub use error::ClusterError;
pub use forward::ForwardError;

use crate::args::Access;
use crate::template::Template;
use crate::view::{EventView, newest_events};

/// The operator's name: of its Deployment, its Service, its webhooks and its Lease.
pub const OPERATOR: &str = "aviary-operator";
pub const OPERATOR_ADMIN: u16 = 15021;

/// As many Events are shown.
pub const EVENTS: usize = 6;

/// One cluster, and the namespace that is spoken of.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// By the kubeconfig, or as the pod that this runs in.
    pub async fn connect(access: &Access) -> Result<Cluster, ClusterError> {
        let options = KubeConfigOptions {
            context: access.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = match (&access.kubeconfig, &access.context) {
            (Some(file), _) => {
                let kubeconfig = Kubeconfig::read_from(file)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await?,
            (None, None) => Config::infer().await?,
        };
        if let Some(user) = &access.as_user {
            config.auth_info = AuthInfo {
                impersonate: Some(user.clone()),
                ..config.auth_info
            };
        }
        let namespace = access.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| ClusterError::of("connect", error))?;
        Ok(Cluster { client, namespace })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn rollouts_api(&self) -> Api<CanaryRollout> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn deployments_api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &deployments())
    }

    pub fn events_api(&self) -> Api<Event> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The rollout of this name; one that is not there is told with those that are.
    pub async fn rollout(&self, name: &str) -> Result<CanaryRollout, ClusterError> {
        let api = self.rollouts_api();
        let found = api.get_opt(name).await;
        match found.map_err(|error| ClusterError::of("read CanaryRollouts", error))? {
            Some(rollout) => Ok(rollout),
            None => {
                let others = api.list(&ListParams::default()).await;
                let others = match others {
                    Ok(list) => Some(list.items),
                    // There is no such kind.
                    Err(error @ kube::Error::Api(_)) if is_missing(&error) => {
                        return Err(ClusterError::of("read CanaryRollouts", error));
                    }
                    // Whoever may read one need not be allowed to list all.
                    Err(_) => None,
                };
                let others = others.map(|all| all.iter().map(ResourceExt::name_any).collect());
                Err(ClusterError::NoRollout {
                    name: name.to_owned(),
                    namespace: self.namespace.clone(),
                    others,
                })
            }
        }
    }

    /// Of the namespace, or of all.
    pub async fn rollouts(&self, everywhere: bool) -> Result<Vec<CanaryRollout>, ClusterError> {
        let api = if everywhere {
            Api::all(self.client.clone())
        } else {
            self.rollouts_api()
        };
        let list = api.list(&ListParams::default()).await;
        let list = list.map_err(|error| ClusterError::of("list CanaryRollouts", error))?;
        Ok(list.items)
    }

    /// What the Deployment of a rollout asks for now; `None`: it is not there.
    pub async fn template(
        &self,
        rollout: &CanaryRollout,
    ) -> Result<Option<Template>, ClusterError> {
        let name = &rollout.spec.target_ref.name;
        let namespace = rollout
            .namespace()
            .unwrap_or_else(|| self.namespace.clone());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &namespace, &deployments());
        let found = api.get_opt(name).await;
        let found = found.map_err(|error| ClusterError::of("read Deployments", error))?;
        Ok(found.as_ref().and_then(Template::of))
    }

    /// The pod of the operator that decides, and that proxies are connected to: the one that the Lease names.
    pub async fn operator_pod(&self, namespace: &str) -> Result<String, ClusterError> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let lease = leases.get_opt(OPERATOR).await;
        let lease = lease.map_err(|error| ClusterError::of("read the operator's Lease", error))?;
        let holder = lease.as_ref().and_then(holder);
        holder
            .map(str::to_owned)
            .ok_or_else(|| ClusterError::NoOperator {
                namespace: namespace.to_owned(),
            })
    }

    /// What the operator answers on its admin port, asked from its pod's own loopback; `address`: where it can be reached
    /// otherwise.
    pub async fn ask_operator(
        &self,
        namespace: &str,
        address: Option<&str>,
        path: &str,
    ) -> Result<String, ClusterError> {
        let failed = |error| ClusterError::Operator { source: error };
        if let Some(address) = address {
            return forward::get_at(address, path).await.map_err(failed);
        }
        let pod = self.operator_pod(namespace).await?;
        let of = (namespace, pod.as_str());
        let answer = forward::get(&self.client, of, OPERATOR_ADMIN, path).await;
        answer.map_err(|error| forwarded(error, failed))
    }

    /// The same of a pod of the namespace.
    pub async fn ask_pod(&self, pod: &str, port: u16, path: &str) -> Result<String, ClusterError> {
        let answer = forward::get(&self.client, (&self.namespace, pod), port, path).await;
        let failed = |source| ClusterError::Sidecar {
            pod: pod.to_owned(),
            source,
        };
        answer.map_err(|error| forwarded(error, failed))
    }

    /// The newest Events about a rollout, newest last. Whoever may not read them sees none.
    pub async fn events(&self, name: &str) -> Vec<EventView> {
        let about = ListParams::default().fields(&events_about(name));
        let list = self.events_api().list(&about).await;
        list.map_or_else(|_| Vec::new(), |list| newest_events(&list.items, EVENTS))
    }
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Who holds a Lease; one that was given back has an empty name in it.
pub fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// What the API server says of the forwarding is its own matter.
fn forwarded(
    error: ForwardError,
    failed: impl FnOnce(ForwardError) -> ClusterError,
) -> ClusterError {
    match error {
        ForwardError::Kube(error @ kube::Error::Api(_)) => {
            ClusterError::of("forward a port of that pod", error)
        }
        ForwardError::Kube(_)
        | ForwardError::Connect(..)
        | ForwardError::Http(_)
        | ForwardError::Refused { .. } => failed(error),
    }
}

/// The field selector of the Events about a rollout.
pub fn events_about(name: &str) -> String {
    format!("involvedObject.kind=CanaryRollout,involvedObject.name={name}")
}

fn deployments() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"))
}
