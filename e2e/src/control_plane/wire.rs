//! The wire between the operator and the API server, which a test can disturb.
//!
//! The operator speaks plain HTTP on loopback to this proxy, with its own token; it passes everything on to the API
//! server, over TLS and as nobody of its own. A [`Matching`] names requests by method, path and body; those are held, or
//! answered with an error that the API server has never seen, until the [`Caught`] is dropped. What names a namespace
//! disturbs nobody else's release.
//!
//! It counts what went through. It does not disturb watches that run already: [`Wire::cut`] does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::harness::NotInTime;

/// Longer than the operator waits before it tries again.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("no port on loopback for the wire")]
    Listen(#[source] std::io::Error),
    #[error("the kubeconfig of the control plane cannot be read")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("the client for the API server cannot be built")]
    Client(#[source] kube::Error),
}

/// Which requests.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    methods: Vec<Method>,
    path: Vec<String>,
    body: Vec<String>,
}

impl Matching {
    /// Every request that changes something.
    pub fn writes() -> Matching {
        Matching {
            methods: vec![Method::POST, Method::PUT, Method::PATCH, Method::DELETE],
            ..Matching::default()
        }
    }

    pub fn any() -> Matching {
        Matching::default()
    }

    pub fn method(method: Method) -> Matching {
        Matching {
            methods: vec![method],
            ..Matching::default()
        }
    }

    /// Whose path, with its query, has this in it; once more for another part.
    #[must_use]
    pub fn path(mut self, part: impl Into<String>) -> Matching {
        self.path.push(part.into());
        self
    }

    /// Whose body has this in it; once more for another part.
    #[must_use]
    pub fn body(mut self, part: impl Into<String>) -> Matching {
        self.body.push(part.into());
        self
    }

    fn matches(&self, method: &Method, path: &str, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(body);
        (self.methods.is_empty() || self.methods.contains(method))
            && self.path.iter().all(|part| path.contains(part.as_str()))
            && self.body.iter().all(|part| text.contains(part.as_str()))
    }
}

#[derive(Clone, Debug)]
enum Fate {
    /// Waits until this is true, and then goes on.
    Held(watch::Receiver<bool>),
    Answered(StatusCode),
    /// The connection ends without an answer.
    Cut,
}

struct Rule {
    matching: Matching,
    fate: Fate,
    caught: watch::Sender<usize>,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<BTreeMap<u64, Rule>>,
    /// What went in, as `METHOD path`.
    seen: Mutex<Vec<String>>,
    /// Connections end when they hear this.
    cut: Notify,
}

impl Shared {
    fn rules<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, Rule>) -> T) -> T {
        work(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn seen<T>(&self, work: impl FnOnce(&mut Vec<String>) -> T) -> T {
        work(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ends when it is dropped.
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// To the API server of this kubeconfig, whose credentials are not used.
    pub async fn start(kubeconfig: &Path) -> Result<Wire, WireError> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.auth_info = kube::config::AuthInfo::default();
        config.read_timeout = None;
        let client = Client::try_from(config).map_err(WireError::Client)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(WireError::Listen)?;
        let address = listener.local_addr().map_err(WireError::Listen)?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(serve(listener, client, Arc::clone(&shared))).abort_handle();
        Ok(Wire {
            address,
            shared,
            task,
        })
    }

    /// What a kubeconfig names as its server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds these requests until the answer is dropped; then they go on.
    pub fn hold(&self, matching: Matching) -> Caught {
        let (release, held) = watch::channel(false);
        self.add(matching, Fate::Held(held), Some(release))
    }

    /// Answers these requests with an error, until the answer is dropped.
    pub fn answer(&self, matching: Matching, status: StatusCode) -> Caught {
        self.add(matching, Fate::Answered(status), None)
    }

    /// These requests get no answer, until the answer is dropped, and every connection that is open now ends.
    pub fn cut(&self, matching: Matching) -> Caught {
        let caught = self.add(matching, Fate::Cut, None);
        self.shared.cut.notify_waiters();
        caught
    }

    /// How many requests went in that match; bodies are not looked at.
    pub fn count(&self, matching: &Matching) -> usize {
        let is = |line: &&String| {
            line.split_once(' ').is_some_and(|(method, path)| {
                Method::from_bytes(method.as_bytes())
                    .is_ok_and(|method| matching.matches(&method, path, b""))
            })
        };
        self.shared.seen(|seen| seen.iter().filter(is).count())
    }

    fn add(&self, matching: Matching, fate: Fate, release: Option<watch::Sender<bool>>) -> Caught {
        let (tell, caught) = watch::channel(0);
        let number = self.shared.rules(|rules| {
            let number = rules.last_key_value().map_or(0, |(last, _)| last + 1);
            let rule = Rule {
                matching,
                fate,
                caught: tell,
            };
            rules.insert(number, rule);
            number
        });
        Caught {
            number,
            shared: Arc::clone(&self.shared),
            caught,
            release,
        }
    }
}

/// A disturbance; it ends when this is dropped.
pub struct Caught {
    number: u64,
    shared: Arc<Shared>,
    caught: watch::Receiver<usize>,
    release: Option<watch::Sender<bool>>,
}

impl Caught {
    pub fn count(&self) -> usize {
        *self.caught.borrow()
    }

    /// Waits until so many requests were caught.
    pub async fn at_least(&self, requests: usize) -> Result<(), NotInTime> {
        let mut caught = self.caught.clone();
        let waiting = tokio::time::timeout(PATIENCE, caught.wait_for(|count| *count >= requests));
        match waiting.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotInTime {
                what: format!("{requests} requests are caught"),
                within: PATIENCE,
                seen: format!("{} requests", self.count()),
            }),
        }
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.shared.rules(|rules| rules.remove(&self.number));
        if let Some(release) = &self.release {
            release.send_replace(true);
        }
    }
}

