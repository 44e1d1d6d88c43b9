//! A connection from its beginning: where was it going -> what does it speak -> who carries it.
//!
//! What comes in may be plain or mutual TLS of another sidecar's, which ends here; TLS of an application's own goes on to the application as it is. What goes
//! out is the application's, in whatever it speaks.

mod opaque;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use traffic_core::config::Protocol;

use crate::caller::Caller;
use crate::exchange::{Owed, Policy};
use crate::identity::Inner;
use crate::metrics::PassThrough;
use crate::net::detect::{Detected, detect};
use crate::net::end::End;
use crate::net::hello::{self, Hello};
use crate::net::origin::Side;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::state::destination::Destination;
use crate::state::{Lookup, State};
use crate::{http1, http2};
use opaque::{First, Other};

/// How long whoever must show who it is may say nothing at all.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Serves one connection of the application's.
pub async fn outbound(state: Rc<State>, stream: TcpStream) {
    let Some(address) = origin(&state, &stream, Side::Outbound) else {
        return;
    };
    let destination = match state.look_up(address).await {
        Lookup::Known(destination) => destination,
        Lookup::NoRoute => {
            state.metrics().passed_through(PassThrough::NoRoute);
            let end = End::new(stream, state.buffers.clone());
            return opaque::pass_through(&state, end, address).await;
        }
        // Whoever connects while the control plane is away must not keep that connection out of the split for as long as it lives: its
        // requests go on to where they were going until there is a route.
        Lookup::NoAnswer => {
            state.metrics().passed_through(PassThrough::NoAnswer);
            Rc::new(Destination::new(address))
        }
    };
    let route = destination.route();
    let protocol = route
        .as_ref()
        .map_or(Protocol::Detect, |route| route.ready.route.protocol);
    let mut end = End::new(stream, state.buffers.clone());
    let Ok(detected) = detect(&mut end, protocol).await else {
        return;
    };
    let policy = |owed| Policy::Outbound {
        destination: destination.clone(),
        owed,
    };
    match detected {
        Detected::Http1 => http1::serve(state, policy(Owed::default()), end).await,
        Detected::Http2 => Box::pin(http2::serve(state, policy(Owed::default()), end)).await,
        Detected::Opaque | Detected::Tls => match route {
            Some(route) => opaque::split(&state, end, &route).await,
            None => opaque::pass_through(&state, end, address).await,
        },
        Detected::Silent => {
            let (first, owed) = match &route {
                Some(route) => opaque::first_of_split(&state, &mut end, route).await,
                None => (
                    opaque::first_of(&state, &mut end, address).await,
                    Owed::default(),
                ),
            };
            after_silence(state, end, policy(owed), first).await;
        }
        Detected::Closed => {}
    }
}

/// Serves one connection to the application.
pub async fn inbound(state: Rc<State>, stream: TcpStream) {
    let Some(address) = origin(&state, &stream, Side::Inbound) else {
        return;
    };
    let caller = Caller::of(&stream);
    let mut end = End::new(stream, state.buffers.clone());
    let Ok(mut detected) = detect(&mut end, Protocol::Detect).await else {
        return;
    };
    if detected == Detected::Silent && !state.is_open() {
        // The application does not speak to somebody who has shown nothing.
        match timeout(FIRST_WORD, detect(&mut end, Protocol::Http)).await {
            Ok(Ok(spoken)) => detected = spoken,
            Ok(Err(_)) | Err(_) => return,
        }
    }
    match detected {
        Detected::Http1 => {
            let policy = to_app(&state, address, caller);
            http1::serve(state, policy, end).await;
        }
        Detected::Http2 => {
            let policy = to_app(&state, address, caller);
            Box::pin(http2::serve(state, policy, end)).await;
        }
        Detected::Opaque => opaque::let_in(&state, end, address, &caller, None).await,
        // In a box: a plain connection does not pay for a handshake.
        Detected::Tls => Box::pin(over_tls(state, end, address, caller, None)).await,
        Detected::Silent => {
            let app = match opaque::first_of(&state, &mut end, address).await {
                First::Http1 => {
                    let policy = to_app(&state, address, caller);
                    return http1::serve(state, policy, end).await;
                }
                First::Http2 => {
                    let policy = to_app(&state, address, caller);
                    return Box::pin(http2::serve(state, policy, end)).await;
                }
                First::Tls(app) => {
                    return Box::pin(over_tls(state, end, address, caller, app)).await;
                }
                First::Opaque(app) => app,
                First::Nobody => return end.abandon(),
            };
            opaque::let_in(&state, end, address, &caller, Some(app)).await;
        }
        Detected::Closed => {}
    }
}

