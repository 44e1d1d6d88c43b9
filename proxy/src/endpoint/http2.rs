//! HTTP/2 connections to one endpoint, with prior knowledge: one for all requests, and another one whenever the streams that the
//! endpoint allows are used up. Requests that arrive while the first connection is being made share it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::{Cause, ConnectError, Endpoint, SendError, connect};
use crate::body::RequestBody;
use crate::serve::LocalExecutor;

/// Streams on one connection even if the endpoint allows more: one TCP connection should not carry everything.
const MOST_STREAMS: usize = 1_000;
/// What HTTP/2 recommends as the least, assumed until the endpoint's settings arrive.
const FIRST_STREAMS: usize = 100;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const MAX_HEADERS: u32 = 256 * 1024;

type Opening = Shared<LocalBoxFuture<'static, Result<(), Rc<ConnectError>>>>;

#[derive(Debug, Default)]
pub(super) struct Pool {
    connections: RefCell<Vec<Rc<Connection>>>,
    opening: RefCell<Option<Opening>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<RequestBody>,
    streams: Cell<usize>,
    limit: Rc<Cell<usize>>,
}

/// One stream of a connection.
#[derive(Debug)]
pub struct Lease(Rc<Connection>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

impl Pool {
    fn take(&self) -> Option<Lease> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.sender.is_closed());
        let free = connections
            .iter()
            .find(|connection| connection.streams.get() < connection.limit.get())?;
        free.streams.set(free.streams.get() + 1);
        Some(Lease(free.clone()))
    }

    /// Forgets closed connections and says how many are left.
    pub(super) fn sweep(&self) -> usize {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.sender.is_closed());
        connections.len()
    }
}

pub(super) async fn send(
    endpoint: &Rc<Endpoint>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, super::Lease), SendError> {
    let mut closed = 0;
    loop {
        let lease = match endpoint.http2.take() {
            Some(lease) => lease,
            None => match open(endpoint).await {
                Ok(()) => continue,
                Err(cause) => return Err(Cause::Connect(cause).into()),
            },
        };
        match lease.0.sender.clone().try_send_request(request).await {
            Ok(response) => return Ok((response, super::Lease::Http2(lease))),
            Err(mut error) => match error.take_message() {
                // The connection was closing. Another one is worth a try, endlessly many are not.
                Some(untouched) if closed < 2 => {
                    request = untouched;
                    closed += 1;
                }
                Some(_untouched) => return Err(Cause::Closed(error.into_error()).into()),
                None => return Err(judge(error.into_error())),
            },
        }
    }
}

/// REFUSED_STREAM, and a stream above the last one of an orderly GOAWAY, were never processed (RFC 9113, 8.7).
fn judge(error: hyper::Error) -> SendError {
    let source =
        std::error::Error::source(&error).and_then(|source| source.downcast_ref::<h2::Error>());
    let refused = source.is_some_and(|h2| {
        h2.is_remote()
            && ((h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM))
                || (h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR)))
    });
    if refused {
        Cause::Refused(error).into()
    } else {
        SendError::Unknown(error)
    }
}

/// Opens a connection into the pool, or waits for the one that is being opened.
async fn open(endpoint: &Rc<Endpoint>) -> Result<(), Rc<ConnectError>> {
    let opening = endpoint
        .http2
        .opening
        .borrow_mut()
        .get_or_insert_with(|| start(endpoint))
        .clone();
    opening.await
}

/// In a task of its own: the request that asked first may be gone before the connection is there.
fn start(endpoint: &Rc<Endpoint>) -> Opening {
    let address = endpoint.address;
    let (done, opened) = oneshot::channel();
    let weak = Rc::downgrade(endpoint);
    spawn_local(async move {
        let handshake = handshake(address).await;
        let Some(endpoint) = weak.upgrade() else {
            return;
        };
        endpoint.http2.opening.borrow_mut().take();
        let _ = done.send(handshake.map_err(Rc::new).map(|connection| {
            endpoint
                .http2
                .connections
                .borrow_mut()
                .push(Rc::new(connection));
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

async fn handshake(address: SocketAddr) -> Result<Connection, ConnectError> {
    let stream = connect(address).await?;
    let (sender, mut driver) = Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ConnectError::Handshake { address, source })?;
    let limit = Rc::new(Cell::new(FIRST_STREAMS));
    let current = limit.clone();
    spawn_local(async move {
        let ended = poll_fn(|cx| {
            let polled = Pin::new(&mut driver).poll(cx);
            current.set(driver.current_max_send_streams().clamp(1, MOST_STREAMS));
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%address, %error, "connection ended");
        }
    });
    Ok(Connection {
        sender,
        streams: Cell::new(0),
        limit,
    })
}
