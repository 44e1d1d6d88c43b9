//! One generation of this pod's identity: its certificate and key, and the roots that others are judged by. It never changes: a renewal is another one.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What a pod has to show, and whom it believes.
#[derive(Debug)]
pub struct Generation {
    /// Counts renewals.
    pub number: u64,
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    pub id: Arc<str>,
    pub own: CertifiedKey,
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    #[error("the identity's certificate and key cannot be used together: {0}")]
    Key(#[source] rustls::Error),
}

impl Generation {
    /// Of a chain (the leaf first), the leaf's key and the mesh's roots.
    pub fn new(
        number: u64,
        id: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Generation, GenerationError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let own = CertifiedKey::from_der(chain, key, &provider).map_err(GenerationError::Key)?;
        Ok(Generation {
            number,
            id: id.into(),
            own,
            roots,
        })
    }
}
