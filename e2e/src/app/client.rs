//! The caller: a fixed number of requests a second over HTTP/1.1 (keep-alive, GET and POST) and gRPC, and beside them long streams of gRPC, each
//! followed by the next.
//!
//! A request is never sent twice and never waits for another one; what the connection did is what is counted.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Connection, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use crate::app::VERSION_HEADER;
use crate::app::faults::Share;
use crate::app::grpc;
use crate::app::serve::{Answer, serve};
use crate::app::stats::{Ended, Failure, Kind, Stats};

/// Connections (or small pools of them) of each protocol, used in turn.
const CONNECTIONS: usize = 4;

#[derive(Clone, Debug)]
pub struct Settings {
    pub target: Uri,
    /// Requests a second.
    pub rate: u32,
    pub grpc: Share,
    /// Long streams at once.
    pub streams: u32,
    pub timeout: Duration,
}

/// Of a long stream, which takes three seconds by itself.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Caller {
    settings: Settings,
    http1: Vec<Connection<HttpConnector, Full<Bytes>>>,
    http2: Vec<Connection<HttpConnector, Full<Bytes>>>,
    stats: Mutex<Stats>,
}

impl Caller {
    pub fn new(settings: Settings) -> Caller {
        let mut http = Connection::builder(TokioExecutor::new());
        http.pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .retry_canceled_requests(false);
        let connections = |http: &hyper_util::client::legacy::Builder| {
            (0..CONNECTIONS)
                .map(|_| {
                    let mut connector = HttpConnector::new();
                    connector.set_nodelay(true);
                    http.build(connector)
                })
                .collect()
        };
        let http1 = connections(&http);
        let http2 = connections(http.http2_only(true));
        Caller {
            settings,
            http1,
            http2,
            stats: Mutex::default(),
        }
    }

