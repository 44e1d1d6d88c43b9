//! Connections whose bytes are not read: one pick for each connection, or none at all. And those of which nobody knows yet whether they are.

use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use traffic_core::config::Protocol;
use traffic_core::outcome::Class;
use traffic_core::retry::{self, Body, Decision, Failure};

use crate::caller::Caller;
use crate::drain;
use crate::endpoint::{Endpoint, InFlight};
use crate::exchange::Owed;
use crate::identity::Inner;
use crate::net::connect::{Path, connect};
use crate::net::detect::{Detected, detect};
use crate::net::end::End;
use crate::net::parting::{self, Spoken};
use crate::net::stream::Stream;
use crate::net::tunnel;
use crate::state::State;
use crate::state::destination::{Arm, LocalRoute};
use crate::state::withdrawal::LongStream;

/// A connection to where the caller's bytes go.
pub(super) struct Other {
    stream: Stream,
    in_flight: Option<InFlight>,
    /// If it leads to a canary.
    long: Option<LongStream>,
}

/// Who spoke first on a silent connection, and what.
pub(super) enum First {
    Http1,
    Http2,
    /// The server did, or it is no HTTP.
    Opaque(Other),
    /// The caller, in TLS of its own or of a sidecar's. Without a server if there is none.
    Tls(Option<Other>),
    /// The caller left, or there is no server and the caller speaks no HTTP.
    Nobody,
}

/// Carries what is not read to the application at `address`, for as long as the caller may send it. `app`: a connection to it, if there is one already.
pub(super) async fn let_in(
    state: &State,
    end: End,
    address: SocketAddr,
    caller: &Caller,
    app: Option<Other>,
) {
    if state.admit(caller, address.port(), None).is_err() {
        // Whoever sends it learns by a reset that nobody has taken it.
        return end.abandon();
    }
    let app = match app {
        Some(app) => Some(app),
        None => to_address(state, address).await,
    };
    let Some(Other {
        stream, in_flight, ..
    }) = app
    else {
        return end.abandon();
    };
    let open = drain::Stream::open(state.metrics());
    let theirs = End::new(stream, state.buffers.clone());
    let expelled = state.expelled(caller, address.port());
    if let Err(error) = tunnel::join_until(end, theirs, &state.buffers, expelled).await {
        tracing::debug!(%error, "opaque connection ended");
    }
    drop((in_flight, open));
}

/// Goes where the connection was going.
pub(super) async fn pass_through(state: &State, end: End, address: SocketAddr) {
    match to_address(state, address).await {
        Some(other) => join(state, end, other).await,
        // What the caller would have seen without us, a little later.
        None => end.abandon(),
    }
}

/// Goes to the revision that the split says.
pub(super) async fn split(state: &State, end: End, route: &Rc<LocalRoute>) {
    let pick = route.pick(&state.common.clock, Instant::now());
    match to_split(state, route, pick).await {
        Some((arm, other)) => {
            arm.metrics.connections.add(Class::Success);
            join(state, end, other).await;
        }
        None => end.abandon(),
    }
}

/// Waits for whoever speaks first, the caller or the server at `address`.
pub(super) async fn first_of(state: &State, caller: &mut End, address: SocketAddr) -> First {
    first(caller, to_address(state, address).await).await
}

/// The same among the endpoints of a route. The pick is taken over by the first request, if it turns out to be HTTP.
pub(super) async fn first_of_split(
    state: &State,
    caller: &mut End,
    route: &Rc<LocalRoute>,
) -> (First, Owed) {
    let pick = route.pick(&state.common.clock, Instant::now());
    let (arm, other) = to_split(state, route, pick).await.unzip();
    let first = first(caller, other).await;
    match (&first, arm) {
        (First::Opaque(_) | First::Tls(Some(_)), Some(arm)) => {
            arm.metrics.connections.add(Class::Success);
            (first, Owed::default())
        }
        _ => (first, Owed::new(route, pick)),
    }
}

async fn first(caller: &mut End, other: Option<Other>) -> First {
    let Some(other) = other else {
        return match detect(caller, Protocol::Http).await {
            Ok(Detected::Http1) => First::Http1,
            Ok(Detected::Http2) => First::Http2,
            Ok(Detected::Tls) => First::Tls(None),
            Ok(Detected::Opaque | Detected::Silent | Detected::Closed) | Err(_) => First::Nobody,
        };
    };
    tokio::select! {
        biased;
        detected = detect(caller, Protocol::Http) => match detected {
            Ok(Detected::Http1) => First::Http1,
            Ok(Detected::Http2) => First::Http2,
            Ok(Detected::Tls) => First::Tls(Some(other)),
            // A caller that closes its sending half at once may still want to hear.
            Ok(Detected::Opaque | Detected::Silent | Detected::Closed) => First::Opaque(other),
            Err(_) => First::Nobody,
        },
        _ = other.stream.readable() => First::Opaque(other),
    }
}

/// Copies both ways until both have ended.
pub(super) async fn join(state: &State, ours: End, other: Other) {
    let open = drain::Stream::open(state.metrics());
    let theirs = End::new(other.stream, state.buffers.clone());
    let joined = match other.long {
        None => tunnel::join(ours, theirs, &state.buffers).await,
        Some(mut long) => {
            let parted = parting::join(ours, theirs, Spoken::Bytes, &mut long, pending());
            Box::pin(parted).await
        }
    };
    if let Err(error) = joined {
        tracing::debug!(%error, "opaque connection ended");
    }
    drop((other.in_flight, open));
}

async fn to_address(state: &State, address: SocketAddr) -> Option<Other> {
    match connect(address, Path::Direct, state.common.limits.connect).await {
        Ok(stream) => Some(Other {
            stream: stream.into(),
            in_flight: None,
            long: None,
        }),
        Err(error) => {
            tracing::debug!(%error, "passing through failed");
            None
        }
    }
}

async fn to_split<'r>(
    state: &State,
    route: &'r LocalRoute,
    pick: traffic_core::split::Pick,
) -> Option<(&'r Arm, Other)> {
    let (mut arm, mut retries, mut failed) = (route.arm(pick), 0, None);
    loop {
        match to_arm(state, arm, failed).await {
            Ok((in_flight, stream)) => {
                let other = Other {
                    stream,
                    in_flight: Some(in_flight),
                    long: arm.long_stream(),
                };
                return Some((arm, other));
            }
            Err(tried) => {
                arm.metrics.connections.add(Class::Unsent);
                match retry::after(retries, Failure::Unsent, Body::Whole, None) {
                    Decision::Stable(_) => {
                        (arm, retries, failed) = (&route.stable, retries + 1, tried);
                    }
                    Decision::GiveUp => return None,
                }
            }
        }
    }
}

/// Connects to one of a revision's endpoints, or says which one refused.
async fn to_arm(
    state: &State,
    arm: &Arm,
    not: Option<SocketAddr>,
) -> Result<(InFlight, Stream), Option<SocketAddr>> {
    let now = Instant::now();
    let endpoint: Rc<Endpoint> = state.pick(&arm.endpoints, not, now).ok_or(None)?;
    let in_flight = InFlight::start(&endpoint, now);
    match endpoint.way().open(Inner::Tcp).await {
        Ok(stream) => {
            in_flight.well();
            Ok((in_flight, stream))
        }
        Err(error) => {
            tracing::debug!(%error, "attempt failed");
            in_flight.failed(Instant::now());
            Err(Some(endpoint.address()))
        }
    }
}
