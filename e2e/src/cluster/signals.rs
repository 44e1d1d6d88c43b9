//! Cleaning up when the process is told to end: Ctrl-C does not run destructors.
//!
//! Signal handlers belong to the whole process, so this is the one place of the crate with a
//! static. The handlers stay once installed, so the thread that answers them stays too.

use std::sync::{Mutex, Once, PoisonError, Weak};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Something that must not stay behind.
pub(crate) trait CleanUp: Send + Sync {
    fn clean_up(&self);
}

static LEFT: Mutex<Vec<Weak<dyn CleanUp>>> = Mutex::new(Vec::new());
static LISTEN: Once = Once::new();

/// From now on SIGINT and SIGTERM clean this up, if it still exists, before they end the process.
pub(crate) fn clean_up_on_signals(what: Weak<dyn CleanUp>) {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain(|other| other.strong_count() > 0);
    left.push(what);
    LISTEN.call_once(|| {
        thread::spawn(listen);
    });
}

fn listen() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    let status = runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            // Without handlers the signals end the process at once, and `down` does the rest.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => 128 + 2,
            _ = terminate.recv() => 128 + 15,
        }
    });
    let left = std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner));
    for what in left.iter().filter_map(Weak::upgrade) {
        what.clean_up();
    }
    std::process::exit(status);
}