async fn serve(listener: TcpListener, client: Client, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (client, shared) = (client.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let service = service_fn(|request| pass(request, &client, &shared));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A caller that goes away is no error of ours.
                _ = connection => {}
                () = shared.cut.notified() => {}
            }
        });
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the wire is cut")]
struct IsCut;

async fn pass(
    request: Request<Incoming>,
    client: &Client,
    shared: &Shared,
) -> Result<Response<Body>, IsCut> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.to_string();
    shared.seen(|seen| seen.push(format!("{} {path}", parts.method)));
    let body = body.collect().await.map_err(|_| IsCut)?.to_bytes();
    loop {
        let fate = shared.rules(|rules| {
            let rule = rules
                .values()
                .find(|rule| rule.matching.matches(&parts.method, &path, &body))?;
            rule.caught.send_modify(|count| *count += 1);
            Some(rule.fate.clone())
        });
        match fate {
            None => break,
            Some(Fate::Answered(status)) => return Ok(refusal(status)),
            Some(Fate::Cut) => return Err(IsCut),
            Some(Fate::Held(mut released)) => {
                let _ = released.wait_for(|released| *released).await;
            }
        }
    }
    parts.headers.remove(header::HOST);
    match client
        .send(Request::from_parts(parts, Body::from(body.to_vec())))
        .await
    {
        Ok(mut answer) => {
            for hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
                answer.headers_mut().remove(hop);
            }
            Ok(answer)
        }
        Err(_) => Err(IsCut),
    }
}

/// As the API server words its errors.
fn refusal(status: StatusCode) -> Response<Body> {
    let reason = match status {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::GONE => "Expired",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the test's wire refuses this request", "reason": reason, "code": status.as_u16(),
    });
    let mut answer = Response::new(Body::from(body.to_string().into_bytes()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_matches_by_method_path_and_body() {
        let status = Matching::writes().path("/namespaces/a/").path("/status");
        let path = "/apis/aviary.dev/v1alpha1/namespaces/a/canaryrollouts/web/status";
        assert!(status.matches(&Method::PATCH, path, b""));
        assert!(!status.matches(&Method::GET, path, b""));
        assert!(!status.matches(&Method::PATCH, &path.replace("/a/", "/b/"), b""));
        let gate = Matching::method(Method::PATCH).body("\"paused\":false");
        assert!(gate.matches(&Method::PATCH, "/x", br#"{"spec":{"paused":false}}"#));
        assert!(!gate.matches(&Method::PATCH, "/x", br#"{"spec":{"paused":true}}"#));
    }
}
