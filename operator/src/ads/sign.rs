//! Signatures of revocations. Proxies remember rollbacks for the control plane and report them when they connect, so that a new
//! leader cannot undo one that it did not see; but a report of any pod must not roll back anybody's release. So the control plane
//! signs what it publishes with a key that only its replicas have, and believes only what carries its own signature.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use traffic_core::config::{Revocation, Signature, SignedRevocation};

use crate::mesh::WorldChange;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// What is signed begins with this, so that the key can never be made to sign anything else.
const PURPOSE: &[u8] = b"aviary.dev/revocation/v1\0";

/// The key of one installation. Clones are the same key.
#[derive(Clone)]
pub struct RevocationKey(hmac::Key);

impl RevocationKey {
    pub fn new(bytes: &[u8; KEY_BYTES]) -> RevocationKey {
        RevocationKey(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Bytes for a new key.
    pub fn generate() -> Result<[u8; KEY_BYTES], Unspecified> {
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes)?;
        Ok(bytes)
    }

    pub fn sign(&self, revocation: &Revocation) -> SignedRevocation {
        let tag = hmac::sign(&self.0, &message(revocation));
        SignedRevocation {
            revocation: revocation.clone(),
            signature: tag.as_ref().try_into().ok().map(Signature),
        }
    }

    /// Whether this installation has made it. Takes the same time whatever is wrong.
    pub fn verify(&self, signed: &SignedRevocation) -> bool {
        let message = message(&signed.revocation);
        signed
            .signature
            .is_some_and(|Signature(tag)| hmac::verify(&self.0, &message, &tag).is_ok())
    }

    /// Signs all revocations that are to be published.
    pub(super) fn sign_all(&self, change: &mut WorldChange) {
        for entry in change.routes.values_mut().flatten() {
            for revoked in &mut entry.route.revoked {
                *revoked = self.sign(&revoked.revocation);
            }
        }
    }
}

/// Every part with its length before it: no two revocations have the same message.
fn message(revocation: &Revocation) -> Vec<u8> {
    let Revocation {
        rollout,
        revision,
        run,
    } = revocation;
    let mut message = PURPOSE.to_vec();
    for text in [rollout, revision] {
        message.extend((text.len() as u64).to_be_bytes());
        message.extend(text.as_bytes());
    }
    message.extend(run.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RevocationKey {
        RevocationKey::new(&[7; KEY_BYTES])
    }

    fn revocation(rollout: &str, revision: &str, run: u64) -> Revocation {
        Revocation {
            rollout: rollout.to_owned(),
            revision: revision.to_owned(),
            run,
        }
    }

    #[test]
    fn what_was_signed_verifies_with_the_same_key_and_with_no_other() {
        let signed = key().sign(&revocation("shop/web", "v2", 3));
        assert!(key().verify(&signed));
        assert!(!RevocationKey::new(&[8; KEY_BYTES]).verify(&signed));
        let generated = RevocationKey::generate().unwrap();
        assert_ne!(generated, RevocationKey::generate().unwrap());
    }

    #[test]
    fn a_copied_signature_is_good_for_nothing_else() {
        let signature = key().sign(&revocation("shop/web", "v2", 3)).signature;
        for forged in [
            revocation("shop/api", "v2", 3),
            revocation("shop/web", "v3", 3),
            revocation("shop/web", "v2", 4),
            revocation("shop/web", "v2", u64::MAX),
            // The same letters, cut at another place.
            revocation("shop/webv", "2", 3),
            revocation("shop/we", "bv2", 3),
        ] {
            let forged = SignedRevocation {
                revocation: forged,
                signature,
            };
            assert!(!key().verify(&forged), "{forged:?}");
        }
    }

    #[test]
    fn a_revocation_without_a_signature_does_not_count() {
        let unsigned = SignedRevocation::from(revocation("shop/web", "v2", 3));
        assert!(!key().verify(&unsigned));
    }
}
