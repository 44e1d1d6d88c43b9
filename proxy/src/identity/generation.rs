//! One generation of this pod's identity: its certificate and key, and the roots that others are judged by. It never changes: a renewal is another one,
//! which workers take over whole, so a certificate is never used with the roots of another time.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use traffic_core::spiffe::SpiffeId;

use super::Inner;
use super::roots::{Roots, RootsError};
use super::verify::{self, ExpectedServer, IdError, MeshClient};

/// What a pod has to show, and whom it believes.
pub struct Generation {
    /// Counts renewals.
    pub number: u64,
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    pub id: Arc<str>,
    roots: Arc<Roots>,
    provider: Arc<CryptoProvider>,
    own: Arc<SingleCertAndKey>,
    server: Arc<ServerConfig>,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    #[error("the identity has no certificate")]
    NoCertificate,
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error("the identity's certificate does not say who it is for: {0}")]
    Id(#[from] IdError),
    #[error("the identity's certificate is for `{found}`, expected `{expected}`")]
    OtherId { expected: String, found: String },
    #[error("the identity's certificate and key cannot be used together: {0}")]
    Key(#[source] rustls::Error),
}

impl Generation {
    /// Of a chain (the leaf first), the leaf's key and the mesh's roots. The leaf must be for `id` and nobody else; whether it is valid now, and under one of the
    /// roots, is for those to judge who are shown it.
    pub fn new(
        number: u64,
        id: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Generation, GenerationError> {
        let leaf = chain.first().ok_or(GenerationError::NoCertificate)?;
        let found = verify::id_of(leaf)?;
        if found.as_str() != id {
            return Err(GenerationError::OtherId {
                expected: id.to_owned(),
                found: found.to_string(),
            });
        }
        let roots = Arc::new(Roots::new(roots)?);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let own = CertifiedKey::from_der(chain, key, &provider).map_err(GenerationError::Key)?;
        let own = Arc::new(SingleCertAndKey::from(own));
        let server = Arc::new(server(&found, &provider, &own, &roots));
        Ok(Generation {
            number,
            id: found.shared(),
            roots,
            provider,
            own,
            server,
        })
    }

    pub fn roots(&self) -> &Arc<Roots> {
        &self.roots
    }

    /// For whoever comes: anybody of the mesh.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For calls to `id`, and to nobody else.
    pub fn client(&self, id: Arc<str>) -> ClientConfig {
        let verifier = ExpectedServer::new(id, self.roots.clone(), &self.provider);
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has the cipher suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.own.clone());
        // A session that is resumed shows no certificate: each connection is judged by itself.
        config.resumption = Resumption::disabled();
        // A name in the clear says nothing to a sidecar.
        config.enable_sni = false;
        config
    }
}

impl fmt::Debug for Generation {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn server(
    id: &SpiffeId,
    provider: &Arc<CryptoProvider>,
    own: &Arc<SingleCertAndKey>,
    roots: &Arc<Roots>,
) -> ServerConfig {
    let verifier = MeshClient::new(id, roots.clone(), provider);
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has the cipher suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(own.clone());
    config.alpn_protocols = Inner::ALL.map(|inner| inner.alpn().to_vec()).into();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, ID};
    use super::*;

    #[test]
    fn a_leaf_its_key_and_a_root_are_an_identity() {
        let generation = Authority::new().generation(7);
        assert_eq!((generation.number, &*generation.id), (7, ID));
        let text = format!("{generation:?}");
        assert!(!text.to_lowercase().contains("key"), "{text}");
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_says_why() {
        let root = Authority::new();
        let new = |ids: &[&str], key: Option<PrivateKeyDer<'static>>, roots: Vec<&[u8]>| {
            let (leaf, own) = root.leaf(ids);
            let roots = roots.iter().map(|root| root.to_vec().into()).collect();
            Generation::new(1, ID, vec![leaf], key.unwrap_or(own), roots)
                .expect_err("it cannot be used")
                .to_string()
        };
        let certificate = root.root();
        let good = certificate.as_ref();
        let (_, foreign) = root.leaf(&[ID]);
        for (text, part) in [
            (new(&[ID], None, vec![]), "without a root"),
            (new(&[ID], None, vec![good, b"x"]), "root 1 of the identity"),
            (new(&[ID], Some(foreign), vec![good]), "used together"),
            (new(&[], None, vec![good]), "0 URI names"),
            (new(&[ID, "spiffe://b/c"], None, vec![good]), "2 URI names"),
            (new(&["https://web"], None, vec![good]), "is no SPIFFE ID"),
            (new(&["spiffe://b"], None, vec![good]), "is no SPIFFE ID"),
            (
                new(&["spiffe://cluster.local/ns/shop/sa/api"], None, vec![good]),
                "for `spiffe://cluster.local/ns/shop/sa/api`, expected `spiffe://cluster.local/ns/shop/sa/web`",
            ),
        ] {
            assert!(text.contains(part), "{text}");
        }
        let (_, key) = root.leaf(&[ID]);
        let nobody = Generation::new(1, ID, vec![], key, vec![root.root()]);
        assert!(matches!(nobody, Err(GenerationError::NoCertificate)));
    }
}
