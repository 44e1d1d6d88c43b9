//! The mesh's certificate authority: short-lived, and of this run alone.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PublicKeyData, SanType,
};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with one URI name, and nothing more than a sidecar's has.
pub struct Leaf(rcgen::Certificate);

impl Authority {
    pub fn new() -> Result<Authority, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "benchmark");
        CertifiedIssuer::self_signed(params, KeyPair::generate()?).map(Authority)
    }

    pub fn sign(&self, id: &str, key: &impl PublicKeyData) -> Result<Leaf, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id)?)];
        params.signed_by(key, &self.0).map(Leaf)
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }
}

impl Leaf {
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }
}
