//! Writing: the status, the finalizer, the gate, the copies. Each function is one request, or none when nothing differs.

use aviary_crds::{CanaryRollout, CanaryRolloutStatus, FIELD_MANAGER, FINALIZER, ROLLOUT_LABEL};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::copy;
use super::stores::deployments;

#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    #[error("the status was written by somebody else meanwhile")]
    Conflict,
    #[error("the status cannot be written")]
    Status(#[source] kube::Error),
    #[error("the finalizer cannot be changed")]
    Finalizer(#[source] kube::Error),
    #[error("Deployment {0} cannot be adopted")]
    Adopt(String, #[source] kube::Error),
    #[error("spec.paused of Deployment {0} cannot be written")]
    Gate(String, #[source] kube::Error),
    #[error("the canary copy {0} cannot be made")]
    Create(String, #[source] kube::Error),
    #[error("the canary copy {0} cannot be scaled")]
    Scale(String, #[source] kube::Error),
    #[error("the canary copy {0} cannot be deleted")]
    Delete(String, #[source] kube::Error),
    #[error(
        "Deployment {0} exists and was not made by this CanaryRollout: it is never adopted; delete or rename it"
    )]
    NameTaken(String),
    #[error("Deployment {0} cannot be copied: {1}")]
    Incomplete(String, #[source] copy::Incomplete),
}

impl PersistError {
    /// For metrics.
    pub fn category(&self) -> &'static str {
        match self {
            PersistError::Conflict => "conflict",
            PersistError::Status(_) => "status",
            PersistError::Finalizer(_) => "finalizer",
            PersistError::Adopt(..) => "adopt",
            PersistError::Gate(..) => "gate",
            PersistError::Create(..) => "create",
            PersistError::Scale(..) => "scale",
            PersistError::Delete(..) => "delete",
            PersistError::NameTaken(_) => "name-taken",
            PersistError::Incomplete(..) => "incomplete",
        }
    }
}

fn managed() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn created() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(response) if response.code == 409)
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(response) if response.code == 404)
}

fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &deployments())
}

/// Replaces the status, provided that nobody wrote since `resource_version`. Gives the new resourceVersion.
pub async fn status(
    client: &Client,
    rollout: &CanaryRollout,
    resource_version: Option<String>,
    status: CanaryRolloutStatus,
) -> Result<CanaryRollout, PersistError> {
    let api: Api<CanaryRollout> =
        Api::namespaced(client.clone(), &rollout.namespace().unwrap_or_default());
    let mut object = rollout.clone();
    object.metadata.managed_fields = None;
    object.metadata.resource_version = resource_version;
    object.status = Some(status);
    api.replace_status(&rollout.name_any(), &created(), &object)
        .await
        .map_err(|error| {
            if is_conflict(&error) {
                PersistError::Conflict
            } else {
                PersistError::Status(error)
            }
        })
}

