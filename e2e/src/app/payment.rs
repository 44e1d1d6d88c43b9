//! The payment service: answers with its version, and is as bad as its environment says.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::net::TcpListener;

use crate::app::VERSION_HEADER;
use crate::app::faults::Faults;
use crate::app::grpc;
use crate::app::serve::{Answer, serve};

pub struct Payment {
    version: HeaderValue,
    faults: Faults,
    paid: AtomicU64,
    going: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
#[error("VERSION={0:?} cannot be sent as a header: use visible ASCII, like v2")]
pub struct InvalidVersion(String);

impl Payment {
    pub fn new(version: &str, faults: Faults) -> Result<Payment, InvalidVersion> {
        let version =
            HeaderValue::from_str(version).map_err(|_| InvalidVersion(version.to_owned()))?;
        Ok(Payment {
            version,
            faults,
            paid: AtomicU64::new(0),
            going: AtomicBool::new(false),
        })
    }

    /// Serves until `stop`; from then on it says that it is not ready, and serves for `linger` longer.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
        linger: Duration,
    ) {
        let payment = Arc::new(self);
        let answer = {
            let payment = Arc::clone(&payment);
            move |request| {
                let payment = Arc::clone(&payment);
                async move { payment.answer(request).await }
            }
        };
        let stop = async {
            stop.await;
            payment.going.store(true, Ordering::Relaxed);
        };
        serve(listener, answer, stop, linger).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let mut answer = match path.as_str() {
            "/healthz" => self.health(),
            "/pay" => self.pay(request).await,
            grpc::METHOD => self.pay_grpc(request).await,
            grpc::WATCH => watch(request).await,
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /pay, /healthz and the gRPC methods demo.Payment/Pay and demo.Payment/Watch\n",
            ),
        };
        answer
            .headers_mut()
            .insert(VERSION_HEADER, self.version.clone());
        answer
    }

    fn health(&self) -> Answer {
        if self.going.load(Ordering::Relaxed) {
            text(StatusCode::SERVICE_UNAVAILABLE, "going\n")
        } else {
            text(StatusCode::OK, "ok\n")
        }
    }

    async fn pay(&self, request: Request<Incoming>) -> Answer {
        let Ok(order) = request.into_body().collect().await else {
            return text(StatusCode::BAD_REQUEST, "the body ended early\n");
        };
        self.faults.dawdle().await;
        if self.faults.next_fails() {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "{\"error\":\"payment failed\"}\n",
            );
        }
        let number = self.paid.fetch_add(1, Ordering::Relaxed) + 1;
        let receipt = serde_json::json!({
            "version": String::from_utf8_lossy(self.version.as_bytes()),
            "receipt": number,
            "bytes": order.to_bytes().len(),
        });
        let mut answer = text(StatusCode::OK, format!("{receipt}\n"));
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }

    async fn pay_grpc(&self, request: Request<Incoming>) -> Answer {
        let order = request
            .into_body()
            .collect()
            .await
            .map(|order| order.to_bytes());
        self.faults.dawdle().await;
        let message = order.as_deref().ok().and_then(grpc::unframe);
        let mut answer = match message {
            Some(message) if !self.faults.next_fails() => {
                let receipt = Full::new(grpc::frame(message));
                Response::new(
                    receipt
                        .with_trailers(async { Some(Ok::<_, Infallible>(grpc::status(grpc::OK))) })
                        .boxed(),
                )
            }
            Some(_) | None => return failed(),
        };
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
        answer
    }
}

/// Receipts, one after the other.
async fn watch(request: Request<Incoming>) -> Answer {
    let order = request
        .into_body()
        .collect()
        .await
        .map(|order| order.to_bytes());
    let Some(receipt) = order.as_deref().ok().and_then(grpc::unframe) else {
        return failed();
    };
    let receipt = grpc::frame(receipt);
    let receipts = stream::iter(0..grpc::RECEIPTS).then(move |_| {
        let receipt = receipt.clone();
        async move {
            tokio::time::sleep(grpc::PAUSE).await;
            Ok(Frame::data(receipt))
        }
    });
    let status = async { Ok::<_, Infallible>(Frame::trailers(grpc::status(grpc::OK))) };
    let frames = receipts.chain(stream::once(status));
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    answer
}

/// Nothing to say but the status: it goes with the headers, as gRPC servers do.
fn failed() -> Answer {
    let mut answer = Response::new(Empty::new().boxed());
    let headers = answer.headers_mut();
    headers.extend(grpc::status(grpc::INTERNAL));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    *answer.status_mut() = status;
    answer
}
