//! What the kubelet, Prometheus and people ask the proxy itself, on port 15020:
//!
//! | path | answer |
//! |---|---|
//! | `/live` | 200 while the control thread runs |
//! | `/ready` | 200 when the listeners are bound, and the control plane was reached once and has given the pod its certificate (if it gives any), or [`READY_GRACE`] has passed: a control plane that is away must not keep pods from starting. 503 in a drain |
//! | `/metrics` | OpenMetrics text |
//! | `/config_dump` | from loopback only, since whom the pod calls is nobody else's business. JSON: what it listens on, its identity, routes with the weights that really hold, clusters, revocations, and how it stands with the control plane |
//! | `/probe/tcp/<port>` | 200 if the application takes connections on that port, 503 if not; only for ports of the pod's own `tcpSocket` probes, which the injector rewrites to this |
//! | `/probe/https/<port>/<path>` | what the application answers there by HTTPS, 503 if it does not; only for the pod's own probes, likewise |
//! | `POST /drain` | from loopback only: begins to drain, as SIGTERM does, but without leaving |
//!
//! Any pod reaches the port, so there are only so many connections to it ([`guests`]).

mod guests;
pub mod https;
pub mod probe;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::sleep;
use traffic_core::contract::{HTTPS_PROBE_PATH, TCP_PROBE_PATH};

use crate::data::Data;
use crate::drain::Phase;
use crate::link::LinkState;
use crate::metrics::Metrics;
use guests::Guests;
use https::{HttpsProbeError, HttpsProbes};
use probe::{ProbeError, TcpProbes};

/// How long a proxy that never reached the control plane, or got no certificate, holds its pod back.
pub const READY_GRACE: Duration = Duration::from_secs(5);

/// What the answers are made of.
pub struct Admin {
    pub data: Arc<Data>,
    pub metrics: Arc<Metrics>,
    pub link: Arc<LinkState>,
    pub phase: watch::Sender<Phase>,
    pub tcp_probes: TcpProbes,
    pub https_probes: HttpsProbes,
}

/// The two ends of a connection.
#[derive(Clone, Copy)]
struct Ends {
    peer: IpAddr,
    own: SocketAddr,
}

/// Answers until the runtime ends.
pub async fn serve(listener: StdListener, admin: Arc<Admin>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot serve health and metrics");
            return;
        }
    };
    let mut guests = Guests::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for health and metrics");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(own) = stream.local_addr() else {
            continue;
        };
        let peer = peer.ip().to_canonical();
        let own = SocketAddr::new(own.ip().to_canonical(), own.port());
        let (admin, ends) = (admin.clone(), Ends { peer, own });
        let connection = spawn_local(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let admin = admin.clone();
                async move {
                    let (head, _) = request.into_parts();
                    Ok::<_, Infallible>(admin.answer(&head, ends).await)
                }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "connection for health and metrics ended");
            }
        });
        guests.enter(peer, connection.abort_handle());
    }
}

impl Admin {
    async fn answer(&self, head: &Parts, ends: Ends) -> Response<Full<Bytes>> {
        let (method, path) = (&head.method, head.uri.path());
        let reads = method == Method::GET || method == Method::HEAD;
        if let Some(port) = path.strip_prefix(TCP_PROBE_PATH).filter(|_| reads) {
            return probed(self.tcp_probes.probe(port, ends.own.ip()).await);
        }
        let whole = head
            .uri
            .path_and_query()
            .map_or(path, |whole| whole.as_str());
        if let Some(asked) = whole.strip_prefix(HTTPS_PROBE_PATH).filter(|_| reads) {
            let asked = self.https_probes.probe(asked, &head.headers, ends.own);
            return asked_by_https(asked.await);
        }
        match path {
            "/live" if reads => text(StatusCode::OK, "live\n"),
            "/ready" if reads => self.ready(),
            "/metrics" if reads => match self.metrics.render() {
                Ok(metrics) => typed(
                    metrics,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                ),
                Err(error) => text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("cannot write metrics: {error}\n"),
                ),
            },
            "/config_dump" if reads && ends.peer.is_loopback() => {
                typed(format!("{:#}\n", self.data.dump()), "application/json")
            }
            "/config_dump" if reads => text(
                StatusCode::FORBIDDEN,
                "only from within the pod: kubectl aviary proxy config, or kubectl port-forward\n",
            ),
            "/drain" if method == Method::POST => self.drain(ends.peer),
            "/live" | "/ready" | "/metrics" | "/config_dump" => {
                text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n")
            }
            "/drain" => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
            _ => text(
                StatusCode::NOT_FOUND,
                "try /live /ready /metrics /config_dump /probe/tcp/<port> /probe/https/<port>/<path>, or POST /drain\n",
            ),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        if *self.phase.borrow() > Phase::Serving {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else if self.link.is_settled() || self.link.age() >= READY_GRACE {
            text(StatusCode::OK, "ready\n")
        } else {
            let waiting = if self.link.was_ever_connected() {
                "waiting for the pod's certificate\n"
            } else {
                "waiting for the control plane\n"
            };
            text(StatusCode::SERVICE_UNAVAILABLE, waiting)
        }
    }

    fn drain(&self, peer: IpAddr) -> Response<Full<Bytes>> {
        if !peer.is_loopback() {
            return text(StatusCode::FORBIDDEN, "only from within the pod\n");
        }
        self.phase.send_if_modified(|phase| {
            let begins = *phase == Phase::Serving;
            if begins {
                *phase = Phase::Draining;
                tracing::info!("draining: asked to by POST /drain");
            }
            begins
        });
        text(StatusCode::OK, "draining\n")
    }
}

fn probed(probed: Result<u16, ProbeError>) -> Response<Full<Bytes>> {
    match probed {
        Ok(port) => text(
            StatusCode::OK,
            format!("the application takes connections on port {port}\n"),
        ),
        Err(error) => {
            let status = match error {
                ProbeError::NoPort(_) | ProbeError::Undeclared(_) => StatusCode::NOT_FOUND,
                ProbeError::Dead(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            text(status, format!("{error}\n"))
        }
    }
}

fn asked_by_https(answer: Result<StatusCode, HttpsProbeError>) -> Response<Full<Bytes>> {
    match answer {
        Ok(status) => text(status, format!("the application answers {status}\n")),
        Err(error) => {
            let status = match error {
                HttpsProbeError::NoProbe(_) | HttpsProbeError::Undeclared(_) => {
                    StatusCode::NOT_FOUND
                }
                HttpsProbeError::Dead(_)
                | HttpsProbeError::Tls(_)
                | HttpsProbeError::Http(_)
                | HttpsProbeError::Late => StatusCode::SERVICE_UNAVAILABLE,
            };
            text(status, format!("{error}\n"))
        }
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

fn typed(body: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
