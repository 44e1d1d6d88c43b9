//! Connections to the xDS server: one stays for as long as somebody on it has shown who they are.
//!
//! Anybody can open connections, and streams of one pod end the older ones but not their connections. So a connection without an entered stream ends after
//! [`ALONE`], and there are only so many of these: a new one gets its place from whoever has the most.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Extensions;
use tonic::transport::server::Connected;

use crate::serve::places::{Place, Places};

/// So long may a connection be without a stream whose pod is known. An honest sidecar opens one at once.
const ALONE: Duration = Duration::from_secs(10);
/// Connections without one, at once.
const MOST: usize = 4096;
/// Of one address: some networks show all pods of a node under the node's.
const MOST_OF_ONE: usize = 1024;

/// Where connections are welcomed.
#[derive(Clone)]
pub(super) struct Visits(Arc<Places<IpAddr>>);

/// A connection.
pub(super) struct Visitor<Io> {
    io: Io,
    visit: Visit,
    look: Pin<Box<Sleep>>,
    lost: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Which of its places `lost` is about.
    turn: u64,
}

/// What requests of a connection know of it. Clones are the same.
#[derive(Clone)]
pub(super) struct Visit(Arc<Mutex<State>>);

struct State {
    visits: Visits,
    peer: IpAddr,
    /// Entered streams.
    entered: usize,
    /// While there is none.
    place: Option<Place<IpAddr>>,
    since: Instant,
    turn: u64,
}

/// An entered stream: while it lives its connection stays.
pub(super) struct Stay(Visit);

impl Visits {
    pub(super) fn new() -> Visits {
        Visits::bounded(MOST, MOST_OF_ONE)
    }

    fn bounded(most: usize, most_of_one: usize) -> Visits {
        Visits(Places::new(most, most_of_one))
    }

    pub(super) fn welcome_tls(&self, io: TlsStream<TcpStream>) -> Visitor<TlsStream<TcpStream>> {
        let peer = io.get_ref().0.peer_addr();
        // One that is gone already.
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| {
            peer.ip().to_canonical()
        });
        self.welcome(io, peer)
    }

    fn welcome<Io>(&self, io: Io, peer: IpAddr) -> Visitor<Io> {
        let place = self.0.take(peer);
        let lost = Box::pin(place.lost().cancelled_owned());
        let since = Instant::now();
        let state = State {
            visits: self.clone(),
            peer,
            entered: 0,
            place: Some(place),
            since,
            turn: 0,
        };
        Visitor {
            io,
            visit: Visit(Arc::new(Mutex::new(state))),
            look: Box::pin(tokio::time::sleep_until(since + ALONE)),
            lost,
            turn: 0,
        }
    }
}

impl Visit {
    /// Of the connection that a request came on.
    pub(super) fn of(extensions: &Extensions) -> Option<&Visit> {
        extensions.get()
    }

    /// Somebody on it has shown who they are.
    pub(super) fn stay(&self) -> Stay {
        let mut state = self.state();
        state.entered += 1;
        state.place = None;
        drop(state);
        Stay(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.entered -= 1;
        if state.entered == 0 {
            state.place = Some(state.visits.0.take(state.peer));
            state.since = Instant::now();
            state.turn += 1;
        }
    }
}

impl<Io> Visitor<Io> {
    /// Why the connection is to end, if it is. Asked whenever the connection reads, and at least every [`ALONE`].
    fn is_over(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        let state = self.visit.state();
        let place = state.place.as_ref();
        if let Some(place) = place.filter(|_| state.turn != self.turn) {
            self.turn = state.turn;
            self.lost = Box::pin(place.lost().cancelled_owned());
        }
        if place.is_some() && self.lost.as_mut().poll(context).is_ready() {
            let text = "newer connections without a stream took the place of this one";
            return Some(io::Error::new(io::ErrorKind::ConnectionAborted, text));
        }
        while self.look.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let until = match place {
                Some(_) => state.since + ALONE,
                None => now + ALONE,
            };
            if until <= now {
                let text = "nobody on this connection has shown who they are";
                return Some(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            self.look.as_mut().reset(until);
        }
        None
    }
}

impl<Io> Connected for Visitor<Io> {
    type ConnectInfo = Visit;

    fn connect_info(&self) -> Visit {
        self.visit.clone()
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Visitor<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.is_over(context) {
            Some(over) => Poll::Ready(Err(over)),
            None => Pin::new(&mut this.io).poll_read(context, buffer),
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Visitor<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
