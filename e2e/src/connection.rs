//! A sidecar's connection to the operator, with the token of its pod.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// The operator's certificate names its Services.
const SERVER_NAME: &str = "aviary-operator.aviary-system.svc";

#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("the API server does not answer")]
    Kubernetes(#[from] kube::Error),
    #[error("the Secret aviary-ca has no certificate")]
    NoRoot,
    #[error("the certificate in the Secret aviary-ca is of no use")]
    Root(#[source] rustls::Error),
    #[error("the operator does not take the connection")]
    Dial(#[from] tonic::transport::Error),
    #[error("the token is no header")]
    Token,
}

/// The connection of one pod.
pub struct Connection {
    channel: Channel,
    token: String,
}

impl Connection {
    /// Of this pod, to the operator whose xDS server is at this port of loopback.
    pub async fn of(client: &Client, port: u16, pod: &Pod) -> Result<Connection, ConnectionError> {
        let tls = TlsConnector::from(trusting(client).await?);
        let accounts = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        Ok(Connection {
            channel: dial(tls, port).await?,
            token: token(&accounts, pod).await?,
        })
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A message in the pod's name.
    pub fn signed<T>(&self, body: T) -> Result<tonic::Request<T>, ConnectionError> {
        signed(&self.token, body)
    }
}

pub(crate) fn signed<T>(token: &str, body: T) -> Result<tonic::Request<T>, ConnectionError> {
    let mut request = tonic::Request::new(body);
    let bearer = format!("Bearer {token}")
        .parse()
        .map_err(|_| ConnectionError::Token)?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

pub(crate) async fn dial(tls: TlsConnector, port: u16) -> Result<Channel, ConnectionError> {
    dial_from(Ipv4Addr::UNSPECIFIED, tls, port).await
}

/// From an address of loopback.
pub(crate) async fn dial_from(
    address: Ipv4Addr,
    tls: TlsConnector,
    port: u16,
) -> Result<Channel, ConnectionError> {
    let dial = tower::service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind((address, 0).into())?;
            let tcp = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(SERVER_NAME).map_err(std::io::Error::other)?;
            std::io::Result::Ok(TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    Ok(endpoint.connect_with_connector(dial).await?)
}

pub(crate) async fn trusting(client: &Client) -> Result<Arc<ClientConfig>, ConnectionError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "aviary-system");
    let secret = secrets.get("aviary-ca").await?;
    let pem = secret
        .data
        .unwrap_or_default()
        .remove("tls.crt")
        .ok_or(ConnectionError::NoRoot)?;
    let root = CertificateDer::from_pem_slice(&pem.0).map_err(|_| ConnectionError::NoRoot)?;
    let mut roots = RootCertStore::empty();
    roots.add(root).map_err(ConnectionError::Root)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConnectionError::Root)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// As it is projected into the pod.
pub(crate) async fn token(accounts: &Api<ServiceAccount>, pod: &Pod) -> kube::Result<String> {
    let bound =
        json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()});
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["aviary"], "boundObjectRef": bound},
    });
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref());
    let made: TokenRequest = accounts
        .create_subresource(
            "token",
            account.unwrap_or("default"),
            &PostParams::default(),
            &request,
        )
        .await?;
    let token = made.status.and_then(|status| status.token);
    Ok(token.unwrap_or_default())
}
