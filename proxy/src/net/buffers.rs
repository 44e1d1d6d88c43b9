//! Buffers of a worker. A connection has one only while there is something in it: thousands of idle connections own none.

use std::cell::RefCell;

/// What most heads and bodies fit into.
pub const SMALL: usize = 16 * 1024;
/// For bodies that do not.
pub const LARGE: usize = 64 * 1024;
/// Kept for the next one, of each size.
const KEPT: usize = 32;

#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub fn small(&self) -> Vec<u8> {
        let kept = self.small.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    pub fn large(&self) -> Vec<u8> {
        let kept = self.large.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(LARGE))
    }

    /// Takes a buffer back. One that has outgrown its size is let go.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let kept = match buffer.capacity() {
            SMALL => &self.small,
            LARGE => &self.large,
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
