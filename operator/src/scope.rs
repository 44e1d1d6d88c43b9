//! The namespaces that the operator looks at: all, or one.

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};
use kube_runtime::watcher;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    #[default]
    Cluster,
    /// Whatever is in another one is not seen, and the operator needs no rights there.
    Namespace(String),
}

impl From<Option<String>> for Scope {
    fn from(namespace: Option<String>) -> Scope {
        let named = namespace.filter(|name| !name.is_empty());
        named.map_or(Scope::Cluster, Scope::Namespace)
    }
}

impl Scope {
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Scope::Cluster => Api::all(client),
            Scope::Namespace(name) => Api::namespaced(client, name),
        }
    }

    pub fn api_with(&self, client: Client, resource: &ApiResource) -> Api<DynamicObject> {
        match self {
            Scope::Cluster => Api::all_with(client, resource),
            Scope::Namespace(name) => Api::namespaced_with(client, name, resource),
        }
    }

    /// For a watch of the namespaces themselves. One is asked for by its name, which a role can allow.
    #[must_use]
    pub fn of_namespaces(&self, config: watcher::Config) -> watcher::Config {
        match self {
            Scope::Cluster => config,
            Scope::Namespace(name) => config.fields(&format!("metadata.name={name}")),
        }
    }
}
