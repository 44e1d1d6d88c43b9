//! Where hooks of a test's namespace lead: a server of this process, that answers as the test says and keeps what it heard.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// What becomes of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    /// Nothing, for as long as the caller waits.
    Hang,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Heard {
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub body: Value,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap_or_default())
    }
}

#[derive(Default)]
struct Calls {
    reply: BTreeMap<String, Reply>,
    heard: BTreeMap<String, Vec<Heard>>,
}

/// Ends when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    calls: Arc<Mutex<Calls>>,
    server: AbortHandle,
}

impl Receiver {
    pub async fn start() -> io::Result<Receiver> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let calls = Arc::default();
        let server = tokio::spawn(serve(listener, Arc::clone(&calls))).abort_handle();
        Ok(Receiver {
            address,
            calls,
            server,
        })
    }

    /// As `--hook-allow` takes it.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where hooks of this namespace lead. Each answers 204 until somebody says something else.
    pub fn url(&self, namespace: &str, hook: &str) -> String {
        format!("http://{}/{namespace}/{hook}", self.address)
    }

    pub fn reply(&self, namespace: &str, hook: &str, reply: Reply) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.reply.insert(format!("/{namespace}/{hook}"), reply);
    }

    /// What was heard, oldest first.
    pub fn heard(&self, namespace: &str, hook: &str) -> Vec<Heard> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = calls.heard.get(&format!("/{namespace}/{hook}"));
        heard.cloned().unwrap_or_default()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, calls: Arc<Mutex<Calls>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &calls));
            // A caller that leaves is no trouble of ours.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    calls: &Mutex<Calls>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes());
    let bytes = bytes.unwrap_or_default();
    let path = head.uri.path().to_owned();
    let reply = {
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        calls.heard.entry(path.clone()).or_default().push(Heard {
            headers: head.headers,
            bytes,
            body,
        });
        calls.reply.get(&path).copied()
    };
    let status = match reply {
        None => StatusCode::NO_CONTENT,
        Some(Reply::Status(status)) => StatusCode::from_u16(status).unwrap_or_default(),
        Some(Reply::Hang) => std::future::pending().await,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}
