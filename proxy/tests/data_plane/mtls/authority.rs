//! A certificate authority of the mesh, and what it gives to pods.

use std::sync::Arc;

use aviary_proxy::identity::Generation;
use aviary_xds::identity::SignResponse;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use traffic_core::config::Expected;

use crate::control_plane::Signer;

pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The identity of a ServiceAccount of the namespace `shop`.
pub(super) fn id(service_account: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{service_account}")
}

/// An endpoint that has said that it accepts TLS.
pub(super) fn accepting(service_account: &str) -> Option<Expected> {
    Some(Expected {
        id: id(service_account).into(),
        accepts: true,
        demands: false,
    })
}

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate that it signs for what `change` makes of the usual one.
    pub(super) fn leaf(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = Authority::usual();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap().der().clone();
        (leaf, key.serialize_der().try_into().unwrap())
    }

    /// Signs for every pod that asks, as one of this ServiceAccount.
    pub(super) fn signer(self: &Arc<Authority>, service_account: &'static str) -> Signer {
        let authority = self.clone();
        Box::new(move |csr| {
            let id = id(service_account);
            let asked = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
            let mut params = Authority::usual();
            params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
            let leaf = params.signed_by(&asked.public_key, &authority.0).unwrap();
            SignResponse {
                chain: vec![leaf.der().to_vec()],
                roots: vec![authority.root().to_vec()],
                seconds_left: 3600,
                id,
            }
        })
    }

    fn usual() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params
    }

    /// What a pod of this ServiceAccount gets, with these as the mesh's roots.
    pub(super) fn identity(
        &self,
        number: u64,
        service_account: &str,
        roots: &[&Authority],
    ) -> Arc<Generation> {
        let id = id(service_account);
        let (leaf, key) = self.leaf(|params| {
            params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        });
        let roots = roots.iter().map(|root| root.root()).collect();
        Arc::new(Generation::new(number, &id, vec![leaf], key, roots).unwrap())
    }
}
