//! The HTTP clients for whom the operator calls: Prometheus, hooks, and who is notified.
//!
//! HTTPS is verified with the certificates in `SSL_CERT_FILE` or the system's, or with those that a Secret brings. Redirects are
//! followed by none: one would lead out of an allow-list, and credentials with it. How long an answer may take is said with each
//! request.

use std::error::Error;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Makes them. Clones are the same.
#[derive(Clone)]
pub struct HttpClients(Arc<Inner>);

struct Inner {
    /// `SSL_CERT_FILE`, or the system's.
    authorities: RootCertStore,
    provider: Arc<CryptoProvider>,
}

/// What somebody brings for a client of their own.
#[derive(Default)]
pub struct Tls {
    /// Whom to trust instead. None: those that are trusted anyway.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Whom to be: the chain, its end first, and its key.
    pub client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Why there is none. None of these shows a key or a certificate.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    #[error("a certificate of an authority cannot be read")]
    Authority,
    #[error("the client's certificate and its key do not belong together")]
    Pair,
    #[error(transparent)]
    Build(#[from] reqwest::Error),
}

impl HttpClients {
    /// Reads whom to trust.
    pub fn new() -> HttpClients {
        let mut authorities = RootCertStore::empty();
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        HttpClients(Arc::new(Inner {
            authorities,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        }))
    }

    /// One without certificates of anybody's, to be kept: it keeps its connections.
    pub fn common(&self) -> Result<reqwest::Client, HttpClientError> {
        self.with(Tls::default())
    }

    /// One for these certificates, to be made anew for each use: they may be others in the next.
    pub fn with(&self, tls: Tls) -> Result<reqwest::Client, HttpClientError> {
        let Inner {
            authorities,
            provider,
        } = &*self.0;
        let trusted = if tls.authorities.is_empty() {
            authorities.clone()
        } else {
            let mut own = RootCertStore::empty();
            let (_, unusable) = own.add_parsable_certificates(tls.authorities);
            if unusable > 0 {
                return Err(HttpClientError::Authority);
            }
            own
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has TLS 1.2 and 1.3")
            .with_root_certificates(trusted);
        let config = match tls.client {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|_| HttpClientError::Pair)?
            }
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("aviary-operator/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(client)
    }
}

impl Default for HttpClients {
    fn default() -> HttpClients {
        HttpClients::new()
    }
}

/// What TLS found wrong, if that is why a request failed.
pub fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An I/O error that was made of another has that inside, and not as its source.
        cause = match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inside| inside as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}
