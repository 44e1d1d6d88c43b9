//! What was read from a connection and not used yet. Without a buffer as long as there is nothing.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::buffers::{Buffers, LARGE};
use super::stream::ReadHalf;

#[derive(Debug)]
pub struct Input {
    buffers: Rc<Buffers>,
    bytes: Vec<u8>,
    /// What lies before this was used.
    start: usize,
    next: Size,
}

/// The buffer that the next read gets, if there is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Small,
    Large,
}

impl Input {
    pub fn new(buffers: Rc<Buffers>) -> Input {
        Input {
            buffers,
            bytes: Vec::new(),
            start: 0,
            next: Size::Small,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The first `count` bytes are used.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            self.give_back();
        }
    }

    /// Reads what there is, behind what is there already. Zero: the peer will send no more.
    pub fn poll_fill(
        &mut self,
        from: &mut ReadHalf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(from.poll_read_ready(cx))?;
        self.make_room();
        let free = self.bytes.capacity() - self.bytes.len();
        let polled = from.poll_read(cx, &mut self.bytes);
        match &polled {
            // A full buffer: more is on its way, and goes in larger pieces.
            Poll::Ready(Ok(read)) if *read == free => self.next = Size::Large,
            Poll::Ready(Ok(_)) => self.next = Size::Small,
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        if self.is_empty() {
            self.give_back();
        }
        polled
    }

    pub async fn fill(&mut self, from: &mut ReadHalf<'_>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(from, cx)).await
    }

    /// Whether another read would not make the buffer grow.
    pub fn has_room(&self) -> bool {
        self.bytes.capacity() == 0 || self.bytes.len() < self.bytes.capacity()
    }

    fn make_room(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = match self.next {
                Size::Small => self.buffers.small(),
                Size::Large => self.buffers.large(),
            };
        }
        if self.start > 0 && self.bytes.len() == self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.len() == self.bytes.capacity() {
            let wanted = (2 * self.bytes.capacity()).max(LARGE);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
    }

    fn give_back(&mut self) {
        self.start = 0;
        self.buffers.give(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.give_back();
    }
}