fn to_app(state: &State, address: SocketAddr, caller: Caller) -> Policy {
    Policy::Inbound {
        app: state.app(address),
        caller,
    }
}

/// Serves a caller that begins with TLS. `app`: a connection to the application, if there is one already.
async fn over_tls(
    state: Rc<State>,
    end: End,
    address: SocketAddr,
    caller: Caller,
    app: Option<Other>,
) {
    let (inner, end) = match answer(&state, end, address).await {
        Answered::Sidecar(inner, end) => (inner, end),
        Answered::Application(end) => {
            let caller = caller.with_own_tls();
            return opaque::let_in(&state, end, address, &caller, app).await;
        }
        Answered::Nobody => return,
    };
    let caller = match end.stream.peer() {
        Some(id) => caller.proven(id.clone()),
        None => caller,
    };
    match inner {
        Inner::Http1 => {
            drop(app);
            let policy = to_app(&state, address, caller);
            http1::serve(state, policy, end).await;
        }
        Inner::Http2 => {
            drop(app);
            let policy = to_app(&state, address, caller);
            http2::serve(state, policy, end).await;
        }
        Inner::Tcp => opaque::let_in(&state, end, address, &caller, app).await,
    }
}

/// What a caller turns out to be that begins with TLS.
enum Answered {
    /// What it says inside, from here on.
    Sidecar(Inner, End),
    /// It means the application. All that it has said is still in the input.
    Application(End),
    /// It has proven nothing, or is gone.
    Nobody,
}

/// Answers a sidecar, and nobody else.
async fn answer(state: &State, mut end: End, address: SocketAddr) -> Answered {
    // Without an identity there is nothing to answer a sidecar with, and none has been told to come.
    let Some(identity) = state.identity() else {
        return Answered::Application(end);
    };
    let hello = match hello::read(&mut end).await {
        Ok(Hello::Sidecar(hello)) => hello,
        Ok(Hello::Application) => return Answered::Application(end),
        Err(_) => return Answered::Nobody,
    };
    let Stream::Plain(tcp) = end.stream else {
        return Answered::Nobody;
    };
    let accepted = tls::accept(*hello, tcp, &identity).await;
    state.metrics().handshakes.inbound(&accepted);
    match accepted {
        Ok((inner, mesh)) => Answered::Sidecar(inner, End::new(mesh, state.buffers.clone())),
        Err(error) => {
            if state.may_log() {
                tracing::warn!(%address, %error, "refused a sidecar");
            }
            Answered::Nobody
        }
    }
}

/// Somebody has spoken at last.
async fn after_silence(state: Rc<State>, end: End, policy: Policy, first: First) {
    match first {
        First::Http1 => http1::serve(state, policy, end).await,
        First::Http2 => Box::pin(http2::serve(state, policy, end)).await,
        First::Opaque(other) | First::Tls(Some(other)) => opaque::join(&state, end, other).await,
        First::Nobody | First::Tls(None) => end.abandon(),
    }
}

/// Where a connection was going; `None` if it is not to be served.
fn origin(state: &State, stream: &TcpStream, side: Side) -> Option<SocketAddr> {
    let address = match state.common.origin.of(stream, side) {
        Ok(address) => address,
        Err(error) => {
            if state.may_log() {
                tracing::warn!(%error, "refused a connection without an original destination; do the redirect rules exist?");
            }
            return None;
        }
    };
    let local: Vec<IpAddr> = match side {
        Side::Outbound => [stream.peer_addr(), stream.local_addr()]
            .into_iter()
            .flatten()
            .map(|end| end.ip().to_canonical())
            .collect(),
        Side::Inbound => vec![address.ip()],
    };
    if state.common.own.contain(address, &local) {
        if state.may_log() {
            tracing::warn!(%address, "refused a connection to one of the proxy's own ports: it would loop");
        }
        return None;
    }
    // A neighbour may send us packets for any address: the application is reached by this pod's, and nobody else is reached through it.
    if side == Side::Inbound && !state.local.contains(address.ip()) {
        if state.may_log() {
            tracing::warn!(%address, "refused an inbound connection to an address that is not this pod's");
        }
        return None;
    }
    Some(address)
}
