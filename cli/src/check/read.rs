//! The answer to one question about the cluster.

use crate::cluster::ClusterError;

/// What one question brought.
#[derive(Clone, Debug)]
pub(super) enum Read<T> {
    There(T),
    Absent,
    /// Nobody knows, and this is why.
    Unknown(String),
}

impl<T> Read<T> {
    pub(super) fn of(what: &'static str, read: kube::Result<Option<T>>) -> Read<T> {
        match read {
            Ok(Some(there)) => Read::There(there),
            Ok(None) => Read::Absent,
            Err(error) => Read::Unknown(ClusterError::of(what, error).to_string()),
        }
    }

    /// What is made of it, if it is there.
    pub(super) fn map<U>(&self, make: impl FnOnce(&T) -> U) -> Read<U> {
        match self {
            Read::There(there) => Read::There(make(there)),
            Read::Absent => Read::Absent,
            Read::Unknown(why) => Read::Unknown(why.clone()),
        }
    }

    pub(super) fn there(&self) -> Option<&T> {
        match self {
            Read::There(there) => Some(there),
            Read::Absent | Read::Unknown(_) => None,
        }
    }
}
