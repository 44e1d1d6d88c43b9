//! A certificate authority for tests.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Generation;

pub(crate) const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn leaf(&self, ids: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        self.leaf_with(ids, |_| {})
    }

    /// For what `change` makes of the usual one.
    pub(crate) fn leaf_with(
        &self,
        ids: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::default();
        let names = ids.iter().map(|id| SanType::URI((*id).try_into().unwrap()));
        params.subject_alt_names = names.collect();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap().der().clone();
        (leaf, key.serialize_der().try_into().unwrap())
    }

    /// For [`ID`].
    pub(crate) fn generation(&self, number: u64) -> Arc<Generation> {
        let (leaf, key) = self.leaf(&[ID]);
        Arc::new(Generation::new(number, ID, vec![leaf], key, vec![self.root()]).unwrap())
    }
}
