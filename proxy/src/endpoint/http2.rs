//! HTTP/2 connections to one endpoint, with prior knowledge: one for all requests, and another one whenever the streams that the
//! endpoint allows are used up. Requests that arrive while the first connection is being made share it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};
use h2::client::{Builder, SendRequest};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::way::Way;
use crate::identity::Inner;
use crate::limits::{Limits, header_list};
use crate::net::buffers::Buffers;
use crate::net::connect::ConnectError;
use crate::net::cork::{Uncork, cork};
use crate::net::end::End;
use crate::net::origin::Side;

/// Streams on one connection even if the endpoint allows more: one TCP connection should not carry everything.
const MOST_STREAMS: usize = 1_000;
/// What HTTP/2 recommends as the least, assumed until the endpoint's settings arrive.
const FIRST_STREAMS: usize = 100;
/// What one answer may have on its way unread. Nobody's share of the connection is taken by it: the connection's window is the product.
const STREAM_WINDOW: u32 = 64 * 1024;
/// A caller that leaves many requests behind has them reset here, while their answers are on the way: for so long those are expected. What comes
/// later counts as an error of the endpoint's, in a counter that never goes down, and this connection is everybody's.
const RESET_MEMORY: Duration = Duration::from_secs(30);
const MOST_RESET_ERRORS: usize = 1_000_000;

type Opening = Shared<LocalBoxFuture<'static, Result<(), Rc<ConnectError>>>>;

#[derive(Debug)]
pub struct Pool {
    way: Rc<Way>,
    buffers: Rc<Buffers>,
    header_list: u32,
    silence: Duration,
    connections: RefCell<Vec<Rc<Connection>>>,
    opening: RefCell<Option<Opening>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Bytes>,
    streams: Cell<usize>,
    shared: Rc<SharedState>,
}

/// What the connection's task tells.
#[derive(Debug)]
struct SharedState {
    limit: Cell<usize>,
    is_closed: Cell<bool>,
}

/// One stream of a connection.
#[derive(Debug)]
pub struct Lease(Rc<Connection>);

impl Lease {
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }

    /// It takes no more requests.
    pub fn close(&self) {
        self.0.shared.is_closed.set(true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

impl Pool {
    pub fn new(way: Rc<Way>, buffers: Rc<Buffers>, limits: &Limits) -> Pool {
        Pool {
            way,
            buffers,
            // Nothing is added to an answer of HTTP/2 on its way: one that a sidecar takes, the next one takes too.
            header_list: header_list(limits.answer(Side::Inbound)),
            silence: limits.silence,
            connections: RefCell::default(),
            opening: RefCell::default(),
        }
    }

    /// A stream on an open connection, or on a new one.
    pub async fn acquire(self: &Rc<Pool>) -> Result<Lease, Rc<ConnectError>> {
        loop {
            if let Some(lease) = self.take() {
                return Ok(lease);
            }
            self.open().await?;
        }
    }

    fn take(&self) -> Option<Lease> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.shared.is_closed.get());
        let free = connections
            .iter()
            .find(|connection| connection.streams.get() < connection.shared.limit.get())?;
        free.streams.set(free.streams.get() + 1);
        Some(Lease(free.clone()))
    }

    /// Forgets closed connections and says how many are left.
    pub fn sweep(&self) -> usize {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.shared.is_closed.get());
        connections.len()
    }

    /// Opens a connection into the pool, or waits for the one that is being opened.
    async fn open(self: &Rc<Pool>) -> Result<(), Rc<ConnectError>> {
        let opening = self
            .opening
            .borrow_mut()
            .get_or_insert_with(|| self.start())
            .clone();
        opening.await
    }

    /// In a task of its own: the request that asked first may be gone before the connection is there.
    fn start(self: &Rc<Pool>) -> Opening {
        let (way, buffers) = (self.way.clone(), self.buffers.clone());
        let address = way.address();
        let (header_list, silence) = (self.header_list, self.silence);
        let (done, opened) = oneshot::channel();
        let weak: Weak<Pool> = Rc::downgrade(self);
        spawn_local(async move {
            let handshake = handshake(&way, buffers, header_list, silence).await;
            let Some(pool) = weak.upgrade() else {
                return;
            };
            pool.opening.borrow_mut().take();
            let _ = done.send(handshake.map_err(Rc::new).map(|connection| {
                pool.connections.borrow_mut().push(Rc::new(connection));
            }));
        });
        async move {
            opened
                .await
                .unwrap_or_else(|_| Err(Rc::new(ConnectError::Abandoned { address })))
        }
        .boxed_local()
        .shared()
    }
}

async fn handshake(
    way: &Way,
    buffers: Rc<Buffers>,
    header_list: u32,
    silence: Duration,
) -> Result<Connection, ConnectError> {
    let address = way.address();
    let stream = way.open(Inner::Http2).await?;
    let (io, uncork) = cork(End::new(stream, buffers.clone()), buffers, silence);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(FIRST_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * MOST_STREAMS as u32)
        .max_concurrent_reset_streams(MOST_STREAMS)
        .reset_stream_duration(RESET_MEMORY)
        .max_local_error_reset_streams(Some(MOST_RESET_ERRORS))
        .max_header_list_size(header_list)
        .max_send_buffer_size(STREAM_WINDOW as usize);
    let (sender, connection) =
        builder
            .handshake(io)
            .await
            .map_err(|error| ConnectError::Handshake {
                address,
                reason: error.to_string(),
            })?;
    let shared = Rc::new(SharedState {
        limit: Cell::new(FIRST_STREAMS),
        is_closed: Cell::new(false),
    });
    spawn_local(drive(address, connection, uncork, shared.clone()));
    Ok(Connection {
        sender,
        streams: Cell::new(0),
        shared,
    })
}

async fn drive(
    address: SocketAddr,
    connection: h2::client::Connection<crate::net::cork::Cork, Bytes>,
    uncork: Uncork,
    shared: Rc<SharedState>,
) {
    let mut connection = pin!(connection);
    let ended = poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        let limit = connection.max_concurrent_send_streams();
        shared.limit.set(limit.clamp(1, MOST_STREAMS));
        match (uncork.poll_flush(cx), polled) {
            (Poll::Ready(Err(error)), Poll::Pending) => Poll::Ready(Err(error.to_string())),
            (_, polled) => polled.map_err(|error| error.to_string()),
        }
    });
    let ended = ended.await;
    shared.is_closed.set(true);
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended");
    }
}
