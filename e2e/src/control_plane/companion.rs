//! A process beside the control plane that ends with its owner, and when this process is told to end.

use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cluster::signals::{CleanUp, clean_up_on_signals};
use crate::cluster::{Process, wait_until};

const ENDS: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Companion {
    child: Mutex<Option<Child>>,
}

impl Companion {
    /// One without a process yet.
    pub(super) fn registered() -> Arc<Companion> {
        let companion = Arc::new(Companion::default());
        let for_signals: Weak<Companion> = Arc::downgrade(&companion);
        clean_up_on_signals(for_signals);
        companion
    }

    pub(super) fn set(&self, child: Child) {
        self.with(|ours| *ours = Some(child));
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.with(|child| child.as_ref().map(Child::id))
    }

    pub(super) fn is_alive(&self) -> bool {
        self.with(|child| {
            child
                .as_mut()
                .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
        })
    }

    /// With a moment to end by itself.
    pub(super) fn stop(&self) {
        if let Some(mut child) = self.with(Option::take) {
            if let Some(process) = Process::of(&child) {
                process.signal(Signal::SIGTERM);
            }
            if !wait_until(ENDS, || matches!(child.try_wait(), Ok(Some(_)) | Err(_))) {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }

    pub(super) fn kill(&self) {
        if let Some(mut child) = self.with(Option::take) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.with(|child| {
            if let Some(process) = child.as_ref().and_then(Process::of) {
                process.signal(signal);
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Option<Child>) -> T) -> T {
        work(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CleanUp for Companion {
    fn clean_up(&self) {
        self.stop();
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.stop();
    }
}
