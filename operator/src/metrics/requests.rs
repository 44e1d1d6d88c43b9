//! Counts requests to the API server, where they leave.

use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use http::{Method, Request as HttpRequest, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tower::{Layer, Service};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    method: &'static str,
    code: u16,
}

/// Every client has read something that was there.
pub(super) fn family() -> Family<Request, Counter> {
    let requests = Family::default();
    let first = Request {
        method: "GET",
        code: 200,
    };
    drop(requests.get_or_create(&first));
    requests
}

/// Wraps a client's service in [`Counted`].
#[derive(Clone, Debug)]
pub struct CountRequests(Family<Request, Counter>);

impl CountRequests {
    pub(super) fn new(requests: Family<Request, Counter>) -> CountRequests {
        CountRequests(requests)
    }
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            requests: self.0.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    requests: Family<Request, Counter>,
}

impl<S, B, R> Service<HttpRequest<B>> for Counted<S>
where
    S: Service<HttpRequest<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let (method, requests) = (name(request.method()), self.requests.clone());
        let answering = self.inner.call(request);
        async move {
            let answer = answering.await;
            let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            requests.get_or_create(&Request { method, code }).inc();
            answer
        }
        .boxed()
    }
}

fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
