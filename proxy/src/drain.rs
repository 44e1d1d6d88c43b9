//! How a proxy ends: it says that it will, goes on serving while the word spreads, finishes what it has, and leaves.
//!
//! ```text
//! Serving --SIGTERM or POST /drain--> Draining --drain delay--> Closing --nothing left, or the deadline--> exit
//! ```
//!
//! `Draining`: not ready; everything is still accepted, but answers say `Connection: close` or GOAWAY, so that callers move on by themselves.
//! `Closing`: no new inbound connections, idle ones are closed. Outbound goes on to the end: the application may need it to finish its own work.
//! What is left are streams, and after them answers that their callers have not taken to the end: the proxy is what holds them, or its kernel
//! ([`untaken`](crate::net::untaken)).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use crate::metrics::Metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    Draining,
    Closing,
}

/// The phase, as connections see it.
#[derive(Clone, Debug)]
pub struct Phases(watch::Receiver<Phase>);

impl Phases {
    pub fn new() -> (watch::Sender<Phase>, Phases) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (sender, Phases(receiver))
    }

    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves when `phase` or a later one is reached; also when the proxy is gone.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the sender is gone, and with it the proxy.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

/// A request or an opaque connection in progress: what the proxy waits for before it leaves.
#[derive(Debug)]
pub struct Stream(Arc<Metrics>);

impl Stream {
    pub fn open(metrics: &Arc<Metrics>) -> Stream {
        metrics.streams.fetch_add(1, Ordering::Relaxed);
        Stream(metrics.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections of a worker have answers to write whose streams have ended: HTTP/2 queues what a caller does not take, and nothing
/// else does.
#[derive(Debug, Default)]
pub struct Unwritten(Cell<usize>);

impl Unwritten {
    pub fn connections(&self) -> usize {
        self.0.get()
    }
}

/// What one connection has to write.
#[derive(Debug)]
pub struct Outbox {
    all: Rc<Unwritten>,
    is_filled: Cell<bool>,
}

impl Outbox {
    pub fn new(all: &Rc<Unwritten>) -> Outbox {
        Outbox {
            all: all.clone(),
            is_filled: Cell::new(false),
        }
    }

    /// Fills it when the guard is dropped: a stream holds it, and ends before.
    pub fn filled_at_the_end(self: Rc<Outbox>) -> Filled {
        Filled(self)
    }

    fn fill(&self) {
        if !self.is_filled.replace(true) {
            self.all.0.set(self.all.0.get() + 1);
        }
    }

    /// All of it is the kernel's now, or nobody's.
    pub fn emptied(&self) {
        if self.is_filled.replace(false) {
            self.all.0.set(self.all.0.get() - 1);
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.emptied();
    }
}

#[derive(Debug)]
pub struct Filled(Rc<Outbox>);

impl Drop for Filled {
    fn drop(&mut self) {
        self.0.fill();
    }
}
