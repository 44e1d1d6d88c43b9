//! The application behind every proxy, twice: `a` and `b`, told apart by the header `x-backend`. Reads the request to its end, then
//! answers with as many bytes as the path says (`/1024`), or with a gRPC message.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use aviary_bench::{run, serve};
use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

const LARGEST: usize = 1 << 20;
const GRPC_MESSAGE: usize = 1024;

#[derive(Parser)]
struct Options {
    /// The port of `a`; that of `b` is the next one.
    port: u16,
}

#[derive(Clone)]
struct Application {
    name: HeaderValue,
    bytes: Bytes,
    grpc: Bytes,
}

struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(
            data.or_else(|| self.trailers.take().map(Frame::trailers))
                .map(Ok),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.data, &self.trailers) {
            (Some(data), None) => SizeHint::with_exact(data.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

impl Application {
    fn new(name: &'static str) -> Application {
        let bytes = Bytes::from(vec![b'x'; LARGEST]);
        let mut grpc = BytesMut::new();
        grpc.put_u8(0);
        grpc.put_u32(GRPC_MESSAGE as u32);
        grpc.put(bytes.slice(..GRPC_MESSAGE));
        Application {
            name: HeaderValue::from_static(name),
            bytes,
            grpc: grpc.freeze(),
        }
    }

    async fn answer(
        self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Answer>, hyper::Error> {
        while let Some(frame) = request.body_mut().frame().await {
            frame?;
        }
        let content = request.headers().get(CONTENT_TYPE);
        let grpc = content.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let size = request.uri().path()[1..].parse().unwrap_or(LARGEST + 1);
        let (status, kind, data, trailers) = match grpc {
            true => {
                let status = (
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                );
                let trailers = HeaderMap::from_iter([status]);
                (
                    StatusCode::OK,
                    "application/grpc",
                    self.grpc,
                    Some(trailers),
                )
            }
            false if size > LARGEST => (StatusCode::NOT_FOUND, "text/plain", Bytes::new(), None),
            false => (StatusCode::OK, "text/plain", self.bytes.slice(..size), None),
        };
        let data = Some(data);
        let mut response = Response::new(Answer { data, trailers });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert("x-backend", self.name);
        Ok(response)
    }
}

fn main() -> anyhow::Result<()> {
    let Options { port } = Options::parse();
    let listen = |name, port| {
        let application = Application::new(name);
        serve(port, move |request| application.clone().answer(request))
    };
    run(async { tokio::try_join!(listen("a", port), listen("b", port + 1)) })??;
    Ok(())
}
