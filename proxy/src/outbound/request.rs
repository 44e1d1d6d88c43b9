//! One request of the application's, from its head to the end of its answer.

use std::rc::Rc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use traffic_core::outcome::Class;
use traffic_core::retry::{self, Attempt, Decision, Failure};
use traffic_core::split::Pick;

use crate::body::{Flight, ResponseBody, Upload};
use crate::copy;
use crate::destination::{Destination, LocalRoute};
use crate::drain::Stream;
use crate::endpoint::{Cause, Endpoint, InFlight, Lease, SendError, Version};
use crate::headers::{self, Upgrade};
use crate::peer;
use crate::tally::Tally;
use crate::worker::Worker;

pub(super) async fn http1(
    worker: Rc<Worker>,
    destination: Rc<Destination>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    handle(&worker, &destination, request, Version::Http1).await
}

pub(super) async fn http2(
    worker: Rc<Worker>,
    destination: Rc<Destination>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, h2::Error> {
    Ok(handle(&worker, &destination, request, Version::Http2).await)
}

/// A request that is on its way.
struct Exchange {
    tally: Tally,
    stream: Stream,
    upgrade: Option<OnUpgrade>,
    upload: Upload,
    /// What another attempt would send, besides the body.
    head: Parts,
    version: Version,
}

/// An attempt that came to nothing.
struct Failed {
    why: Failure,
    reason: String,
}

/// An answer, and what it came on.
struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    in_flight: InFlight,
}

async fn handle(
    worker: &Worker,
    destination: &Destination,
    mut request: Request<Incoming>,
    version: Version,
) -> Response<ResponseBody> {
    let arrived = Instant::now();
    if request.method() == Method::CONNECT {
        return headers::answer(
            StatusCode::NOT_IMPLEMENTED,
            "CONNECT over HTTP/2 is not supported",
        );
    }
    let upgrade = match headers::prepare(&mut request, version, destination.address) {
        Upgrade::Wanted => Some(copy::caller(&mut request)),
        Upgrade::No => None,
    };
    let route = destination
        .route()
        .or_else(|| worker.route(destination.address));
    match route {
        Some(_) => peer::mark(request.headers_mut()),
        None => peer::unmark(request.headers_mut()),
    }
    let (head, body) = request.into_parts();
    let exchange = |tally| Exchange {
        tally,
        stream: Stream::open(&worker.shared.metrics),
        upgrade,
        upload: Upload::new(body),
        head,
        version,
    };
    match route {
        Some(route) => {
            let (pick, arm) = route.pick();
            let tally = Tally::outbound(arm.metrics.clone(), arrived);
            exchange(tally).split(worker, &route, pick).await
        }
        // There was none when the connection came, or it went away under it: on to where it was going.
        None => {
            let app = worker.app(destination.address);
            exchange(Tally::nobody(arrived)).direct(&app.endpoint).await
        }
    }
}

impl Exchange {
    async fn split(
        mut self,
        worker: &Worker,
        route: &LocalRoute,
        pick: Pick,
    ) -> Response<ResponseBody> {
        let (mut arm, mut attempt, mut tried) = (route.arm(pick), Attempt::First, None);
        loop {
            let failed = match worker.pick(&arm.endpoints, tried) {
                Some(endpoint) => {
                    tried = Some(endpoint.address());
                    match self.attempt(&endpoint).await {
                        Ok(answered) => return self.pass_on(answered),
                        Err(failed) => failed,
                    }
                }
                None => Failed::no_endpoint(route, pick, attempt),
            };
            match retry::after(pick, attempt, failed.why, self.upload.state()) {
                Decision::Stable => {
                    let route_name = &route.ready.route.name;
                    tracing::debug!(
                        route = route_name,
                        reason = failed.reason,
                        "sent again to stable"
                    );
                    self.tally.retry(&route.stable.metrics);
                    (arm, attempt) = (&route.stable, Attempt::Second);
                }
                Decision::GiveUp => {
                    if worker.may_log() {
                        let route = &route.ready.route.name;
                        tracing::warn!(route, reason = failed.reason, "a request failed");
                    }
                    return self.give_up(failed);
                }
            }
        }
    }

    async fn direct(self, endpoint: &Rc<Endpoint>) -> Response<ResponseBody> {
        match self.attempt(endpoint).await {
            Ok(answered) => self.pass_on(answered),
            Err(failed) => self.give_up(failed),
        }
    }

    /// Sends the request to one endpoint.
    async fn attempt(&self, endpoint: &Rc<Endpoint>) -> Result<Answered, Failed> {
        let in_flight = InFlight::start(endpoint);
        let request = Request::from_parts(self.head.clone(), self.upload.attempt());
        let sent = endpoint.send(request, self.version).await;
        match sent {
            Ok((response, lease)) if response.headers().contains_key(&headers::UNSENT) => {
                in_flight.failed();
                if response.body().is_end_stream() {
                    lease.release();
                }
                Err(Failed {
                    why: Failure::Unsent,
                    reason: Cause::Marked.to_string(),
                })
            }
            Ok((response, lease)) => {
                if response.status().is_server_error() {
                    in_flight.failed();
                } else {
                    in_flight.answered();
                }
                Ok(Answered {
                    response,
                    lease,
                    in_flight,
                })
            }
            Err(error) => {
                if !self.upload.is_broken() {
                    in_flight.failed();
                }
                Err(Failed::from(error))
            }
        }
    }

    fn pass_on(mut self, answered: Answered) -> Response<ResponseBody> {
        let Answered {
            mut response,
            lease,
            in_flight,
        } = answered;
        self.upload.forget();
        self.tally.answered();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(caller) = self.upgrade.take()
        {
            self.tally.end(Class::Success);
            copy::join(caller, &mut response, self.stream, in_flight, lease);
            headers::finish(response.headers_mut(), Upgrade::Wanted);
            return response.map(|_| ResponseBody::empty());
        }
        headers::finish(response.headers_mut(), Upgrade::No);
        let (head, body) = response.into_parts();
        let flight = Flight::new(&head, self.tally, in_flight, lease, self.stream);
        Response::from_parts(head, ResponseBody::from_endpoint(body, flight))
    }

    fn give_up(mut self, failed: Failed) -> Response<ResponseBody> {
        let class = match failed.why {
            _ if self.upload.is_broken() => Class::ClientClosed,
            Failure::Unsent => Class::Unsent,
            Failure::Unknown => Class::Failure,
        };
        self.tally.end(class);
        let status = match failed.why {
            Failure::Unsent => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Unknown => StatusCode::BAD_GATEWAY,
        };
        headers::answer(status, &failed.reason)
    }
}

impl Failed {
    fn no_endpoint(route: &LocalRoute, pick: Pick, attempt: Attempt) -> Failed {
        let revision = match attempt {
            Attempt::First => route.revision(pick),
            Attempt::Second => route.revision(Pick::Stable),
        };
        let name = &route.ready.route.name;
        Failed {
            why: Failure::Unsent,
            reason: format!("no healthy endpoint of {name} revision {revision}"),
        }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Failed {
        match error {
            SendError::Unsent(cause) => Failed {
                why: Failure::Unsent,
                reason: cause.to_string(),
            },
            SendError::Unknown(error) => Failed {
                why: Failure::Unknown,
                reason: format!("the endpoint closed the connection before it answered: {error}"),
            },
        }
    }
}
