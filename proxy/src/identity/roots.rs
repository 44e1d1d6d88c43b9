//! Whom the mesh believes.

use std::hash::{Hash, Hasher};

use rustls_pki_types::{CertificateDer, TrustAnchor};

/// The certificate authorities of the mesh. Equal if they are the same certificates, in any order.
#[derive(Debug)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("the identity comes without a root: nobody could be believed")]
    None,
    #[error("root {index} of the identity cannot be read: {source}")]
    Unreadable { index: usize, source: webpki::Error },
}

impl Roots {
    pub fn new(mut certificates: Vec<CertificateDer<'static>>) -> Result<Roots, RootsError> {
        if certificates.is_empty() {
            return Err(RootsError::None);
        }
        let anchor = |(index, certificate)| {
            webpki::anchor_from_trusted_cert(certificate)
                .map(|anchor| anchor.to_owned())
                .map_err(|source| RootsError::Unreadable { index, source })
        };
        let anchors = certificates.iter().enumerate().map(anchor);
        let anchors = anchors.collect::<Result<_, _>>()?;
        certificates.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        certificates.dedup();
        Ok(Roots {
            certificates,
            anchors,
        })
    }

    pub fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Roots) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Roots {}

impl Hash for Roots {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.certificates.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_the_same_in_any_order() {
        let root = || {
            let root = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
            root.cert.der().clone()
        };
        let (one, other) = (root(), root());
        let roots = |all: &[&CertificateDer<'static>]| {
            Roots::new(all.iter().map(|each| (*each).clone()).collect()).unwrap()
        };
        assert_eq!(roots(&[&one, &other]), roots(&[&other, &one, &one]));
        assert_ne!(roots(&[&one]), roots(&[&one, &other]));
    }
}
