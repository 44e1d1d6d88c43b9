//! A Secret that all replicas of the operator share. Whoever creates it first wins, and everybody reads back what is there: there is no moment at which two
//! replicas could work with different contents. What lacks something is written only over the version that was read, so that here, too, the first one wins.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::string::FromUtf8Error;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::root::RootError;
use crate::ads::KEY_BYTES;

pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
/// Each try either finds the Secret or makes it; a second is needed when another replica was faster.
const TRIES: u32 = 5;

/// What is wrong with one of the operator's Secrets.
#[derive(Debug)]
pub struct SecretError {
    pub secret: &'static str,
    pub problem: SecretProblem,
}

#[derive(Debug, thiserror::Error)]
pub enum SecretProblem {
    #[error("cannot be read")]
    Get(#[source] kube::Error),
    #[error("cannot be created")]
    Create(#[source] kube::Error),
    #[error(
        "has no '{0}'; put a certificate authority into it (type kubernetes.io/tls), or delete it and a new one is made"
    )]
    Missing(&'static str),
    #[error("'{0}' is not text")]
    Text(&'static str, #[source] FromUtf8Error),
    #[error("not a certificate authority; mend it, or delete it and a new one is made")]
    Root(#[source] RootError),
    #[error("no issuer of certificates for workloads; mend it, or delete it and a new one is made")]
    Issuer(#[source] Box<dyn Error + Send + Sync>),
    #[error("'{0}' cannot be added: may the operator update it?")]
    Update(&'static str, #[source] kube::Error),
    #[error("'{key}' has {found} bytes, expected {KEY_BYTES}; remove it and a new one is made")]
    KeySize { key: &'static str, found: usize },
    #[error("no random bytes for a key")]
    Random(#[source] aws_lc_rs::error::Unspecified),
    #[error("appears and disappears")]
    Unstable,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}: {}", self.secret, self.problem)
    }
}

impl Error for SecretError {
    /// The problem is in the text already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

/// What is kept in such a Secret.
pub(super) trait Shared {
    const NAME: &'static str;
    type Kept;

    /// What a Secret that was found has.
    fn read(&self, found: &Secret) -> Result<Found<Self::Kept>, SecretProblem>;
    /// The first Secret.
    fn make(&self) -> Result<Secret, SecretProblem>;
}

pub(super) enum Found<K> {
    Whole(K),
    /// It is of use, but lacks something (by the name of its key): this is to be written in its place.
    Lacks(&'static str, Box<Secret>),
}

pub(super) async fn load_or_create<S: Shared>(
    client: Client,
    namespace: &str,
    shared: &S,
) -> Result<S::Kept, SecretError> {
    let result = ensure(client, namespace, shared).await;
    result.map_err(|problem| SecretError {
        secret: S::NAME,
        problem,
    })
}

async fn ensure<S: Shared>(
    client: Client,
    namespace: &str,
    shared: &S,
) -> Result<S::Kept, SecretProblem> {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let how = PostParams::default();
    for _ in 0..TRIES {
        let found = secrets.get_opt(S::NAME).await;
        if let Some(found) = found.map_err(SecretProblem::Get)? {
            let (key, whole) = match shared.read(&found)? {
                Found::Whole(kept) => return Ok(kept),
                Found::Lacks(key, whole) => (key, whole),
            };
            match secrets.replace(S::NAME, &how, &whole).await {
                Ok(written) => {
                    tracing::info!(secret = S::NAME, key, "added to the Secret");
                    if let Found::Whole(kept) = shared.read(&written)? {
                        return Ok(kept);
                    }
                }
                // Another replica was faster, or somebody took the Secret away: look again.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                Err(error) => return Err(SecretProblem::Update(key, error)),
            }
            continue;
        }
        let secret = shared.make()?;
        match secrets.create(&how, &secret).await {
            Ok(_) => {
                tracing::info!(secret = S::NAME, "certificate authority made");
                if let Found::Whole(kept) = shared.read(&secret)? {
                    return Ok(kept);
                }
            }
            // Another replica was faster: what it made counts.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(SecretProblem::Create(error)),
        }
    }
    Err(SecretProblem::Unstable)
}

/// A new Secret with these texts, of the type that certificates have.
pub(super) fn secret<const N: usize>(name: &str, texts: [(&'static str, String); N]) -> Secret {
    let texts = texts.into_iter();
    let part_of = ("app.kubernetes.io/part-of", "aviary");
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from(
                [part_of].map(|(k, v)| (k.to_owned(), v.to_owned())),
            )),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            texts
                .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    }
}

pub(super) fn text(secret: &Secret, key: &'static str) -> Result<String, SecretProblem> {
    let text = bytes(secret, key)?.to_vec();
    String::from_utf8(text).map_err(|error| SecretProblem::Text(key, error))
}

pub(super) fn bytes<'a>(secret: &'a Secret, key: &'static str) -> Result<&'a [u8], SecretProblem> {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    let ByteString(bytes) = data.ok_or(SecretProblem::Missing(key))?;
    Ok(bytes)
}
