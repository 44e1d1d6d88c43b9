//! Endpoints that leave, in whatever way, and what each kind of caller sees of it: the rows of docs/departures.md.

mod killed;
mod leaving;
mod silence;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use traffic_core::config::Protocol;

use crate::client::upgraded;
use crate::mesh::{Mesh, Service};

const PATIENCE: Duration = Duration::from_secs(10);

/// Of these pods, all stable.
fn pods(pods: &[SocketAddr]) -> Service {
    Service {
        stable: pods.to_vec(),
        ..Service::default()
    }
}

/// The same, for what is no HTTP.
fn opaque_pods(pods: &[SocketAddr]) -> Service {
    Service {
        protocol: Protocol::Opaque,
        ..self::pods(pods)
    }
}

/// Streams that go on until somebody ends them, each with an echo at its other end.
struct Streams {
    grpc: (SendStream<Bytes>, RecvStream),
    websocket: TcpStream,
    opaque: TcpStream,
}

impl Streams {
    /// By these two sidecars of callers, one of which knows that its Service is no HTTP.
    async fn open(http: &Mesh, opaque: &Mesh) -> Streams {
        let mut sender = crate::streams::caller(http).await;
        let request = Request::post("http://web/grpc/0").header("content-type", "application/grpc");
        let (answer, upload) = sender
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        let mut streams = Streams {
            grpc: (upload, answer.into_body()),
            websocket: upgraded(http.outbound).await,
            // To this sidecar it is bytes.
            opaque: upgraded(opaque.outbound).await,
        };
        streams.go_on().await;
        streams
    }

    async fn go_on(&mut self) {
        let (upload, download) = &mut self.grpc;
        upload.send_data("echo".into(), false).unwrap();
        let echo = timeout(PATIENCE, download.data()).await.unwrap();
        assert_eq!(echo.unwrap().unwrap(), "echo");
        echoes(&mut self.websocket).await;
        echoes(&mut self.opaque).await;
    }

    /// Their callers have nothing more to say.
    async fn finish(mut self) {
        let (mut upload, mut download) = self.grpc;
        upload.send_data(Bytes::new(), true).unwrap();
        assert!(timeout(PATIENCE, download.data()).await.unwrap().is_none());
        let trailers = timeout(PATIENCE, download.trailers()).await.unwrap();
        assert_eq!(trailers.unwrap().unwrap()["grpc-status"], "0");
        for stream in [&mut self.websocket, &mut self.opaque] {
            stream.shutdown().await.unwrap();
            let end = timeout(PATIENCE, stream.read(&mut [0])).await.unwrap();
            assert_eq!(end.unwrap(), 0);
        }
    }
}

async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"echo").await.unwrap();
    let mut echo = [0; 4];
    let read = timeout(PATIENCE, stream.read_exact(&mut echo)).await;
    read.unwrap().unwrap();
    assert_eq!(echo, *b"echo");
}
