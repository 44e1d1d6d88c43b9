//! The process that holds a pod's namespaces open: process 1 of the sandbox, which does nothing
//! but bury orphans and leave when told. The usual `pause` is in a registry that a test machine
//! may not reach.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

fn main() {
    let mut awaited = SigSet::empty();
    awaited.extend([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    // Blocked, not ignored: as process 1, whatever has no handler would never arrive.
    awaited
        .thread_block()
        .expect("blocking signals of the own thread cannot fail");
    while let Ok(signal) = awaited.wait() {
        if signal != Signal::SIGCHLD {
            return;
        }
        bury_all();
    }
}

fn bury_all() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
