//! Requests as values: they are built here and sent elsewhere, so that what would be written can be looked at.

use kube::api::ApiResource;
use serde_json::Value;

use super::events::Note;
use crate::key::Key;

/// What is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    CanaryRollout,
    Deployment,
    ReplicaSet,
    ControllerRevision,
}

impl Kind {
    pub fn resource(self) -> ApiResource {
        use k8s_openapi::api::apps::v1 as apps;
        match self {
            Kind::CanaryRollout => ApiResource::erase::<aviary_crds::CanaryRollout>(&()),
            Kind::Deployment => ApiResource::erase::<apps::Deployment>(&()),
            Kind::ReplicaSet => ApiResource::erase::<apps::ReplicaSet>(&()),
            Kind::ControllerRevision => ApiResource::erase::<apps::ControllerRevision>(&()),
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub kind: Kind,
    /// Of the object; of the CanaryRollout for a note.
    pub key: Key,
    pub verb: Verb,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    Get,
    Create(Value),
    /// A JSON merge patch; a `metadata.resourceVersion` or `metadata.uid` in it is a precondition.
    Patch(Value),
    /// The whole object; only its status counts, and its `metadata.resourceVersion` is a precondition.
    ReplaceStatus(Value),
    /// A JSON merge patch of the status alone.
    PatchStatus(Value),
    /// A server-side apply of the status alone: what is no longer in it goes, if nobody else has set it. A `metadata.uid` in it
    /// is a precondition.
    ApplyStatus(Value),
    /// In the background, provided that it is still this object in this version.
    Delete {
        uid: String,
        resource_version: Option<String>,
    },
    /// An Event about the object.
    Tell {
        about: Box<Value>,
        note: Note,
    },
}

/// Why a request did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("it was changed by somebody else meanwhile")]
    Conflict,
    #[error(
        "it exists and was not made by this CanaryRollout, so it is never taken over: delete or rename it"
    )]
    Exists,
    #[error("it does not exist")]
    Gone,
    /// The API server will say the same the next time.
    #[error("the API server refuses it: {0}")]
    Refused(String),
    /// It may or may not have happened.
    #[error("the API server did not do it: {0}")]
    Unavailable(String),
}

impl WriteError {
    /// All that there are.
    pub const CATEGORIES: [&str; 5] = ["conflict", "exists", "gone", "refused", "unavailable"];

    /// For metrics.
    pub fn category(&self) -> &'static str {
        match self {
            WriteError::Conflict => "conflict",
            WriteError::Exists => "exists",
            WriteError::Gone => "gone",
            WriteError::Refused(_) => "refused",
            WriteError::Unavailable(_) => "unavailable",
        }
    }
}

/// The object as it is after the request; `None` for a note and for what is deleted.
pub type Written = Result<Option<Value>, WriteError>;
