//! How a proxy ends: it says that it will, goes on serving while the word spreads, finishes what it has, and leaves.
//!
//! ```text
//! Serving --SIGTERM or POST /drain--> Draining --drain delay--> Closing --no stream left, or the deadline--> exit
//! ```
//!
//! `Draining`: not ready; everything is still accepted, but answers say `Connection: close` or GOAWAY, so that callers move on by themselves.
//! `Closing`: no new inbound connections, idle ones are closed. Outbound goes on to the end: the application may need it to finish its own work.

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
