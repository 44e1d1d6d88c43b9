//! The issuer's Secret, in the form in which cert-manager writes one: `tls.crt`, `tls.key`, and the roots in `ca.crt`.

use k8s_openapi::api::core::v1::Secret;
use time::OffsetDateTime;

use super::super::root::Root;
use super::super::shared::{self, CERTIFICATE, Found, KEY, SecretProblem, Shared};
use super::issuer::{Issuer, ROOTS};
use crate::names;

pub(super) struct WorkloadSecret {
    pub(super) now: OffsetDateTime,
}

impl Shared for WorkloadSecret {
    const NAME: &'static str = names::WORKLOAD_CA_SECRET;
    type Kept = Issuer;

    /// A user's own is never written to.
    fn read(&self, found: &Secret) -> Result<Found<Issuer>, SecretProblem> {
        parse(found, self.now).map(Found::Whole)
    }

    fn make(&self) -> Result<Secret, SecretProblem> {
        let root = Root::named("Aviary workloads", self.now).map_err(SecretProblem::Root)?;
        let texts = [
            (CERTIFICATE, root.pem().to_owned()),
            (KEY, root.key_pem()),
            (ROOTS, root.pem().to_owned()),
        ];
        Ok(shared::secret(names::WORKLOAD_CA_SECRET, texts))
    }
}

pub(super) fn parse(secret: &Secret, now: OffsetDateTime) -> Result<Issuer, SecretProblem> {
    let (certificates, key) = (
        shared::text(secret, CERTIFICATE)?,
        shared::text(secret, KEY)?,
    );
    let has_roots = secret
        .data
        .as_ref()
        .is_some_and(|data| data.contains_key(ROOTS));
    let roots = has_roots.then(|| shared::text(secret, ROOTS)).transpose()?;
    Issuer::parse(&certificates, &key, roots.as_deref(), now)
        .map_err(|error| SecretProblem::Issuer(Box::new(error)))
}
