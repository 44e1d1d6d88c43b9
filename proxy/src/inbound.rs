//! The world calls the application: HTTP is passed on with its outcome and its sender counted, everything else is copied.
//!
//! If the application cannot be reached, nothing of the request was processed, and a calling proxy may send it elsewhere. It is told so:
//! REFUSED_STREAM in HTTP/2, a 503 with a marker header (which no proxy passes on) in HTTP/1.1.
//! Not here: the split for callers outside the mesh, mesh TLS.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use http::header::HeaderValue;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use traffic_core::config::Protocol;
use traffic_core::outcome::Class;

use crate::body::{Flight, ResponseBody, Upload};
use crate::detect::{self, Detected};
use crate::drain::Stream;
use crate::endpoint::{self, InFlight, SendError, Version};
use crate::headers::{self, Upgrade};
use crate::origin::Side;
use crate::tally::Tally;
use crate::worker::{App, Worker};
use crate::{copy, peer, serve};

/// Serves one connection to the application.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream) {
    let address = match worker.shared.origin.of(&stream, Side::Inbound) {
        Ok(address) => address,
        Err(error) => {
            if worker.may_log() {
                tracing::warn!(%error, "refused a connection without an original destination; do the redirect rules exist?");
            }
            return;
        }
    };
    // Whatever comes in by this listener was meant for this pod, so the address is one of its own.
    if worker.shared.own.contain(address, &[address.ip()]) {
        if worker.may_log() {
            tracing::warn!(%address, "refused a connection to one of the proxy's own ports: it would loop");
        }
        return;
    }
    let Ok(detected) = detect::detect(&stream, Protocol::Detect).await else {
        return;
    };
    let phases = worker.shared.phases.clone();
    match detected {
        Detected::Http1 => {
            let app = worker.app(address);
            serve::http1(stream, phases, |request| {
                http1(worker.clone(), app.clone(), request)
            })
            .await;
        }
        Detected::Http2 => {
            let app = worker.app(address);
            serve::http2(stream, phases, move |request| {
                http2(worker.clone(), app.clone(), request)
            })
            .await;
        }
        Detected::Opaque => opaque(&worker, stream, address).await,
        Detected::Closed => {}
    }
}

async fn opaque(worker: &Worker, stream: TcpStream, address: SocketAddr) {
    let open = Stream::open(&worker.shared.metrics);
    let copied = match endpoint::connect(address).await {
        Ok(app) => copy::opaque(stream, app)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = copied {
        tracing::debug!(error, "inbound connection ended");
    }
    drop(open);
}

async fn http1(
    worker: Rc<Worker>,
    app: Rc<App>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    match handle(&worker, &app, request, Version::Http1).await {
        Ok(response) => response,
        Err(refused) => {
            let mut response = refused.answer();
            if refused.class == Class::Unsent {
                response
                    .headers_mut()
                    .insert(headers::UNSENT, HeaderValue::from_static("1"));
            }
            response
        }
    }
}

async fn http2(
    worker: Rc<Worker>,
    app: Rc<App>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, h2::Error> {
    match handle(&worker, &app, request, Version::Http2).await {
        Ok(response) => Ok(response),
        Err(refused) if refused.class == Class::Unsent => Err(h2::Reason::REFUSED_STREAM.into()),
        Err(refused) => Ok(refused.answer()),
    }
}

/// The application gave no answer.
struct Refused {
    class: Class,
    reason: String,
}

impl Refused {
    fn answer(&self) -> Response<ResponseBody> {
        let status = match self.class {
            Class::Unsent => StatusCode::SERVICE_UNAVAILABLE,
            Class::Success | Class::Failure | Class::ClientClosed => StatusCode::BAD_GATEWAY,
        };
        headers::answer(status, &self.reason)
    }
}

async fn handle(
    worker: &Worker,
    app: &App,
    mut request: Request<Incoming>,
    version: Version,
) -> Result<Response<ResponseBody>, Refused> {
    let arrived = Instant::now();
    let metrics = app.metrics.borrow().clone();
    let known = metrics.is_some();
    let peer = peer::take(&mut request, app.endpoint.address().ip());
    let mut tally = Tally::inbound(
        metrics.unwrap_or_else(|| worker.shared.metrics.port(0)),
        peer,
        arrived,
    );
    let stream = Stream::open(&worker.shared.metrics);
    let upgrade = match headers::prepare(&mut request, version, app.endpoint.address()) {
        Upgrade::Wanted => Some(copy::caller(&mut request)),
        Upgrade::No => None,
    };
    let (head, body) = request.into_parts();
    let upload = Upload::new(body);
    upload.forget();
    let in_flight = InFlight::start(&app.endpoint);
    let (mut response, lease) = match app
        .endpoint
        .send(Request::from_parts(head, upload.attempt()), version)
        .await
    {
        Ok(answered) => answered,
        Err(error) => {
            let class = match &error {
                _ if upload.is_broken() => Class::ClientClosed,
                SendError::Unsent(_) => Class::Unsent,
                SendError::Unknown(_) => Class::Failure,
            };
            tally.end(class);
            if worker.may_log() {
                tracing::warn!(port = app.endpoint.address().port(), %error, "the application gave no answer");
            }
            return Err(Refused {
                class,
                reason: format!("the application gave no answer: {error}"),
            });
        }
    };
    if !known {
        let metrics = worker.shared.metrics.port(app.endpoint.address().port());
        tally.of_port(metrics.clone());
        *app.metrics.borrow_mut() = Some(metrics);
    }
    tally.answered();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(caller) = upgrade
    {
        tally.end(Class::Success);
        copy::join(caller, &mut response, stream, in_flight, lease);
        headers::finish(response.headers_mut(), Upgrade::Wanted);
        return Ok(response.map(|_| ResponseBody::empty()));
    }
    headers::finish(response.headers_mut(), Upgrade::No);
    let (head, body) = response.into_parts();
    let flight = Flight::new(&head, tally, in_flight, lease, stream);
    Ok(Response::from_parts(
        head,
        ResponseBody::from_endpoint(body, flight),
    ))
}