    /// Sends until `stop`, and shows what it saw on `listener`.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let caller = Arc::new(self);
        let shown = Arc::clone(&caller);
        let answer = move |request: Request<Incoming>| {
            let answer = shown.show(request.uri().path());
            async move { answer }
        };
        for stream in 0..caller.settings.streams {
            let caller = Arc::clone(&caller);
            tokio::spawn(async move {
                loop {
                    caller.send(Kind::Stream, stream.into()).await;
                    tokio::time::sleep(grpc::PAUSE).await;
                }
            });
        }
        tokio::select! {
            () = caller.send_for_ever() => {}
            () = serve(listener, answer, stop, Duration::ZERO) => {}
        }
    }

    /// Sends one request, and never another one. Who answered, or what was wrong.
    pub async fn ask(&self) -> Result<String, String> {
        let asked = tokio::time::timeout(self.settings.timeout, self.call(Kind::Get, 0));
        match asked.await {
            Ok((Some(version), None)) => Ok(version),
            Ok((_, failure)) => Err(format!("{failure:?}")),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    pub fn stats(&self) -> Stats {
        let mut stats = self
            .stats
            .lock()
            .expect("nothing panics while it counts")
            .clone();
        stats.now = now();
        stats
    }

    fn show(&self, path: &str) -> Answer {
        let (status, body) = match path {
            "/stats" => match serde_json::to_vec(&self.stats()) {
                Ok(json) => (StatusCode::OK, json),
                Err(why) => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    why.to_string().into_bytes(),
                ),
            },
            "/healthz" => (StatusCode::OK, b"ok\n".to_vec()),
            _ => (
                StatusCode::NOT_FOUND,
                b"there are /stats and /healthz\n".to_vec(),
            ),
        };
        let mut answer = Response::new(Full::from(body).boxed());
        *answer.status_mut() = status;
        answer
    }

    async fn send_for_ever(self: &Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / self.settings.rate.max(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for n in 0_u64.. {
            tick.tick().await;
            let caller = Arc::clone(self);
            let kind = kind(self.settings.grpc, n);
            tokio::spawn(async move { caller.send(kind, n).await });
        }
    }

    async fn send(&self, kind: Kind, n: u64) {
        let sent = now();
        self.count(|stats| stats.note_sent(kind, sent));
        let timeout = match kind {
            Kind::Get | Kind::Post | Kind::Grpc => self.settings.timeout,
            Kind::Stream => STREAM_TIMEOUT,
        };
        let (version, failure) = match tokio::time::timeout(timeout, self.call(kind, n)).await {
            Ok((version, failure)) => (version, failure),
            Err(_) => (None, Some(Failure::Timeout)),
        };
        self.count(|stats| {
            stats.note_ended(Ended {
                kind,
                sent,
                ended: now(),
                version,
                failure,
            })
        });
    }

    fn count(&self, note: impl FnOnce(&mut Stats)) {
        note(&mut self.stats.lock().expect("nothing panics while it counts"));
    }

    /// Who answered, and what was wrong.
    async fn call(&self, kind: Kind, n: u64) -> (Option<String>, Option<Failure>) {
        let pool = match kind {
            Kind::Get | Kind::Post => &self.http1,
            Kind::Grpc | Kind::Stream => &self.http2,
        };
        let turn = usize::try_from(n % CONNECTIONS as u64).expect("a small number");
        let answer = match pool[turn]
            .request(request(&self.settings.target, kind, n))
            .await
        {
            Ok(answer) => answer,
            Err(why) => return (None, Some(broken(&why))),
        };
        let (head, body) = answer.into_parts();
        let version = head
            .headers
            .get(VERSION_HEADER)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let body = match body.collect().await {
            Ok(body) => body,
            Err(why) => return (version, Some(Failure::Reset(chain(&why)))),
        };
        let failure = match kind {
            _ if !head.status.is_success() => Some(Failure::Status(head.status.as_u16())),
            Kind::Get | Kind::Post => None,
            Kind::Grpc => grpc_failure(&head.headers, body.trailers()),
            Kind::Stream => {
                let failure = grpc_failure(&head.headers, body.trailers());
                failure.or_else(|| {
                    let count = grpc::frames(&body.to_bytes());
                    let torn = || Failure::Reset(format!("{count:?} messages of a stream"));
                    (count != Some(grpc::RECEIPTS)).then(torn)
                })
            }
        };
        (version, failure)
    }
}

/// The gRPC share is interleaved; GET and POST take turns in what is left.
fn kind(grpc: Share, n: u64) -> Kind {
    if grpc.takes(n) {
        Kind::Grpc
    } else if n.is_multiple_of(2) {
        Kind::Get
    } else {
        Kind::Post
    }
}

fn request(target: &Uri, kind: Kind, n: u64) -> Request<Full<Bytes>> {
    let (method, path, body) = match kind {
        Kind::Get => (Method::GET, "/pay", Bytes::new()),
        Kind::Post => (
            Method::POST,
            "/pay",
            Bytes::from(format!("{{\"order\":{n},\"amount\":\"12.50 EUR\"}}")),
        ),
        Kind::Grpc => (Method::POST, grpc::METHOD, order(n)),
        Kind::Stream => (Method::POST, grpc::WATCH, order(n)),
    };
    let mut uri = target.clone().into_parts();
    uri.path_and_query = Some(PathAndQuery::from_static(path));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() =
        Uri::from_parts(uri).expect("a target with scheme and authority, and a path");
    match kind {
        Kind::Get => {}
        Kind::Post => {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Kind::Grpc | Kind::Stream => {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
            request
                .headers_mut()
                .insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    request
}

/// Field 1, a varint: the order's number, cut to seven bits.
fn order(n: u64) -> Bytes {
    grpc::frame(&[0x08, (n & 0x7f) as u8])
}

fn grpc_failure(headers: &http::HeaderMap, trailers: Option<&http::HeaderMap>) -> Option<Failure> {
    match grpc::status_of(headers, trailers) {
        Some(grpc::OK) => None,
        Some(code) => Some(Failure::Grpc(code.to_owned())),
        // An answer that lost its trailers is a broken one.
        None => Some(Failure::Reset(
            "the answer ended without a grpc-status".to_owned(),
        )),
    }
}

fn broken(why: &Error) -> Failure {
    if why.is_connect() {
        Failure::Connect(chain(why))
    } else {
        Failure::Reset(chain(why))
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text.push_str(": ");
        text.push_str(&why.to_string());
        cause = why.source();
    }
    text
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_requests_are_interleaved_in_their_shares() {
        let grpc: Share = "20%".parse().unwrap();
        let kinds: Vec<Kind> = (0..100).map(|n| kind(grpc, n)).collect();
        let count = |kind| kinds.iter().filter(|k| **k == kind).count();
        assert_eq!(count(Kind::Grpc), 20);
        assert!(
            (38..=42).contains(&count(Kind::Get)),
            "{}",
            count(Kind::Get)
        );
    }

    #[test]
    fn an_answer_without_a_grpc_status_is_a_broken_one() {
        let none = http::HeaderMap::new();
        assert!(matches!(grpc_failure(&none, None), Some(Failure::Reset(_))));
        assert_eq!(grpc_failure(&none, Some(&grpc::status(grpc::OK))), None);
        assert_eq!(
            grpc_failure(&grpc::status("14"), None),
            Some(Failure::Grpc("14".to_owned()))
        );
    }
}
