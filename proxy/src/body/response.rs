//! An answer's body on its way to the caller. It carries what has to happen at the end of the stream: the outcome is counted (gRPC says in its
//! trailers how it went), the endpoint's load goes down, and the connection goes back to its pool.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use traffic_core::outcome::{Dialect, End, classify};

use crate::drain::Stream;
use crate::endpoint::{InFlight, Lease};
use crate::tally::Tally;

/// A request whose answer is on its way.
#[derive(Debug)]
pub struct Flight {
    status: u16,
    dialect: Dialect,
    grpc_status: Option<u16>,
    tally: Tally,
    in_flight: InFlight,
    lease: Lease,
    /// Held to the end: a drain waits for it.
    _stream: Stream,
}

impl Flight {
    /// `head` is the answer's.
    pub fn new(
        head: &Parts,
        tally: Tally,
        in_flight: InFlight,
        lease: Lease,
        stream: Stream,
    ) -> Flight {
        Flight {
            status: head.status.as_u16(),
            dialect: dialect(&head.headers),
            grpc_status: grpc_status(&head.headers),
            tally,
            in_flight,
            lease,
            _stream: stream,
        }
    }

    fn complete(mut self) {
        self.tally.end(classify(End::Complete {
            status: self.status,
            dialect: self.dialect,
            grpc_status: self.grpc_status,
        }));
        self.lease.release();
    }

    fn broken(mut self) {
        self.tally.end(classify(End::Broken));
        self.in_flight.failed();
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = grpc_status(trailers).or(self.grpc_status);
    }
}

fn dialect(headers: &HeaderMap) -> Dialect {
    match headers.get(CONTENT_TYPE) {
        Some(kind) if kind.as_bytes().starts_with(b"application/grpc") => Dialect::Grpc,
        Some(_) | None => Dialect::Http,
    }
}

/// The status that gRPC put into headers (an answer without a body) or trailers.
fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[derive(Debug)]
pub struct ResponseBody(Source);

#[derive(Debug)]
enum Source {
    Endpoint {
        body: Incoming,
        flight: Option<Box<Flight>>,
    },
    Own(Option<Bytes>),
}

impl ResponseBody {
    pub fn from_endpoint(body: Incoming, flight: Flight) -> ResponseBody {
        if body.is_end_stream() {
            flight.complete();
            return ResponseBody::empty();
        }
        ResponseBody(Source::Endpoint {
            body,
            flight: Some(Box::new(flight)),
        })
    }

    pub fn empty() -> ResponseBody {
        ResponseBody(Source::Own(None))
    }

    pub fn text(text: String) -> ResponseBody {
        ResponseBody(Source::Own(Some(Bytes::from(text))))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Source::Endpoint { body, flight } => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let (Some(trailers), Some(flight)) =
                            (frame.trailers_ref(), flight.as_mut())
                        {
                            flight.trailers(trailers);
                        }
                        if body.is_end_stream()
                            && let Some(flight) = flight.take()
                        {
                            flight.complete();
                        }
                    }
                    Poll::Ready(None) => {
                        if let Some(flight) = flight.take() {
                            flight.complete();
                        }
                    }
                    Poll::Ready(Some(Err(_))) => {
                        if let Some(flight) = flight.take() {
                            flight.broken();
                        }
                    }
                    Poll::Pending => {}
                }
                polled
            }
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Endpoint { body, .. } => body.is_end_stream(),
            Source::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Endpoint { body, .. } => body.size_hint(),
            Source::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
        }
    }
}
