//! Probes by HTTPS, asked for the kubelet: the sidecar cannot read TLS of the application's own, so it could not tell such a probe from anybody else's
//! connection where callers must show who they are. The kubelet asks it in the clear, as it asks for `tcpSocket`, and it asks the application as the kubelet
//! would: by HTTP/1.1, with the same fields, and whatever certificate is shown.
//!
//! Only ports and paths of the pod's own probes are asked for. A redirect is an answer like others, and is not followed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use traffic_core::contract::HTTPS_PROBE_PATH;
use traffic_core::inbound::{InvalidProbe, Probe};

use crate::net::connect::{ConnectError, Path, connect};

/// How long the application may take to take a connection. Within the pod it takes no time, or does not listen.
const CONNECT: Duration = Duration::from_secs(2);
/// How long it may take to answer: longer than the kubelet waits, which hangs up.
const ANSWER: Duration = Duration::from_secs(60);

/// What may be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpsProbes(Vec<Probe>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsProbeError {
    #[error("{0}: the path is {HTTPS_PROBE_PATH}8443/healthz for port 8443 and /healthz")]
    NoProbe(#[from] InvalidProbe),
    #[error("no probe of this pod asks for {0} by HTTPS: only such are asked for")]
    Undeclared(Probe),
    #[error(transparent)]
    Dead(#[from] ConnectError),
    #[error("no TLS with the application: {0}")]
    Tls(#[source] io::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {ANSWER:?}")]
    Late,
}

impl FromIterator<Probe> for HttpsProbes {
    fn from_iter<I: IntoIterator<Item = Probe>>(probes: I) -> HttpsProbes {
        HttpsProbes(probes.into_iter().collect())
    }
}

impl HttpsProbes {
    /// What the application answers. `asked`: what is behind [`HTTPS_PROBE_PATH`]; `own`: where the proxy was asked.
    pub(super) async fn probe(
        &self,
        asked: &str,
        fields: &HeaderMap,
        own: SocketAddr,
    ) -> Result<StatusCode, HttpsProbeError> {
        let probe: Probe = asked.parse()?;
        if !self.0.contains(&probe) {
            return Err(HttpsProbeError::Undeclared(probe));
        }
        let answer = timeout(ANSWER, ask(&probe, fields, own)).await;
        answer.unwrap_or(Err(HttpsProbeError::Late))
    }
}

async fn ask(
    probe: &Probe,
    fields: &HeaderMap,
    own: SocketAddr,
) -> Result<StatusCode, HttpsProbeError> {
    let application = SocketAddr::new(own.ip(), probe.port());
    // The proxy's own connections within the pod are not redirected.
    let tcp = connect(application, Path::Direct, CONNECT).await?;
    let tls = tls().connect(ServerName::from(own.ip()), tcp).await;
    let tls = tls.map_err(HttpsProbeError::Tls)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
    let connection = spawn_local(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = probe.path().parse().unwrap_or_default();
    *request.headers_mut() = passed_on(fields, own, application);
    let answer = sender.send_request(request).await;
    connection.abort();
    Ok(answer?.status())
}

/// For one probe: most pods have none, and nobody keeps it for them.
fn tls() -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Whoever(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the cipher suites of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// The fields of the kubelet's request as they would have come to the application.
fn passed_on(fields: &HeaderMap, own: SocketAddr, application: SocketAddr) -> HeaderMap {
    let mut fields = fields.clone();
    for of_the_connection in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        fields.remove(of_the_connection);
    }
    // Who names no host is told the proxy's, where the probe was led.
    let is_named = |host: &HeaderValue| host.as_bytes() != own.to_string().as_bytes();
    if !fields.get(HOST).is_some_and(is_named)
        && let Ok(host) = HeaderValue::from_str(&application.to_string())
    {
        fields.insert(HOST, host);
    }
    fields
}

/// The kubelet looks at no certificate either.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_is_told_what_the_kubelet_would_tell_it() {
        let (own, application) = (
            "10.1.0.7:15020".parse().unwrap(),
            "10.1.0.7:8443".parse().unwrap(),
        );
        let mut fields = HeaderMap::new();
        let host = |fields: &HeaderMap| passed_on(fields, own, application)[HOST].clone();
        assert_eq!(host(&fields), "10.1.0.7:8443");
        fields.insert(HOST, "10.1.0.7:15020".parse().unwrap());
        fields.insert(CONNECTION, "close".parse().unwrap());
        fields.insert("x-probe", "yes".parse().unwrap());
        assert_eq!(host(&fields), "10.1.0.7:8443");
        fields.insert(HOST, "web.example".parse().unwrap());
        let passed = passed_on(&fields, own, application);
        assert_eq!(
            (passed[HOST].as_bytes(), passed.len()),
            (&b"web.example"[..], 2)
        );
    }

    #[tokio::test]
    async fn only_what_is_declared_is_asked_for() {
        let probes = HttpsProbes(vec!["8443/healthz".parse().unwrap()]);
        let own = "127.0.0.1:15020".parse().unwrap();
        let refused = async |asked: &str| {
            let headers = HeaderMap::new();
            let asked = probes.probe(asked, &headers, own);
            asked.await.unwrap_err().to_string()
        };
        for other in ["8443/", "8443/healthz?x", "8444/healthz", "8443"] {
            let error = refused(other).await;
            assert!(error.contains("no probe of this pod asks for"), "{error}");
        }
        let error = refused("healthz").await;
        assert!(error.contains("/probe/https/8443/healthz"), "{error}");
    }
}
