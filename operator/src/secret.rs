//! A Secret that a CanaryRollout names, got when it is needed: never watched, never kept.
//!
//! Whoever writes a CanaryRollout need not be one who may read Secrets. So the operator has no right to get one until somebody
//! who has it grants it by a Role, and the Secret says itself, by [`CREDENTIALS_ANNOTATION`], to which address its values may be
//! sent: whoever may write it says so.

use aviary_crds::CREDENTIALS_ANNOTATION;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotGot {
    Missing,
    /// Nobody has granted it.
    Forbidden,
    /// For now, and why.
    Away(&'static str),
}

/// The Secret as it is now.
pub async fn get(client: &Client, namespace: &str, name: &str) -> Result<Secret, NotGot> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get(name).await {
        Ok(secret) => Ok(secret),
        Err(kube::Error::Api(status)) => Err(match status.code {
            404 => NotGot::Missing,
            401 | 403 => NotGot::Forbidden,
            _ => NotGot::Away("the API server does not serve it"),
        }),
        Err(_) => Err(NotGot::Away("the API server does not answer")),
    }
}

/// The address that its values may be sent to.
pub fn is_for(secret: &Secret) -> Option<&str> {
    let said = secret.annotations().get(CREDENTIALS_ANNOTATION);
    said.map(String::as_str)
}
