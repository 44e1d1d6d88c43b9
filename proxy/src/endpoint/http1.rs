//! HTTP/1.1 connections to one endpoint: a stack of idle ones, the most recently used on top. An idle connection is a socket and two times, no
//! task and no buffer.
//!
//! Whether one is still open is looked at when it is taken, not awaited when it is put back: the look costs nothing and finds those that
//! the endpoint closed meanwhile. Idle ones are closed after [`IDLE`], before common servers close theirs (Node: 5 s), or before the time that the
//! endpoint itself has named.
//!
//! A node that went away says nothing. An idle connection to it looks open, and what is sent on it would be waited for until the kernel gives up, after a
//! quarter of an hour. So the kernel is told to give up soon, but for requests that an application may be slow to read.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::way::Way;
use crate::identity::Inner;
use crate::net::connect::ConnectError;
use crate::net::socket;
use crate::net::stream::Stream;

const IDLE: Duration = Duration::from_secs(3);
/// How long before the time that an endpoint has named its connection is not used any more.
const MARGIN: Duration = Duration::from_secs(1);
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// Idle connections kept for each endpoint and worker.
const MOST_IDLE: usize = 256;
/// Connections to one endpoint that a worker may have in use: a request above that is refused, not queued.
pub const MOST_IN_USE: usize = 4096;

#[derive(Debug)]
pub struct Pool {
    way: Rc<Way>,
    /// How long the endpoint may take to take what was sent.
    silence: Duration,
    idle: RefCell<Vec<Idle>>,
    in_use: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    until: Instant,
}

/// A connection in use by one request. Closed when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    pub stream: Stream,
    pub origin: Origin,
    /// Held for as long as the connection is.
    pub slot: Slot,
    bears_silence: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Fresh,
    /// It served another request before.
    Reused,
}

/// Which connections will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Any that seems to be open: the request can be repeated.
    Any,
    /// One that is open as far as the kernel knows: the request can be sent once only.
    Sure,
    Fresh,
}

#[derive(Debug)]
pub struct Slot(Rc<Pool>);

impl Slot {
    fn take(pool: &Rc<Pool>) -> Slot {
        pool.in_use.set(pool.in_use.get() + 1);
        Slot(pool.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_use.set(self.0.in_use.get() - 1);
    }
}

impl Pool {
    pub fn new(way: Rc<Way>, silence: Duration) -> Pool {
        Pool {
            way,
            silence,
            idle: RefCell::default(),
            in_use: Cell::new(0),
        }
    }

    /// A pooled connection, or a new one.
    pub async fn acquire(self: &Rc<Pool>, wanted: Wanted) -> Result<Upstream, ConnectError> {
        if self.in_use.get() >= MOST_IN_USE {
            return Err(ConnectError::TooMany {
                address: self.way.address(),
                most: MOST_IN_USE,
            });
        }
        let slot = Slot::take(self);
        if wanted != Wanted::Fresh
            && let Some(stream) = self.take(wanted)
        {
            return Ok(Upstream {
                stream,
                origin: Origin::Reused,
                slot,
                bears_silence: false,
            });
        }
        // In a box: a pooled connection does not pay for it.
        let stream = Box::pin(self.way.open(Inner::Http1)).await?;
        stream.with_tcp(|tcp| socket::notice_silence(tcp, self.silence));
        Ok(Upstream {
            stream,
            origin: Origin::Fresh,
            slot,
            bears_silence: false,
        })
    }

    /// The most recently used connection that is open.
    fn take(&self, wanted: Wanted) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { stream, .. }) = idle.pop() {
            if is_open(&stream) && (wanted == Wanted::Any || is_really_open(&stream)) {
                return Some(stream);
            }
        }
        None
    }

    /// Closes what was idle too long and says how many are left, or in use.
    pub fn sweep(&self, now: Instant) -> usize {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| now < idle.until && is_open(&idle.stream));
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
        idle.len() + self.in_use.get()
    }
}

impl Upstream {
    /// What is sent on it may be read as slowly as the endpoint likes: more than a kernel has room for, or what is no HTTP any more.
    pub fn bear_silence(&mut self) {
        self.stream.with_tcp(socket::bear_silence);
        self.bears_silence = true;
    }

    /// The answer is complete: the connection may serve another request, for as long as the endpoint has `named`.
    pub fn release(self, named: Option<Duration>, now: Instant) {
        let Upstream {
            stream,
            slot,
            bears_silence,
            ..
        } = self;
        if bears_silence {
            stream.with_tcp(|tcp| socket::notice_silence(tcp, slot.0.silence));
        }
        let mut idle = slot.0.idle.borrow_mut();
        let time = match named {
            Some(named) => named.saturating_sub(MARGIN).min(LONGEST_IDLE),
            None => IDLE,
        };
        if idle.len() < MOST_IDLE && !time.is_zero() {
            idle.push(Idle {
                stream,
                until: now + time,
            });
        }
    }
}

/// As far as the event loop has heard. An endpoint has nothing to say on an idle connection: whatever it sends, the end or more, ends it.
fn is_open(stream: &Stream) -> bool {
    let ready = stream.poll_read_ready(&mut Context::from_waker(Waker::noop()));
    match (ready, stream) {
        (Poll::Pending, _) => true,
        (Poll::Ready(Ok(())), Stream::Plain(stream)) => {
            let read = stream.try_read(&mut [0]);
            read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        }
        (Poll::Ready(Ok(())), Stream::Mesh(_)) | (Poll::Ready(Err(_)), _) => false,
    }
}

/// As far as the kernel knows: costs a system call.
fn is_really_open(stream: &Stream) -> bool {
    let peeked = stream.with_tcp(|tcp| SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]));
    peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
