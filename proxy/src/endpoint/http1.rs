//! HTTP/1.1 connections to one endpoint: a stack of idle ones, the most recently used on top.
//!
//! Readiness is looked at when a connection is taken, not awaited when it is put back: the look costs nothing and finds the connections that
//! the endpoint closed meanwhile. Idle ones are closed after [`IDLE`], before common servers close theirs (Node: 5 s), since a request that
//! meets a closing connection is lost unless hyper can prove that none of it was written.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;

use super::{Cause, ConnectError, Endpoint, SendError, connect};
use crate::body::RequestBody;

const IDLE: Duration = Duration::from_secs(3);
/// Idle connections kept for each endpoint and worker.
const MOST: usize = 256;

type Sender = SendRequest<RequestBody>;

#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

#[derive(Debug)]
pub struct Lease {
    endpoint: Rc<Endpoint>,
    sender: Sender,
}

impl Lease {
    pub fn release(self) {
        let mut idle = self.endpoint.http1.idle.borrow_mut();
        if idle.len() < MOST && !self.sender.is_closed() {
            idle.push(Idle {
                sender: self.sender,
                since: Instant::now(),
            });
        }
    }
}

impl Pool {
    /// The most recently used connection that is ready.
    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let mut position = idle.len();
        while position > 0 {
            position -= 1;
            if idle[position].sender.is_closed() {
                idle.swap_remove(position);
            } else if idle[position].sender.is_ready() {
                return Some(idle.swap_remove(position).sender);
            }
            // Neither: its last request's body is still on its way out. Leave it for later.
        }
        None
    }

    /// Closes what was idle too long and says how many are left.
    pub(super) fn sweep(&self, now: Instant) -> usize {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| {
            !idle.sender.is_closed() && now.saturating_duration_since(idle.since) < IDLE
        });
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
        idle.len()
    }
}

pub(super) async fn send(
    endpoint: &Rc<Endpoint>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, super::Lease), SendError> {
    // A pooled connection may turn out to be closed: then hyper gives the request back untouched and the next one is tried.
    while let Some(mut sender) = endpoint.http1.take() {
        match sender.try_send_request(request).await {
            Ok(response) => return Ok((response, lease(endpoint, sender))),
            Err(mut error) => match error.take_message() {
                Some(untouched) => request = untouched,
                None => return Err(SendError::Unknown(error.into_error())),
            },
        }
    }
    let mut sender = open(endpoint)
        .await
        .map_err(|error| Cause::Connect(Rc::new(error)))?;
    match sender.try_send_request(request).await {
        Ok(response) => Ok((response, lease(endpoint, sender))),
        Err(mut error) => match error.take_message() {
            Some(_untouched) => Err(Cause::Closed(error.into_error()).into()),
            None => Err(SendError::Unknown(error.into_error())),
        },
    }
}

fn lease(endpoint: &Rc<Endpoint>, sender: Sender) -> super::Lease {
    super::Lease::Http1(Lease {
        endpoint: endpoint.clone(),
        sender,
    })
}

async fn open(endpoint: &Rc<Endpoint>) -> Result<Sender, ConnectError> {
    let address = endpoint.address;
    let stream = connect(address).await?;
    let (sender, connection) = Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ConnectError::Handshake { address, source })?;
    spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%address, %error, "connection ended");
        }
    });
    Ok(sender)
}
