//! Where the frames of a WebSocket end (RFC 6455, 5.2), in whatever pieces their bytes come. Nothing else of them is read, and nothing is refused: who sends
//! nonsense is between the two ends. Between two frames is where somebody on the way may put one of its own, also in the middle of a fragmented message (5.4).

/// The end of one direction from a server that goes away (status 1001), which leaves the client to call again (RFC 6455, 7.4.1).
pub const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 8;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// The longest head: two bytes, a length of eight, a mask of four.
const HEAD: usize = 14;

/// One direction of a WebSocket, from its beginning on.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    head: [u8; HEAD],
    /// So much of a head is there.
    have: usize,
    /// So much of a payload is not.
    left: u64,
    /// A frame has said that it is the last one.
    closed: bool,
}

impl Frames {
    /// Whether the bytes so far end with a frame.
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a Close frame has begun: nobody may send another frame after it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// These come next.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// How many of the bytes that come next belong to the frame that is under way; nothing between two frames.
    pub fn rest(&self, bytes: &[u8]) -> usize {
        let (mut frames, mut taken) = (self.clone(), 0);
        while !frames.is_between() && taken < bytes.len() {
            taken += frames.step(&bytes[taken..]);
        }
        taken
    }

    /// Takes what belongs together of `bytes`, which are not empty, and says how many those are.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let take = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= take as u64;
            return take;
        }
        self.head[self.have] = bytes[0];
        self.have += 1;
        if self.have == head_length(&self.head[..self.have]) {
            self.left = payload(&self.head);
            self.closed |= self.head[0] & OPCODE == CLOSE;
            self.have = 0;
        }
        1
    }
}

/// How long a head is that begins so.
fn head_length(begun: &[u8]) -> usize {
    let Some(&second) = begun.get(1) else {
        return 2;
    };
    let length = match second & LENGTH {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & MASKED == 0 { 0 } else { 4 };
    2 + length + mask
}

/// How long the payload is that a whole head announces.
fn payload(head: &[u8; HEAD]) -> u64 {
    match head[1] & LENGTH {
        126 => u64::from(u16::from_be_bytes([head[2], head[3]])),
        127 => {
            let mut length = [0; 8];
            length.copy_from_slice(&head[2..10]);
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of this opcode with so many bytes.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let mask = if masked { MASKED } else { 0 };
        match length {
            0..=125 => frame.push(mask | u8::try_from(length).unwrap()),
            126..=65_535 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        // What is in it looks like Close frames.
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    fn frames() -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for length in [0, 1, 2, 125, 126, 127, 300, 65_535, 65_536, 70_000] {
            for masked in [false, true] {
                frames.push(frame(2, length, masked));
            }
        }
        frames
    }

    #[test]
    fn a_frame_ends_where_its_length_says_whatever_pieces_it_comes_in() {
        for size in [1, 2, 3, 5, 1_000, usize::MAX] {
            let mut seen = Frames::default();
            for frame in frames() {
                let pieces = frame.chunks(size.min(frame.len()));
                let last = pieces.len() - 1;
                for (number, piece) in pieces.enumerate() {
                    seen.pass(piece);
                    assert_eq!(seen.is_between(), number == last);
                }
            }
            assert!(!seen.is_closed());
        }
    }

    #[test]
    fn the_rest_of_a_frame_reaches_to_its_end_and_no_further() {
        let next = frame(1, 5, false);
        for frame in frames() {
            for seen in [1, 2, 3, frame.len() / 2, frame.len() - 1] {
                let seen = seen.min(frame.len() - 1);
                let mut frames = Frames::default();
                frames.pass(&frame[..seen]);
                let coming = [&frame[seen..], &next].concat();
                assert_eq!(frames.rest(&coming), frame.len() - seen);
                let some = (frame.len() - seen) / 2;
                assert_eq!(frames.rest(&coming[..some]), some);
            }
        }
        assert_eq!(Frames::default().rest(&next), 0);
    }

    #[test]
    fn only_a_frame_that_is_one_closes() {
        let mut seen = Frames::default();
        seen.pass(&frame(9, 100, false));
        assert!(!seen.is_closed());
        seen.pass(&GOING_AWAY);
        assert!(seen.is_closed() && seen.is_between());
    }

    #[test]
    fn our_own_goodbye_is_one_frame() {
        assert_eq!(GOING_AWAY[..2], frame(CLOSE, 2, false)[..2]);
        assert_eq!(u16::from_be_bytes([GOING_AWAY[2], GOING_AWAY[3]]), 1001);
    }
}
