//! A connection to the control plane: TLS with the roots that the pod was given, and the pod's own token, read anew each time.
//!
//! Each attempt makes a new channel and one stream of configuration on it, beside which outcomes may be told on another one. tonic's own TLS and reconnection are not used: neither says why it
//! failed, and a channel that reconnects behind our back would lose the subscriptions.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aviary_xds::grpc::Client;
use aviary_xds::identity::{self, SignRequest, Signed};
use aviary_xds::{Request as XdsRequest, Response as XdsResponse, load};
use futures::Stream;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::failure::Failure;
use crate::control::ControlPlane;

/// For the connection, the handshake and the first answer together.
const PATIENCE: Duration = Duration::from_secs(10);
/// A control plane that answers no ping for this long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// tonic's own limit of 4 MiB is a few thousand endpoints.
const LARGEST_MESSAGE: usize = 64 << 20;

/// The control plane's address or roots are of no use: nothing will mend that while the process runs.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("the control plane's address `{0}` is no https://<host>:<port>")]
    NotHttps(String),
    #[error("the control plane's host `{0}` is neither a DNS name nor an IP address")]
    Host(String),
    #[error(
        "no root certificates for the control plane: the injector gives them to every pod; restart the pod to have it injected anew"
    )]
    NoRoots,
    #[error("the root certificates for the control plane cannot be used: {0}")]
    Roots(String),
}

pub(super) struct Connector {
    endpoint: Endpoint,
    dialer: Dialer,
    token_file: PathBuf,
}

#[derive(Clone)]
struct Dialer {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(control_plane: &ControlPlane) -> Result<Connector, AddressError> {
        let address = &control_plane.address;
        let not_https = || AddressError::NotHttps(address.clone());
        let uri: Uri = address.parse().map_err(|_| not_https())?;
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(not_https());
        };
        let port = uri.port_u16().unwrap_or(443);
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name =
            ServerName::try_from(host.clone()).map_err(|_| AddressError::Host(host.clone()))?;
        let roots = control_plane
            .root_certs
            .as_deref()
            .ok_or(AddressError::NoRoots)?;
        let tls = TlsConnector::from(Arc::new(tls_config(trusted(roots)?)));
        // tonic refuses `https` when it does not do the TLS itself.
        let authority = uri.authority().ok_or_else(not_https)?;
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|_| not_https())?
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let dialer = Dialer {
            host,
            port,
            name,
            tls,
        };
        Ok(Connector {
            endpoint,
            dialer,
            token_file: control_plane.token_file.clone(),
        })
    }

    /// Opens a connection, and on it a stream of configuration that carries `requests`.
    pub(super) async fn open(
        &self,
        requests: UnboundedReceiver<XdsRequest>,
    ) -> Result<(Channel, Streaming<XdsResponse>), Failure> {
        let opened = async {
            let request = self.request(UnboundedReceiverStream::new(requests)).await?;
            let dialer = self.dialer.clone();
            let connect = tower::service_fn(move |_: Uri| dialer.clone().dial());
            let channel = self.endpoint.connect_with_connector(connect).await?;
            let mut client =
                Client::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
            let responses = client.delta_aggregated_resources(request).await?;
            Ok((channel, responses.into_inner()))
        };
        patiently(opened).await
    }

    /// Opens a stream of outcomes that carries `reports`, and waits for the control plane's word how often it wants them.
    pub(super) async fn open_reports(
        &self,
        channel: Channel,
        reports: impl Stream<Item = load::Request> + Send + 'static,
    ) -> Result<(load::Response, Streaming<load::Response>), Failure> {
        let opened = async {
            let request = self.request(reports).await?;
            let mut client = load::grpc::Client::new(channel);
            let mut responses = client.stream_load_stats(request).await?.into_inner();
            let first = responses.message().await?.ok_or(Failure::Ended)?;
            Ok((first, responses))
        };
        patiently(opened).await
    }

    /// Has a request for a certificate (PKCS #10, DER) signed for this pod.
    pub(super) async fn sign(&self, channel: Channel, csr: Vec<u8>) -> Result<Signed, Failure> {
        let signed = async {
            let request = self.request(SignRequest { csr }).await?;
            let mut client = identity::grpc::Client::new(channel);
            let answer = client.sign(request).await?;
            Ok(identity::decode(answer.into_inner())?)
        };
        patiently(signed).await
    }

    /// A request in this pod's name.
    async fn request<T>(&self, message: T) -> Result<Request<T>, Failure> {
        let path = || self.token_file.clone();
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map_err(|source| Failure::Token {
                path: path(),
                source,
            })?;
        let mut bearer: MetadataValue<_> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| Failure::NotAToken(path()))?;
        bearer.set_sensitive(true);
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }
}

