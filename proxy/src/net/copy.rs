//! Bytes both ways, unread: opaque connections, and connections that left HTTP by an upgrade.

use std::io;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::drain::Stream;
use crate::endpoint::{InFlight, Lease};

/// Copies until both sides are done.
pub async fn opaque(mut one: TcpStream, mut other: TcpStream) -> io::Result<()> {
    copy_bidirectional(&mut one, &mut other)
        .await
        .map(|_bytes| ())
}

/// The caller's half of an upgrade, taken before its request goes on.
pub fn caller<B>(request: &mut Request<B>) -> OnUpgrade {
    hyper::upgrade::on(request)
}

/// The endpoint agreed to leave HTTP: joins the two connections once both have.
pub fn join(
    caller: OnUpgrade,
    response: &mut Response<Incoming>,
    stream: Stream,
    in_flight: InFlight,
    lease: Lease,
) {
    let endpoint = hyper::upgrade::on(response);
    spawn_local(async move {
        let joined = async {
            let (caller, endpoint) = futures::try_join!(caller, endpoint)?;
            copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(endpoint)).await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        if let Err(error) = joined.await {
            tracing::debug!(%error, "upgraded connection ended");
        }
        drop((stream, in_flight, lease));
    });
}
