//! Who may speak to whom: the checks of a peer's certificate in a handshake of mutual TLS.
//!
//! A chain must lead to one of the mesh's roots, be valid now and be meant for this use; and the leaf must carry exactly one URI name, the identity (the SPIFFE
//! X.509-SVID says so, 2 and 5.2). Other names are not looked at. Nothing is revoked: certificates are short-lived.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use traffic_core::spiffe::{InvalidId, SpiffeId};
use webpki::{EndEntityCert, KeyUsage};

use super::roots::Roots;

/// A leaf that does not say who it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("it cannot be read: {0}")]
    Unreadable(webpki::Error),
    #[error("it has {0} URI names, an identity is exactly one")]
    Names(usize),
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// Somebody else than the one who was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint is `{found}`, expected `{expected}`")]
pub struct OtherPeer {
    pub expected: Arc<str>,
    pub found: Arc<str>,
}

/// Who calls is of an installation that is not ours, though somebody whom we trust has signed for both.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller is `{found}`, which is not of this mesh's trust domain `{expected}`")]
pub struct OtherDomain {
    pub expected: Box<str>,
    pub found: Arc<str>,
}

/// The identity that a leaf carries.
pub fn id_of(leaf: &CertificateDer<'_>) -> Result<SpiffeId, IdError> {
    let leaf = EndEntityCert::try_from(leaf).map_err(IdError::Unreadable)?;
    let mut names = leaf.valid_uri_names();
    match (names.next(), names.count()) {
        (Some(id), 0) => Ok(SpiffeId::parse(id)?),
        (first, others) => Err(IdError::Names(usize::from(first.is_some()) + others)),
    }
}

/// Believes the one server that was expected.
#[derive(Debug)]
pub(super) struct ExpectedServer {
    id: Arc<str>,
    roots: Arc<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ExpectedServer {
    pub(super) fn new(
        id: Arc<str>,
        roots: Arc<Roots>,
        provider: &CryptoProvider,
    ) -> ExpectedServer {
        ExpectedServer {
            id,
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = (end_entity, intermediates, now);
        let found = judge(
            shown,
            &self.roots,
            &self.algorithms,
            KeyUsage::server_auth(),
        )?;
        if *found.as_str() != *self.id {
            let (expected, found) = (self.id.clone(), found.shared());
            return Err(refused(OtherPeer { expected, found }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes any client of the mesh: who may call what is for others to say.
#[derive(Debug)]
pub(super) struct MeshClient {
    /// The trust domain.
    domain: Box<str>,
    roots: Arc<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MeshClient {
    /// `own`: of whoever is called. Roots of the user's own may have signed for others, too.
    pub(super) fn new(own: &SpiffeId, roots: Arc<Roots>, provider: &CryptoProvider) -> MeshClient {
        MeshClient {
            domain: own.trust_domain().into(),
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for MeshClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let shown = (end_entity, intermediates, now);
        let found = judge(
            shown,
            &self.roots,
            &self.algorithms,
            KeyUsage::client_auth(),
        )?;
        if found.trust_domain() != &*self.domain {
            let (expected, found) = (self.domain.clone(), found.shared());
            return Err(refused(OtherDomain { expected, found }));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whose this chain is, if it is the mesh's.
fn judge(
    (leaf, intermediates, now): (&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime),
    roots: &Roots,
    algorithms: &WebPkiSupportedAlgorithms,
    usage: KeyUsage,
) -> Result<SpiffeId, Error> {
    let parsed = EndEntityCert::try_from(leaf).map_err(unproven)?;
    parsed
        .verify_for_usage(
            algorithms.all,
            roots.anchors(),
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(unproven)?;
    id_of(leaf).map_err(refused)
}

/// What is told to the peer depends on the kind: it should learn whether its certificate is too old or of another root.
fn unproven(error: webpki::Error) -> Error {
    match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired.into(),
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        webpki::Error::BadDer => CertificateError::BadEncoding.into(),
        other => refused(other),
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn only_tls13() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::date_time_ymd;

    use super::*;
    use crate::identity::testing::{Authority, ID};

    /// Whoever cannot renew it goes on with it until then: nobody stops to believe it earlier.
    #[test]
    fn a_certificate_is_believed_to_its_last_second_by_either_end() {
        let authority = Authority::new();
        let end = date_time_ymd(2030, 1, 1);
        let (leaf, _) = authority.leaf_with(&[ID], |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2029, 12, 31), end);
        });
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let roots = Arc::new(Roots::new(vec![authority.root()]).unwrap());
        let server = ExpectedServer::new(ID.into(), roots.clone(), &provider);
        let own = SpiffeId::parse(ID).unwrap();
        let client = MeshClient::new(&own, roots, &provider);
        let name = ServerName::try_from("web").unwrap();
        let end = u64::try_from(end.unix_timestamp()).unwrap();
        for (at, is_believed) in [
            (end - 86_401, false),
            (end - 86_400, true),
            (end - 3600, true),
            (end, true),
            (end + 1, false),
        ] {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
            let called = server.verify_server_cert(&leaf, &[], &name, &[], now);
            assert_eq!(called.is_ok(), is_believed, "{at}");
            let calling = client.verify_client_cert(&leaf, &[], now);
            assert_eq!(calling.is_ok(), is_believed, "{at}");
        }
    }

    #[test]
    fn a_caller_is_of_the_same_trust_domain_whoever_has_signed_for_it() {
        let authority = Authority::new();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let roots = Arc::new(Roots::new(vec![authority.root()]).unwrap());
        let own = SpiffeId::parse(ID).unwrap();
        let client = MeshClient::new(&own, roots, &provider);
        for (id, is_believed) in [
            ("spiffe://cluster.local/ns/other/sa/any", true),
            ("spiffe://other.local/ns/shop/sa/web", false),
            ("spiffe://cluster.local.evil/ns/shop/sa/web", false),
            ("spiffe://evil/cluster.local/ns/shop/sa/web", false),
        ] {
            let (leaf, _) = authority.leaf(&[id]);
            let verified = client.verify_client_cert(&leaf, &[], UnixTime::now());
            assert_eq!(verified.is_ok(), is_believed, "{id}");
        }
    }
}
