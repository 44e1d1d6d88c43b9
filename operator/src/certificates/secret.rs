//! The Secret that keeps what all replicas share: the root, and the key that revocations are signed with.
//!
//! Created once and then only read: there is no moment at which two replicas could work with different roots. A Secret from before
//! there was a key, or a user's own, gets one at the first start: written only over the version that was read, so that the replica
//! that writes first wins.

use std::collections::BTreeMap;
use std::string::FromUtf8Error;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use time::OffsetDateTime;

use super::root::{Root, RootError};
use crate::ads::{KEY_BYTES, RevocationKey};
use crate::names;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const REVOCATION_KEY: &str = "revocation.key";
/// Each try either finds the Secret or makes it; a second is needed when another replica was faster.
const TRIES: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("Secret {secret}: cannot be read", secret = names::CA_SECRET)]
    Get(#[source] kube::Error),
    #[error("Secret {secret}: cannot be created", secret = names::CA_SECRET)]
    Create(#[source] kube::Error),
    #[error(
        "Secret {secret}: has no '{0}'; put a certificate authority into it (type kubernetes.io/tls), or delete it and a new one is made",
        secret = names::CA_SECRET
    )]
    Missing(&'static str),
    #[error("Secret {secret}: '{0}' is not text", secret = names::CA_SECRET)]
    Text(&'static str, #[source] FromUtf8Error),
    #[error(
        "Secret {secret}: not a certificate authority; mend it, or delete it and a new one is made",
        secret = names::CA_SECRET
    )]
    Root(#[source] RootError),
    #[error("Secret {secret}: '{key}' cannot be added: may the operator update it?", secret = names::CA_SECRET, key = REVOCATION_KEY)]
    Update(#[source] kube::Error),
    #[error(
        "Secret {secret}: '{key}' has {0} bytes, expected {KEY_BYTES}; remove it and a new one is made",
        secret = names::CA_SECRET,
        key = REVOCATION_KEY
    )]
    RevocationKey(usize),
    #[error("no random bytes for a key")]
    Random(#[source] aws_lc_rs::error::Unspecified),
    #[error("Secret {secret}: appears and disappears", secret = names::CA_SECRET)]
    Unstable,
}

/// What the Secret keeps.
pub(super) struct Kept {
    pub(super) root: Root,
    pub(super) revocation_key: RevocationKey,
}

pub(super) async fn load_or_create(
    client: Client,
    namespace: &str,
    now: OffsetDateTime,
) -> Result<Kept, SecretError> {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let how = PostParams::default();
    for _ in 0..TRIES {
        if let Some(found) = secrets
            .get_opt(names::CA_SECRET)
            .await
            .map_err(SecretError::Get)?
        {
            if has_revocation_key(&found) {
                return parse(&found);
            }
            // A Secret that is of no use is not written to.
            root(&found)?;
            let with_key = add_revocation_key(found)?;
            let written = secrets.replace(names::CA_SECRET, &how, &with_key);
            match written.await {
                Ok(written) => {
                    tracing::info!(secret = names::CA_SECRET, "key for revocations made");
                    return parse(&written);
                }
                // Another replica was faster, or somebody took the Secret away: look again.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => continue,
                Err(error) => return Err(SecretError::Update(error)),
            }
        }
        let root = Root::generate(now).map_err(SecretError::Root)?;
        let secret = add_revocation_key(secret(&root))?;
        match secrets.create(&how, &secret).await {
            Ok(_) => {
                tracing::info!(secret = names::CA_SECRET, "certificate authority made");
                return parse(&secret);
            }
            // Another replica was faster: its root is the root.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(SecretError::Create(error)),
        }
    }
    Err(SecretError::Unstable)
}

fn secret(root: &Root) -> Secret {
    let bytes = |text: String| ByteString(text.into_bytes());
    Secret {
        metadata: ObjectMeta {
            name: Some(names::CA_SECRET.to_owned()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/part-of".to_owned(),
                "aviary".to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), bytes(root.pem().to_owned())),
            (KEY.to_owned(), bytes(root.key_pem())),
        ])),
        ..Secret::default()
    }
}

fn has_revocation_key(secret: &Secret) -> bool {
    let data = secret.data.as_ref();
    data.is_some_and(|data| data.contains_key(REVOCATION_KEY))
}

fn add_revocation_key(mut secret: Secret) -> Result<Secret, SecretError> {
    let key = RevocationKey::generate().map_err(SecretError::Random)?;
    let data = secret.data.get_or_insert_default();
    data.insert(REVOCATION_KEY.to_owned(), ByteString(key.to_vec()));
    Ok(secret)
}

fn parse(secret: &Secret) -> Result<Kept, SecretError> {
    Ok(Kept {
        root: root(secret)?,
        revocation_key: revocation_key(secret)?,
    })
}

fn root(secret: &Secret) -> Result<Root, SecretError> {
    let text = |key: &'static str| {
        let text = bytes(secret, key)?.to_vec();
        String::from_utf8(text).map_err(|error| SecretError::Text(key, error))
    };
    let (certificate, key) = (text(CERTIFICATE)?, text(KEY)?);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Root::parse(&certificate, &key, &provider).map_err(SecretError::Root)
}

fn revocation_key(secret: &Secret) -> Result<RevocationKey, SecretError> {
    let bytes = bytes(secret, REVOCATION_KEY)?;
    let key: &[u8; KEY_BYTES] = bytes
        .try_into()
        .map_err(|_| SecretError::RevocationKey(bytes.len()))?;
    Ok(RevocationKey::new(key))
}

fn bytes<'a>(secret: &'a Secret, key: &'static str) -> Result<&'a [u8], SecretError> {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    let ByteString(bytes) = data.ok_or(SecretError::Missing(key))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
