//! What came of requests, counted by class.

use std::sync::atomic::{AtomicU64, Ordering};

use traffic_core::outcome::Class;

/// One counter per class.
#[derive(Debug, Default)]
pub struct ByClass([AtomicU64; 4]);

impl ByClass {
    pub fn add(&self, class: Class) {
        self.0[class.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self, class: Class) -> u64 {
        self.0[class.index()].load(Ordering::Relaxed)
    }
}
