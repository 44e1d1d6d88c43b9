//! HTTP/2: a task for a caller's connection, and one for each of its streams. All frames that one look at a connection produces leave in one
//! write.
//!
//! In a drain, GOAWAY is sent at once, but not before a first request on a connection that was opened meanwhile:
//! its caller has not heard of the drain, and a connection that closes unused looks like a failure.

mod attempt;
mod head;
mod pump;
mod refusals;
mod stream;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::task::spawn_local;

use crate::drain::{Outbox, Phase};
use crate::exchange::Policy;
use crate::limits::header_list;
use crate::metrics::Limit;
use crate::net::cork::{Cork, Uncork, cork};
use crate::net::end::End;
use crate::state::State;
use refusals::{Refusals, Watched};

/// What one request may have on its way unread. Nobody's share of the connection is taken by it: the connection's window is the product.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Serves a caller until it or a drain ends.
pub(crate) async fn serve(state: Rc<State>, policy: Policy, end: End) {
    let silence = state.common.limits.silence;
    let (io, uncork) = cork(end, state.buffers.clone(), silence);
    let refusals = Rc::new(Refusals::new(state.metrics().clone()));
    let io = Watched::new(io, refusals.clone());
    let limits = state.common.limits;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * limits.streams)
        .max_header_list_size(header_list(limits.request(policy.side())))
        .max_send_buffer_size(STREAM_WINDOW as usize);
    // It waits for nothing: the preface, by which the caller is known to speak HTTP/2, is in the input. Or for a sidecar's, which has said before that it
    // will come.
    let connection = match builder.handshake::<_, Bytes>(io).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "no HTTP/2 after all");
            return;
        }
    };
    let carried = Carried {
        connection,
        uncork,
        refusals,
    };
    if let Err(error) = drive(state, policy, carried).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection that has begun.
struct Carried {
    connection: Connection<Watched<Cork>, Bytes>,
    uncork: Uncork,
    refusals: Rc<Refusals>,
}

async fn drive(state: Rc<State>, policy: Policy, carried: Carried) -> Result<(), Broken> {
    let Carried {
        mut connection,
        uncork,
        refusals,
    } = carried;
    let policy = Rc::new(policy);
    let outbox = Rc::new(Outbox::new(&state.unwritten));
    let phases = state.common.phases.clone();
    let opened = phases.now();
    let mut had_request = false;
    let (mut draining, mut closing) = (phases.clone(), phases);
    let mut draining = pin!(draining.reached(Phase::Draining));
    let mut closing = pin!(closing.reached(Phase::Closing));
    let (mut is_draining, mut is_closing, mut said) = (false, false, false);
    let ended = poll_fn(|cx| {
        is_draining = is_draining || draining.as_mut().poll(cx).is_ready();
        is_closing = is_closing || (is_draining && closing.as_mut().poll(cx).is_ready());
        loop {
            let was_told = |phase| had_request || opened < phase;
            let leaves = (is_draining && was_told(Phase::Draining))
                || (is_closing && was_told(Phase::Closing));
            if leaves && !said {
                said = true;
                connection.graceful_shutdown();
            }
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    had_request = true;
                    refusals.accepted(respond.stream_id().into());
                    // In a box: a task is moved several times on its way.
                    spawn_local(Box::pin(stream::serve(
                        state.clone(),
                        policy.clone(),
                        request,
                        respond,
                        outbox.clone(),
                    )));
                }
                Poll::Ready(Some(Err(error))) => {
                    // What it says to the caller (GOAWAY) has to leave.
                    let _ = uncork.poll_flush(cx);
                    return Poll::Ready(Err(error.into()));
                }
                Poll::Ready(None) => return uncork.poll_flush(cx).map(|_| Ok(())),
                Poll::Pending => break,
            }
        }
        match uncork.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) => {
                // h2 has nothing left either: what the cork does not take, it does not take because nothing can be written.
                outbox.emptied();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    });
    let ended = ended.await;
    if let Err(Broken::Http2(error)) = &ended
        && let Some(limit) = reached(error)
    {
        state.metrics().refused(limit);
    }
    ended
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The limit for which h2 has ended a connection: it counts resets, and frames that say nothing, and reads no field without end in a head that is too
/// large. A caller may end its connection with the same codes, and then nothing was refused.
fn reached(error: &h2::Error) -> Option<Limit> {
    match error.reason() {
        _ if !error.is_library() => None,
        Some(Reason::ENHANCE_YOUR_CALM) => Some(Limit::Frames),
        // What is no HPACK ends with another one.
        Some(Reason::COMPRESSION_ERROR) => Some(Limit::Head),
        Some(_) | None => None,
    }
}
