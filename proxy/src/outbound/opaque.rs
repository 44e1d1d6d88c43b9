//! Connections whose bytes are not read: one pick for each connection, or none at all.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;
use traffic_core::outcome::Class;
use traffic_core::retry::{self, Attempt, Body, Decision, Failure};

use crate::copy;
use crate::destination::{Arm, LocalRoute};
use crate::drain::Stream;
use crate::endpoint::{self, Endpoint, InFlight};
use crate::worker::Worker;

/// Goes where the connection was going.
pub(super) async fn pass_through(worker: &Worker, stream: TcpStream, address: SocketAddr) {
    let open = Stream::open(&worker.shared.metrics);
    match endpoint::connect(address).await {
        Ok(other) => finish(copy::opaque(stream, other).await),
        // Dropping the stream closes the application's connection: what it would have seen without us, a little later.
        Err(error) => tracing::debug!(%error, "passing through failed"),
    }
    drop(open);
}

/// Goes to the revision that the split says.
pub(super) async fn split(worker: &Worker, stream: TcpStream, route: &Rc<LocalRoute>) {
    let open = Stream::open(&worker.shared.metrics);
    let (pick, arm) = route.pick();
    let (mut arm, mut attempt, mut failed) = (arm, Attempt::First, None);
    loop {
        match connect(worker, arm, failed).await {
            Ok((endpoint, other)) => {
                arm.metrics.connections.add(Class::Success);
                let in_flight = InFlight::start(&endpoint);
                finish(copy::opaque(stream, other).await);
                drop((in_flight, open));
                return;
            }
            Err(tried) => {
                arm.metrics.connections.add(Class::Unsent);
                match retry::after(pick, attempt, Failure::Unsent, Body::Whole) {
                    Decision::Stable => {
                        (arm, attempt, failed) = (&route.stable, Attempt::Second, tried)
                    }
                    Decision::GiveUp => return,
                }
            }
        }
    }
}

/// Connects to one of a revision's endpoints, or says which one refused.
async fn connect(
    worker: &Worker,
    arm: &Arm,
    not: Option<SocketAddr>,
) -> Result<(Rc<Endpoint>, TcpStream), Option<SocketAddr>> {
    let endpoint = worker.pick(&arm.endpoints, not).ok_or(None)?;
    let in_flight = InFlight::start(&endpoint);
    match endpoint::connect(endpoint.address()).await {
        Ok(stream) => Ok((endpoint, stream)),
        Err(error) => {
            tracing::debug!(%error, "attempt failed");
            in_flight.failed();
            Err(Some(endpoint.address()))
        }
    }
}

fn finish(copied: std::io::Result<()>) {
    if let Err(error) = copied {
        tracing::debug!(%error, "opaque connection ended");
    }
}
