//! The guard as a whole: against the reference, over every short history, and against everything that may be fed to it.

mod batches;
mod chance;
mod histories;
mod reference;
mod restart;
mod stories;

use super::eprocess::{EProcess, Turn};
use super::*;

fn limits() -> Limits {
    Limits::try_new(10_000, 5_000).unwrap()
}

fn second(at: i64, epoch: u64, canary: (u64, u64), stable: (u64, u64)) -> Second {
    let arm = |counts: (u64, u64)| Arm {
        counts: counts.into(),
        latency: Sketch::default(),
    };
    Second {
        at,
        epoch,
        canary: arm(canary),
        stable: arm(stable),
    }
}
