//! An issuer: a key that signs for workloads, what lies between it and a root, and the roots.

use aviary_xds::identity::{LONGEST_CERTIFICATE, MOST_IN_CHAIN, MOST_ROOTS, Signed};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use traffic_core::spiffe::{SpiffeId, TrustDomain};
use webpki::{EndEntityCert, KeyUsage};

use super::super::root::{CLOCK_SKEW, Root, RootError};
use super::refusals::Refusal;

/// The file of the roots, as cert-manager calls it.
pub(super) const ROOTS: &str = "ca.crt";

/// What keeps an issuer from being of use. The texts name the keys of the Secret.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error(transparent)]
    Key(#[from] RootError),
    #[error("{key} is not PEM")]
    Pem {
        key: &'static str,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("{key} has a certificate that cannot be read")]
    Certificate { key: &'static str },
    #[error("{key} has a certificate of {bytes} bytes, the limit is {LONGEST_CERTIFICATE}")]
    Size { key: &'static str, bytes: usize },
    #[error("{key} has {count} certificates, the limit is {limit}")]
    Count {
        key: &'static str,
        count: usize,
        limit: usize,
    },
    #[error("tls.crt begins with an intermediate, and there is no {ROOTS}: put the root into it")]
    NoRoot,
    #[error("tls.crt has expired")]
    Expired,
    #[error(
        "what it signs cannot be verified with the roots in {ROOTS}, or in tls.crt if there are none: {0}"
    )]
    Unverifiable(webpki::Error),
    #[error("it cannot sign")]
    Sign(#[source] rcgen::Error),
}

/// Signs for workloads. What it signs can be verified with its roots.
pub struct Issuer {
    signer: Root,
    /// Between a leaf and a root, the issuer's own first; none if the issuer is a root.
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    /// When the first of them expires.
    expires_at: OffsetDateTime,
}

impl Issuer {
    /// The issuer in these texts of a Secret (PEM). `certificates`: the issuer's own first, then those above it. `roots`: whom pods trust; without any, a
    /// self-signed certificate among `certificates`.
    pub fn parse(
        certificates: &str,
        key: &str,
        roots: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Issuer, IssuerError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let signer = Root::parse(certificates, key, &provider)?;
        let given = read("tls.crt", certificates)?;
        let mut trusted = read(ROOTS, roots.unwrap_or_default())?;
        if trusted.is_empty() {
            let own = given.iter().filter(|each| each.is_self_issued);
            trusted = own.cloned().collect();
        }
        if trusted.is_empty() {
            return Err(IssuerError::NoRoot);
        }
        let between: Vec<Certificate> = given
            .into_iter()
            .filter(|each| !trusted.iter().any(|root| root.der == each.der))
            .collect();
        for (key, count, limit) in [
            ("tls.crt", between.len(), MOST_IN_CHAIN - 1),
            (ROOTS, trusted.len(), MOST_ROOTS),
        ] {
            if count > limit {
                return Err(IssuerError::Count { key, count, limit });
            }
        }
        let expiries = between.iter().map(|each| each.expires_at);
        let issuer = Issuer {
            expires_at: expiries.chain([signer.expires_at()]).min().unwrap_or(now),
            signer,
            chain: between.into_iter().map(|each| each.der).collect(),
            roots: trusted.into_iter().map(|each| each.der).collect(),
        };
        issuer.prove(now)?;
        Ok(issuer)
    }

    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whether both sign with one key, and their certificates are the same.
    pub(super) fn is_same(&self, other: &Issuer) -> bool {
        self.chain == other.chain
            && self.roots == other.roots
            && self.signer.pem() == other.signer.pem()
    }

    /// A certificate that says this and nothing else, which holds for `lifetime`, or as long as the issuer does.
    pub(super) fn issue(
        &self,
        key: &impl PublicKeyData,
        id: SpiffeId,
        lifetime: std::time::Duration,
        now: OffsetDateTime,
    ) -> Result<Signed, Refusal> {
        let left: std::time::Duration = (self.expires_at - now).try_into().unwrap_or_default();
        let left = lifetime.min(left);
        if left.as_secs() == 0 {
            return Err(Refusal::Expired);
        }
        let leaf = self.leaf(key, &id, left, now).map_err(Refusal::Sign)?;
        let chain = [leaf].into_iter().chain(self.chain.iter().cloned());
        Ok(Signed {
            chain: chain.map(|der| der.to_vec()).collect(),
            roots: self.roots.iter().map(|der| der.to_vec()).collect(),
            left,
            id,
        })
    }

    fn leaf(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        left: std::time::Duration,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = CertificateParams::default();
        // Without a subject the name is critical (RFC 5280, 4.2.1.6): who does not understand it does not take the certificate.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id.as_str())?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + left;
        Ok(self.signer.sign(&params, key)?.der().clone())
    }

    /// Signs for somebody, and verifies it as both ends of a connection do.
    fn prove(&self, now: OffsetDateTime) -> Result<(), IssuerError> {
        if self.expires_at <= now {
            return Err(IssuerError::Expired);
        }
        let domain = TrustDomain::parse("aviary.invalid").expect("a domain");
        let somebody = domain.workload("a", "b").expect("a name");
        let key = KeyPair::generate().map_err(IssuerError::Sign)?;
        let minute = std::time::Duration::from_secs(60);
        let leaf = self
            .leaf(&key, &somebody, minute, now)
            .map_err(IssuerError::Sign)?;
        for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
            verify(&leaf, &self.chain, &self.roots, usage, now)
                .map_err(IssuerError::Unverifiable)?;
        }
        Ok(())
    }
}

/// As sidecars do it.
pub(super) fn verify(
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    usage: KeyUsage,
    now: OffsetDateTime,
) -> Result<(), webpki::Error> {
    let anchors = roots.iter().map(webpki::anchor_from_trusted_cert);
    let anchors = anchors.collect::<Result<Vec<_>, _>>()?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    EndEntityCert::try_from(leaf)?
        .verify_for_usage(algorithms.all, &anchors, chain, now, usage, None, None)
        .map(|_| ())
}

/// As far as it is read here.
#[derive(Clone)]
struct Certificate {
    der: CertificateDer<'static>,
    expires_at: OffsetDateTime,
    is_self_issued: bool,
}

fn read(key: &'static str, pem: &str) -> Result<Vec<Certificate>, IssuerError> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| {
        let der = der.map_err(|source| IssuerError::Pem { key, source })?;
        let bytes = der.len();
        if bytes > LONGEST_CERTIFICATE {
            return Err(IssuerError::Size { key, bytes });
        }
        let parsed = x509_parser::parse_x509_certificate(&der);
        let (_, parsed) = parsed.map_err(|_| IssuerError::Certificate { key })?;
        let (expires_at, is_self_issued) = (
            parsed.validity().not_after.to_datetime(),
            parsed.subject().as_raw() == parsed.issuer().as_raw(),
        );
        drop(parsed);
        Ok(Certificate {
            der,
            expires_at,
            is_self_issued,
        })
    });
    all.collect()
}

/// 127 random bits, more than the 64 that CAs have to have; never 0.
fn serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from(bytes.to_vec()))
}