/// Sets or removes our finalizer; gives the object as it is then, if anything had to be written.
pub async fn finalizer(
    client: &Client,
    rollout: &CanaryRollout,
    wanted: Finalizer,
) -> Result<Option<CanaryRollout>, PersistError> {
    let has = rollout.finalizers().iter().any(|name| name == FINALIZER);
    let finalizers: Vec<String> = match (wanted, has) {
        (Finalizer::Set, true) | (Finalizer::Removed, false) => return Ok(None),
        (Finalizer::Set, false) => rollout
            .finalizers()
            .iter()
            .cloned()
            .chain([FINALIZER.to_owned()])
            .collect(),
        (Finalizer::Removed, true) => rollout
            .finalizers()
            .iter()
            .filter(|name| *name != FINALIZER)
            .cloned()
            .collect(),
    };
    let api: Api<CanaryRollout> =
        Api::namespaced(client.clone(), &rollout.namespace().unwrap_or_default());
    // The uid guards against an object of the same name that was made meanwhile.
    let patch = json!({"metadata": {"finalizers": finalizers, "uid": rollout.uid()}});
    match api
        .patch(&rollout.name_any(), &managed(), &Patch::Merge(patch))
        .await
    {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(PersistError::Finalizer(error)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalizer {
    Set,
    Removed,
}

/// Labels the Deployment as ours to release; gives it as it is then, or `None` when there is none.
pub async fn adopt(
    client: &Client,
    rollout: &CanaryRollout,
) -> Result<Option<DynamicObject>, PersistError> {
    let name = rollout.spec.target_ref.name.clone();
    let patch = json!({"metadata": {"labels": {ROLLOUT_LABEL: rollout.name_any()}}});
    let api = api(client, &rollout.namespace().unwrap_or_default());
    match api.patch(&name, &managed(), &Patch::Merge(patch)).await {
        Ok(deployment) => Ok(Some(deployment)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(PersistError::Adopt(name, error)),
    }
}

/// Takes our label off a Deployment again.
pub async fn release(
    client: &Client,
    namespace: &str,
    deployment: &str,
) -> Result<(), PersistError> {
    let patch = json!({"metadata": {"labels": {ROLLOUT_LABEL: null}}});
    match api(client, namespace)
        .patch(deployment, &managed(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(PersistError::Adopt(deployment.to_owned(), error)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    Yes,
    No,
}

/// Pauses or resumes the user's Deployment.
pub async fn gate(
    client: &Client,
    deployment: &DynamicObject,
    paused: Paused,
) -> Result<(), PersistError> {
    let value = match paused {
        Paused::Yes => json!(true),
        Paused::No => json!(null),
    };
    let patch = json!({"metadata": {"uid": deployment.uid()}, "spec": {"paused": value}});
    let name = deployment.name_any();
    let api = api(client, &deployment.namespace().unwrap_or_default());
    api.patch(&name, &managed(), &Patch::Merge(patch))
        .await
        .map_err(|error| PersistError::Gate(name, error))?;
    Ok(())
}

/// Makes the canary copy.
pub async fn create_copy(
    client: &Client,
    original: &DynamicObject,
    rollout: &str,
    revision: &str,
    replicas: u32,
) -> Result<(), PersistError> {
    let name = copy::name(&original.name_any(), revision);
    let raw = serde_json::to_value(original).unwrap_or_default();
    let copy = copy::build(&raw, rollout, revision, replicas)
        .map_err(|error| PersistError::Incomplete(original.name_any(), error))?;
    let copy: DynamicObject =
        serde_json::from_value(copy).expect("a copy has apiVersion, kind and metadata");
    let api = api(client, &original.namespace().unwrap_or_default());
    match api.create(&created(), &copy).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => match api.get_opt(&name).await {
            // The store had not seen yet that we made it before.
            Ok(Some(there))
                if there
                    .labels()
                    .get(copy::CANARY_OF_LABEL)
                    .map(String::as_str)
                    == Some(rollout) =>
            {
                Ok(())
            }
            Ok(Some(_)) => Err(PersistError::NameTaken(name)),
            Ok(None) => Err(PersistError::Create(name, error)),
            Err(error) => Err(PersistError::Create(name, error)),
        },
        Err(error) => Err(PersistError::Create(name, error)),
    }
}

pub async fn scale_copy(
    client: &Client,
    copy: &DynamicObject,
    replicas: u32,
) -> Result<(), PersistError> {
    let name = copy.name_any();
    let patch = json!({"spec": {"replicas": replicas}});
    let api = api(client, &copy.namespace().unwrap_or_default());
    api.patch(&name, &managed(), &Patch::Merge(patch))
        .await
        .map_err(|error| PersistError::Scale(name, error))?;
    Ok(())
}

pub async fn delete_copy(client: &Client, copy: &DynamicObject) -> Result<(), PersistError> {
    if copy.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = copy.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: copy.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api(client, &copy.namespace().unwrap_or_default())
        .delete(&name, &params)
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(PersistError::Delete(name, error)),
    }
}
