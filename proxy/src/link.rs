//! Whether there is a control plane: what `/ready` and connections to new destinations go by.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::control::Link;

/// How long connections to new destinations go on waiting for answers after the control plane was lost. Later they are passed
/// through at once: a control plane that is away for long must not cost every new destination a second.
const HOPE: Duration = Duration::from_secs(10);

/// Whether there is a control plane, for every thread to read.
#[derive(Debug)]
pub struct LinkState {
    start: Instant,
    /// Milliseconds from `start` to the moment the stream was lost; `CONNECTED` while there is one.
    lost: AtomicU64,
    ever: AtomicU64,
    /// The pod's first certificate is on its way.
    unidentified: AtomicBool,
}

const CONNECTED: u64 = u64::MAX;

impl LinkState {
    pub fn new() -> LinkState {
        LinkState {
            start: Instant::now(),
            lost: AtomicU64::new(0),
            ever: AtomicU64::new(0),
            unidentified: AtomicBool::new(false),
        }
    }

    pub fn set(&self, link: Link) {
        let value = match link {
            Link::Connected => {
                self.ever.store(1, Ordering::Release);
                CONNECTED
            }
            Link::Disconnected if self.lost.load(Ordering::Acquire) != CONNECTED => return,
            Link::Disconnected => u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0),
        };
        self.lost.store(value, Ordering::Release);
    }

    /// Whether an answer to a demand may still come.
    pub fn is_hopeful(&self) -> bool {
        let lost = self.lost.load(Ordering::Acquire);
        lost == CONNECTED || self.start.elapsed() < Duration::from_millis(lost) + HOPE
    }

    pub fn is_connected(&self) -> bool {
        self.lost.load(Ordering::Acquire) == CONNECTED
    }

    pub fn was_ever_connected(&self) -> bool {
        self.ever.load(Ordering::Acquire) == 1
    }

    /// A certificate is going to be asked for.
    pub fn await_identity(&self) {
        self.unidentified.store(true, Ordering::Release);
    }

    /// The pod has a certificate, or it is known that it gets none.
    pub fn settle_identity(&self) {
        self.unidentified.store(false, Ordering::Release);
    }

    /// Whether nothing more is waited for: the control plane was reached once, and the pod has a certificate if it is to have one.
    pub fn is_settled(&self) -> bool {
        self.was_ever_connected() && !self.unidentified.load(Ordering::Acquire)
    }

    /// Since the proxy started.
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Default for LinkState {
    fn default() -> LinkState {
        LinkState::new()
    }
}
