//! The certificate that webhooks and xDS serve with: issued in memory, replaced while connections stay.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use super::root::{CLOCK_SKEW, Root};
use crate::names;

const LIFE: Duration = Duration::hours(24);

#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("the serving certificate could not be issued")]
    Issue(#[source] rcgen::Error),
    #[error("the serving certificate cannot be used")]
    Use(#[source] rustls::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    NotDue,
    Renewed,
}

/// The serving certificate and the means to replace it.
pub(super) struct Serving {
    root: Arc<Root>,
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
}

/// What new handshakes present.
struct Current(RwLock<Issued>);

#[derive(Clone)]
struct Issued {
    certificate: Arc<CertifiedKey>,
    renew_at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

impl Serving {
    pub(super) fn new(
        root: Arc<Root>,
        namespace: &str,
        now: OffsetDateTime,
    ) -> Result<Serving, ServingError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let names = dns_names(namespace);
        let issued = issue(&root, &names, &provider, now)?;
        let current = Arc::new(Current(RwLock::new(issued)));
        Ok(Serving {
            root,
            names,
            provider,
            current,
        })
    }

    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        let resolver = Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    pub(super) fn expires_at(&self) -> OffsetDateTime {
        self.current.get().expires_at
    }

    /// A new certificate once half of the present one's life is over.
    pub(super) fn renew_if_due(&self, now: OffsetDateTime) -> Result<Renewal, ServingError> {
        if now < self.current.get().renew_at {
            return Ok(Renewal::NotDue);
        }
        let issued = issue(&self.root, &self.names, &self.provider, now)?;
        *self
            .current
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = issued;
        Ok(Renewal::Renewed)
    }
}

impl Current {
    fn get(&self) -> Issued {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().certificate)
    }
}

fn dns_names(namespace: &str) -> Vec<String> {
    [names::OPERATOR, names::XDS_SERVICE]
        .iter()
        .flat_map(|service| {
            ["svc", "svc.cluster.local"].map(|domain| format!("{service}.{namespace}.{domain}"))
        })
        .collect()
}

fn issue(
    root: &Root,
    names: &[String],
    provider: &CryptoProvider,
    now: OffsetDateTime,
) -> Result<Issued, ServingError> {
    let key = KeyPair::generate().map_err(ServingError::Issue)?;
    let mut params = CertificateParams::new(names).map_err(ServingError::Issue)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, names::OPERATOR);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + LIFE;
    let certificate = root.sign(&params, &key).map_err(ServingError::Issue)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certificate = CertifiedKey::from_der(vec![certificate.der().clone()], key, provider)
        .map_err(ServingError::Use)?;
    Ok(Issued {
        certificate: Arc::new(certificate),
        renew_at: now + LIFE / 2,
        expires_at: now + LIFE,
    })
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    fn serving() -> Serving {
        let root = Arc::new(Root::generate(at(0)).unwrap());
        Serving::new(root, "aviary-system", at(0)).unwrap()
    }

    fn verify(
        serving: &Serving,
        name: &'static str,
        now: OffsetDateTime,
    ) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(serving.root.pem().as_bytes()).unwrap())
            .unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&serving.provider),
        )
        .build()
        .unwrap();
        let certificate = serving.current.get().certificate;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            now.unix_timestamp().try_into().unwrap(),
        ));
        verifier
            .verify_server_cert(
                &certificate.cert[0],
                &[],
                &ServerName::try_from(name).unwrap(),
                &[],
                now,
            )
            .map(|_| ())
    }

    #[test]
    fn the_api_server_and_proxies_can_verify_the_serving_certificate() {
        let serving = serving();
        for name in [
            "aviary-operator.aviary-system.svc",
            "aviary-operator.aviary-system.svc.cluster.local",
            "aviary-xds.aviary-system.svc",
            "aviary-xds.aviary-system.svc.cluster.local",
        ] {
            verify(&serving, name, at(60)).unwrap();
        }
        verify(&serving, "aviary-operator.other.svc", at(60)).unwrap_err();
    }

    #[test]
    fn a_clock_that_is_a_little_behind_is_no_obstacle() {
        let serving = serving();
        verify(&serving, "aviary-xds.aviary-system.svc", at(-240)).unwrap();
        verify(&serving, "aviary-xds.aviary-system.svc", at(-3600)).unwrap_err();
    }

    #[test]
    fn the_certificate_is_renewed_at_half_of_its_life() {
        let serving = serving();
        let first = serving.current.get().certificate;
        assert_eq!(
            serving.renew_if_due(at(12 * 3600 - 1)).unwrap(),
            Renewal::NotDue
        );
        assert_eq!(serving.current.get().certificate.cert, first.cert);
        assert_eq!(
            serving.renew_if_due(at(12 * 3600)).unwrap(),
            Renewal::Renewed
        );
        assert_ne!(serving.current.get().certificate.cert, first.cert);
        assert_eq!(serving.expires_at(), at(36 * 3600));
        verify(&serving, "aviary-xds.aviary-system.svc", at(35 * 3600)).unwrap();
    }
}
