//! The root: an ECDSA P-256 key and its self-signed certificate.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

const LIFE: Duration = Duration::days(3650);
/// Certificates begin a little in the past: clocks of nodes differ.
pub(super) const CLOCK_SKEW: Duration = Duration::minutes(5);

#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("a key or certificate could not be made")]
    Generate(#[source] rcgen::Error),
    #[error("tls.crt holds no PEM certificate of an authority")]
    Certificate(#[source] rcgen::Error),
    #[error("tls.crt is not PEM")]
    CertificatePem(#[source] rustls_pki_types::pem::Error),
    #[error("tls.crt does not say until when it holds")]
    Validity(#[source] x509_parser::asn1_rs::Err<x509_parser::error::X509Error>),
    #[error(
        "tls.key holds no private key of a kind that is known: ECDSA (P-256, P-384, P-521), Ed25519 or RSA"
    )]
    Key(#[source] rcgen::Error),
    #[error("tls.key is not PEM")]
    KeyPem(#[source] rustls_pki_types::pem::Error),
    #[error("tls.key is not the key of tls.crt")]
    Mismatch(#[source] rustls::Error),
}

/// A certificate authority: what it signs is trusted by whoever trusts `pem`.
pub struct Root {
    pem: String,
    expires_at: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    pub fn generate(now: OffsetDateTime) -> Result<Root, RootError> {
        Root::named("Aviary root", now)
    }

    /// With this common name.
    pub(super) fn named(name: &str, now: OffsetDateTime) -> Result<Root, RootError> {
        let key = KeyPair::generate().map_err(RootError::Generate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        // Room for one that signs for pods, or that follows this root.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + LIFE;
        let certificate = params.self_signed(&key).map_err(RootError::Generate)?;
        Ok(Root {
            pem: certificate.pem(),
            expires_at: params.not_after,
            issuer: Issuer::new(params, key),
        })
    }

    /// The root from its parts in PEM. More than one certificate is allowed: the first is the issuer's, all are trusted.
    pub fn parse(
        certificate: &str,
        key: &str,
        provider: &CryptoProvider,
    ) -> Result<Root, RootError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(RootError::CertificatePem)?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(RootError::KeyPem)?;
        let key = KeyPair::try_from(&private).map_err(RootError::Key)?;
        CertifiedKey::from_der(vec![der.clone()], private, provider)
            .map_err(RootError::Mismatch)?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(RootError::Certificate)?;
        let (_, read) = x509_parser::parse_x509_certificate(&der).map_err(RootError::Validity)?;
        let expires_at = read.validity().not_after.to_datetime();
        drop(read);
        Ok(Root {
            pem: certificate.to_owned(),
            expires_at,
            issuer,
        })
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Nothing that it has signed is trusted any more from then on.
    pub(super) fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(super) fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, rcgen::Error> {
        params.signed_by(key, &self.issuer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> CryptoProvider {
        rustls::crypto::aws_lc_rs::default_provider()
    }

    #[test]
    fn a_root_survives_being_stored() {
        let root = Root::generate(OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)).unwrap();
        let again = Root::parse(root.pem(), &root.key_pem(), &provider()).unwrap();
        assert_eq!(again.pem(), root.pem());
        assert_eq!(again.key_pem(), root.key_pem());
        assert_eq!(again.expires_at(), root.expires_at());
        assert_eq!(
            root.expires_at(),
            OffsetDateTime::UNIX_EPOCH + Duration::days(20_000) + LIFE
        );
    }

    #[test]
    fn a_root_may_have_one_authority_below_it() {
        let root = Root::generate(OffsetDateTime::now_utc()).unwrap();
        let der = CertificateDer::from_pem_slice(root.pem().as_bytes()).unwrap();
        let (_, read) = x509_parser::parse_x509_certificate(&der).unwrap();
        let constraints = read.basic_constraints().unwrap().unwrap().value;
        assert!(constraints.ca);
        assert_eq!(constraints.path_len_constraint, Some(1));
    }

    #[test]
    fn a_key_of_another_root_is_refused() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let (one, two) = (Root::generate(now).unwrap(), Root::generate(now).unwrap());
        let error = Root::parse(one.pem(), &two.key_pem(), &provider())
            .err()
            .unwrap();
        assert!(matches!(error, RootError::Mismatch(_)), "{error}");
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_the_key_in_the_secret() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let root = Root::generate(now).unwrap();
        let error = Root::parse("x", &root.key_pem(), &provider())
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "tls.crt is not PEM");
        let error = Root::parse(root.pem(), "x", &provider()).err().unwrap();
        assert_eq!(error.to_string(), "tls.key is not PEM");
    }
}
