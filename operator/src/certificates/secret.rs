//! The Secret of the root, and of the key that revocations are signed with.
//!
//! A Secret from before there was a key, or a user's own, gets one at the first start.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use time::OffsetDateTime;

use super::root::Root;
use super::shared::{self, CERTIFICATE, Found, KEY, SecretError, SecretProblem, Shared};
use crate::ads::{KEY_BYTES, RevocationKey};
use crate::names;

const REVOCATION_KEY: &str = "revocation.key";

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
    shared::load_or_create(client, namespace, &Authority { now }).await
}

struct Authority {
    now: OffsetDateTime,
}

impl Shared for Authority {
    const NAME: &'static str = names::CA_SECRET;
    type Kept = Kept;

    fn read(&self, found: &Secret) -> Result<Found<Kept>, SecretProblem> {
        // A Secret that is of no use is not written to.
        let root = root(found)?;
        if !has_revocation_key(found) {
            let whole = Box::new(add_revocation_key(found.clone())?);
            return Ok(Found::Lacks(REVOCATION_KEY, whole));
        }
        Ok(Found::Whole(Kept {
            root,
            revocation_key: revocation_key(found)?,
        }))
    }

    fn make(&self) -> Result<Secret, SecretProblem> {
        let root = Root::generate(self.now).map_err(SecretProblem::Root)?;
        add_revocation_key(secret(&root))
    }
}

fn secret(root: &Root) -> Secret {
    let texts = [(CERTIFICATE, root.pem().to_owned()), (KEY, root.key_pem())];
    shared::secret(names::CA_SECRET, texts)
}

fn has_revocation_key(secret: &Secret) -> bool {
    let data = secret.data.as_ref();
    data.is_some_and(|data| data.contains_key(REVOCATION_KEY))
}

fn add_revocation_key(mut secret: Secret) -> Result<Secret, SecretProblem> {
    let key = RevocationKey::generate().map_err(SecretProblem::Random)?;
    let data = secret.data.get_or_insert_default();
    data.insert(REVOCATION_KEY.to_owned(), ByteString(key.to_vec()));
    Ok(secret)
}

fn root(secret: &Secret) -> Result<Root, SecretProblem> {
    let (certificate, key) = (
        shared::text(secret, CERTIFICATE)?,
        shared::text(secret, KEY)?,
    );
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Root::parse(&certificate, &key, &provider).map_err(SecretProblem::Root)
}

fn revocation_key(secret: &Secret) -> Result<RevocationKey, SecretProblem> {
    let bytes = shared::bytes(secret, REVOCATION_KEY)?;
    let key: &[u8; KEY_BYTES] = bytes.try_into().map_err(|_| SecretProblem::KeySize {
        key: REVOCATION_KEY,
        found: bytes.len(),
    })?;
    Ok(RevocationKey::new(key))
}

#[cfg(test)]
mod tests;
