//! Somebody who speaks mutual TLS as a sidecar does, with whatever certificate: what a pod shows, and whom it answers.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use webpki::{EndEntityCert, KeyUsage};

const PORT: u16 = 8080;
/// What is spoken inside, as the mesh's sidecars name it.
const HTTP1: &[u8] = b"aviary/h1";
const PATIENCE: Duration = Duration::from_secs(10);

/// Of a certificate: SHA-256.
pub(crate) type Fingerprint = Vec<u8>;

/// What a pod shows.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub fingerprint: Fingerprint,
    der: CertificateDer<'static>,
}

/// A root that signs for sidecars.
pub(crate) struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Authority> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = "Another root of workloads";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Authority::of(&pem, &key.serialize_pem())
    }

    pub(crate) fn of(certificate: &str, key: &str) -> anyhow::Result<Authority> {
        Ok(Authority {
            pem: certificate.to_owned(),
            der: CertificateDer::from_pem_slice(certificate.as_bytes())?,
            issuer: Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?,
        })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The sidecar of a ServiceAccount.
    pub(crate) fn sidecar(&self, service_account: &str) -> anyhow::Result<Sidecar> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let id = format!("spiffe://cluster.local/ns/elsewhere/sa/{service_account}");
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let (config, _) = config(Some((leaf, key)))?;
        Ok(Sidecar(config))
    }

    pub(crate) fn has_signed(&self, leaf: &Leaf) -> bool {
        let verified = || {
            let anchors = [webpki::anchor_from_trusted_cert(&self.der)?];
            let leaf = EndEntityCert::try_from(&leaf.der)?;
            let all = aws_lc_rs::default_provider().signature_verification_algorithms;
            let (now, usage) = (UnixTime::now(), KeyUsage::server_auth());
            leaf.verify_for_usage(all.all, &anchors, &[], now, usage, None, None)?;
            Ok::<_, webpki::Error>(())
        };
        verified().is_ok()
    }
}

pub(crate) struct Sidecar(Arc<ClientConfig>);

impl Sidecar {
    /// Asks the application of a pod; an error: its sidecar does not let it.
    pub(crate) async fn ask(&self, pod: Ipv4Addr) -> anyhow::Result<()> {
        let asked = async {
            let mut tls = connect(pod, self.0.clone()).await?;
            let request =
                format!("GET /healthz HTTP/1.1\r\nhost: {pod}\r\nconnection: close\r\n\r\n");
            tls.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            tls.read_to_string(&mut answer).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(())
        };
        timeout(PATIENCE, asked).await?
    }
}

/// The certificate that a pod shows to whoever asks.
pub(crate) async fn shown_by(pod: Ipv4Addr) -> anyhow::Result<Leaf> {
    let (config, shown) = config(None)?;
    let tls = timeout(PATIENCE, connect(pod, config)).await??;
    drop(tls);
    let shown = { shown.lock().expect("nothing panics while it looks").take() };
    let der = shown.context("it has shown nothing")?;
    Ok(Leaf {
        fingerprint: Sha256::digest(&der).to_vec(),
        der,
    })
}

async fn connect(
    pod: Ipv4Addr,
    config: Arc<ClientConfig>,
) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect((pod, PORT)).await?;
    let name = ServerName::IpAddress(std::net::IpAddr::from(pod).into());
    Ok(TlsConnector::from(config).connect(name, tcp).await?)
}

type Shown = Arc<Mutex<Option<CertificateDer<'static>>>>;

fn config(
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> anyhow::Result<(Arc<ClientConfig>, Shown)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let shown = Shown::default();
    let anybody = Anybody {
        provider: provider.clone(),
        shown: shown.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody));
    let mut config = match own {
        Some((leaf, key)) => config.with_client_auth_cert(vec![leaf], key)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Ok((Arc::new(config), shown))
}

/// Believes everybody, and keeps what it was shown.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
    shown: Shown,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut shown = self.shown.lock().expect("nothing panics while it looks");
        *shown = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