async fn patiently<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or(Err(Failure::Timeout(PATIENCE)))
}

impl Dialer {
    async fn dial(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let tcp = TcpStream::connect((self.host, self.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(TokioIo::new(self.tls.connect(self.name, tcp).await?))
    }
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dialer.host, self.dialer.port)
    }
}

fn trusted(roots_pem: &str) -> Result<RootCertStore, AddressError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| AddressError::Roots(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| AddressError::Roots(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(AddressError::Roots(
            "there is no certificate in them".to_owned(),
        ));
    }
    Ok(roots)
}

fn tls_config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has the cipher suites of TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn refused(address: &str, roots: Option<&str>) -> String {
        let control_plane = ControlPlane {
            address: address.to_owned(),
            root_certs: roots.map(str::to_owned),
            token_file: PathBuf::new(),
            pod_name: "web-1".to_owned(),
            pod_namespace: "shop".to_owned(),
            pod_ip: None,
        };
        let connector = Connector::new(&control_plane);
        connector
            .map(|_| ())
            .expect_err("the address or the roots are bad")
            .to_string()
    }

    /// What the log says when nobody listens at the address.
    async fn failure(token_file: PathBuf) -> String {
        let unused = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let connector = Connector {
            endpoint: Endpoint::from_shared(format!("http://{unused}")).unwrap(),
            dialer: Dialer {
                host: "127.0.0.1".to_owned(),
                port: unused.port(),
                name: ServerName::try_from("localhost").unwrap(),
                tls: TlsConnector::from(Arc::new(tls_config(RootCertStore::empty()))),
            },
            token_file,
        };
        let (_, requests) = tokio::sync::mpsc::unbounded_channel();
        connector
            .open(requests)
            .await
            .map(|_| ())
            .unwrap_err()
            .to_string()
    }

    #[tokio::test]
    async fn a_missing_token_is_named_with_where_it_should_come_from() {
        let text = failure(PathBuf::from("/nowhere/token")).await;
        assert!(
            text.starts_with("the ServiceAccount token /nowhere/token cannot be read"),
            "{text}"
        );
        assert!(
            text.ends_with("does the pod have the volume that the injector adds?"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_control_plane_that_is_away_is_told_by_the_innermost_cause() {
        let token_file =
            std::env::temp_dir().join(format!("aviary-connect-{}", std::process::id()));
        std::fs::write(&token_file, "token").unwrap();
        let text = failure(token_file.clone()).await;
        std::fs::remove_file(token_file).unwrap();
        assert!(
            text.starts_with("it cannot be reached: Connection refused"),
            "{text}"
        );
    }

    #[test]
    fn an_address_that_is_not_https_is_refused_with_the_form_it_should_have() {
        for address in [
            "aviary-xds:15010",
            "http://aviary-xds:15010",
            "https://",
            "not an address",
        ] {
            let text = refused(address, Some(""));
            assert_eq!(
                text,
                format!("the control plane's address `{address}` is no https://<host>:<port>")
            );
        }
    }

    #[test]
    fn roots_that_are_missing_empty_or_garbled_are_refused() {
        let address = "https://aviary-xds.aviary-system.svc:15010";
        assert!(refused(address, None).starts_with("no root certificates"));
        assert!(refused(address, Some("")).ends_with("there is no certificate in them"));
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(address, Some(garbled)).contains("cannot be used"));
    }
}
