//! Who opens a stream: the pod that the bearer token was issued to. What the node says about itself is not believed.

use std::future::Future;
use std::pin::Pin;

use tonic::Status;
use tonic::metadata::MetadataMap;

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIdentity {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// The name of its ServiceAccount, which is in its namespace.
    pub service_account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is no good: trying again with the same one is of no use.
    #[error("the token was refused: {0}")]
    Refused(String),
    /// Nobody could say whether it is.
    #[error("the token could not be checked: {0}; try again")]
    Unavailable(String),
}

/// The answer about a token.
pub type Authenticated<'a> =
    Pin<Box<dyn Future<Output = Result<PodIdentity, AuthError>> + Send + 'a>>;

/// Checks tokens.
pub trait Authenticator: Send + Sync + 'static {
    fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a>;
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Status {
        match error {
            AuthError::Refused(_) => Status::unauthenticated(error.to_string()),
            AuthError::Unavailable(_) => Status::unavailable(error.to_string()),
        }
    }
}

/// The token of a request.
pub(super) fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    let header = metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim).filter(|token| !token.is_empty()).ok_or_else(
        || {
            Status::unauthenticated(
                "no `authorization: Bearer <token>`: a sidecar shows the ServiceAccount token that the injector mounts; \
                 restart the pod if it was injected by an older version",
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_as_a_bearer_and_in_no_other_way() {
        let mut metadata = MetadataMap::new();
        assert_eq!(
            bearer(&metadata).unwrap_err().code(),
            tonic::Code::Unauthenticated
        );
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("Basic abc", None),
            ("Bearer  ", None),
        ] {
            metadata.insert("authorization", header.parse().unwrap());
            assert_eq!(bearer(&metadata).ok(), token);
        }
    }
}
