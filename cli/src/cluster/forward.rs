//! One HTTP request to a port of a pod, through the API server: as `kubectl port-forward` and curl would. It comes from the
//! pod's own loopback, where a pod answers what it tells nobody else.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncWrite};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("no connection to {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("it answers {status}: {text}")]
    Refused { status: u16, text: String },
}

/// GET `path` of this port of a pod.
pub(super) async fn get(
    client: &Client,
    (namespace, pod): (&str, &str),
    port: u16,
    path: &str,
) -> Result<String, ForwardError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forwarded = pods.portforward(pod, &[port]).await?;
    let stream = forwarded.take_stream(port);
    let lost = || std::io::Error::other("the API server forwards nothing");
    let stream = stream.ok_or_else(|| ForwardError::Connect(pod.to_owned(), lost()))?;
    ask(stream, path).await
}

/// The same of an address that can be reached without the API server.
pub(super) async fn get_at(address: &str, path: &str) -> Result<String, ForwardError> {
    let stream = tokio::net::TcpStream::connect(address).await;
    let stream = stream.map_err(|error| ForwardError::Connect(address.to_owned(), error))?;
    ask(stream, path).await
}

async fn ask<S>(stream: S, path: &str) -> Result<String, ForwardError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path)
        .header(http::header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .expect("the path is one of ours");
    let answer = send.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() {
        Ok(text)
    } else {
        Err(ForwardError::Refused {
            status: status.as_u16(),
            text: text.trim().to_owned(),
        })
    }
}
