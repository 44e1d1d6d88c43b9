//! Data that was read and waits, or is kept. Small frames become one: then each costs its bytes, and neither a place of its own nor the buffer that it was
//! read into.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this size are joined.
const SMALL: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Pieces(VecDeque<Piece>);

#[derive(Debug)]
enum Piece {
    AsItCame(Bytes),
    Joined(BytesMut),
}

impl Pieces {
    /// Behind what is there already. A small one may become a part of the last.
    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() < SMALL
            && let Some(last) = self.0.back_mut()
            && last.takes(&data)
        {
            return;
        }
        self.0.push_back(Piece::AsItCame(data));
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        match self.0.pop_front()? {
            Piece::AsItCame(data) => Some(data),
            Piece::Joined(data) => Some(data.freeze()),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Bytes> {
        match self.0.get(index)? {
            Piece::AsItCame(data) => Some(data.clone()),
            Piece::Joined(data) => Some(Bytes::copy_from_slice(data)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Piece {
    fn takes(&mut self, data: &[u8]) -> bool {
        match self {
            Piece::Joined(joined) => joined.extend_from_slice(data),
            Piece::AsItCame(first) if first.len() < SMALL => {
                let mut joined = BytesMut::with_capacity(SMALL);
                joined.extend_from_slice(first);
                joined.extend_from_slice(data);
                *self = Piece::Joined(joined);
            }
            Piece::AsItCame(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one_and_nothing_changes_its_place() {
        let mut pieces = Pieces::default();
        let large = "x".repeat(SMALL);
        for data in ["a", "b", &large, "c", "", "d", &large, &large] {
            pieces.push(Bytes::copy_from_slice(data.as_bytes()));
        }
        let expected = ["ab", &large, "cd", &large, &large];
        assert_eq!(pieces.len(), expected.len());
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(pieces.get(index).unwrap(), expected.as_bytes());
        }
        for expected in expected {
            assert_eq!(pieces.pop().unwrap(), expected.as_bytes());
        }
        assert!(pieces.is_empty() && pieces.pop().is_none());
    }
}
