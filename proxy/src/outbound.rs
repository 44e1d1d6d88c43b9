//! The application calls out: accept -> detect -> route -> pick revision -> pick endpoint -> send -> classify -> record at the end.

mod opaque;
mod request;

use std::rc::Rc;

use tokio::net::TcpStream;
use traffic_core::config::Protocol;

use crate::destination::Destination;
use crate::detect::{self, Detected};
use crate::metrics::PassThrough;
use crate::origin::Side;
use crate::serve;
use crate::worker::{Lookup, Worker};

/// Serves one connection of the application's.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream) {
    let address = match worker.shared.origin.of(&stream, Side::Outbound) {
        Ok(address) => address,
        Err(error) => {
            if worker.may_log() {
                tracing::warn!(%error, "refused a connection without an original destination; do the redirect rules exist?");
            }
            return;
        }
    };
    let ends =
        [stream.peer_addr(), stream.local_addr()].map(|end| end.map(|end| end.ip().to_canonical()));
    let local: Vec<_> = ends.into_iter().flatten().collect();
    if worker.shared.own.contain(address, &local) {
        if worker.may_log() {
            tracing::warn!(%address, "refused a connection to one of the proxy's own ports: it would loop");
        }
        return;
    }
    let destination = match worker.look_up(address).await {
        Lookup::Known(destination) => destination,
        Lookup::NoRoute => {
            worker.shared.metrics.passed_through(PassThrough::NoRoute);
            return opaque::pass_through(&worker, stream, address).await;
        }
        // Whoever connects while the control plane is away must not keep that connection out of the split for as long as it lives: its
        // requests go on to where they were going until there is a route.
        Lookup::NoAnswer => {
            worker.shared.metrics.passed_through(PassThrough::NoAnswer);
            Rc::new(Destination::new(address))
        }
    };
    let route = destination.route();
    let protocol = route
        .as_ref()
        .map_or(Protocol::Detect, |route| route.ready.route.protocol);
    let detected = match detect::detect(&stream, protocol).await {
        Ok(detected) => detected,
        Err(error) => {
            tracing::debug!(%address, %error, "a connection broke before it said anything");
            return;
        }
    };
    let phases = worker.shared.phases.clone();
    match detected {
        Detected::Http1 => {
            serve::http1(stream, phases, |request| {
                request::http1(worker.clone(), destination.clone(), request)
            })
            .await;
        }
        Detected::Http2 => {
            serve::http2(stream, phases, move |request| {
                request::http2(worker.clone(), destination.clone(), request)
            })
            .await;
        }
        Detected::Opaque => match route {
            Some(route) => opaque::split(&worker, stream, &route).await,
            None => opaque::pass_through(&worker, stream, address).await,
        },
        Detected::Closed => {}
    }
}
