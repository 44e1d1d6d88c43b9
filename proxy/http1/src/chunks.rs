//! The chunked coding (RFC 9112, 7.1), read byte by byte in whatever pieces it comes: sizes, data and ends come out, extensions do not.

use crate::Malformed;
use crate::fields::field;
use crate::scan::MOST_FIELDS;

/// Extensions and padding after the sizes, in all of a body. They go no further, but must not cost endless reading.
const MOST_EXTENSIONS: usize = 16 * 1024;
/// Trailers, their line ends included.
const MOST_TRAILERS: usize = 16 * 1024;

#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    extensions: usize,
    /// Raw while they come; then as they go on.
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64, quiet: bool },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { line: usize },
    TrailerLf { line: usize },
    End,
}

impl Default for State {
    fn default() -> State {
        State::Size { size: 0, digits: 0 }
    }
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'i> {
    /// A chunk of this size begins; it is not the last one.
    Size(u64),
    Data(&'i [u8]),
    ChunkEnd,
    /// The body is over. [`Chunks::trailers`] are whole.
    End,
    /// All bytes are taken.
    More,
}

impl Chunks {
    /// Takes bytes from the beginning of `input`, and says what they were.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Token<'i>, Malformed> {
        loop {
            if let State::Data { left } = self.state {
                let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                if take == 0 {
                    return Ok(Token::More);
                }
                let (data, rest) = input.split_at(take);
                *input = rest;
                self.state = match left - take as u64 {
                    0 => State::DataCr,
                    left => State::Data { left },
                };
                return Ok(Token::Data(data));
            }
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(Token::More);
            };
            *input = rest;
            let (next, token) = self.step(byte)?;
            self.state = next;
            if let Some(token) = token {
                return Ok(token);
            }
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// The trailers that go on, as lines. Whole at the end.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn step(&mut self, byte: u8) -> Result<(State, Option<Token<'static>>), Malformed> {
        let next = match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                // Fifteen digits: no sum of sizes that matters overflows.
                if digits == 15 {
                    return Err(Malformed::ChunkSize);
                }
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                State::Size {
                    size: size << 4 | digit,
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Malformed::ChunkSize),
            (State::Size { size, .. }, b'\r') => State::SizeLf { size },
            (State::Size { size, .. }, b';') => self.extension(size, false)?,
            (State::Size { size, .. }, b' ' | b'\t') => self.extension(size, true)?,
            (State::Size { .. }, _) => return Err(Malformed::ChunkSize),
            (State::Extension { size, .. }, b'\r') => State::SizeLf { size },
            // Padding, up to a real extension.
            (State::Extension { size, quiet: true }, b' ' | b'\t') => self.extension(size, true)?,
            (State::Extension { size, quiet: true }, b';') => self.extension(size, false)?,
            (State::Extension { size, quiet: false }, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.extension(size, false)?
            }
            (State::Extension { .. }, _) => return Err(Malformed::ChunkExtension),
            (State::SizeLf { size: 0 }, b'\n') => State::Trailer { line: 0 },
            (State::SizeLf { size }, b'\n') => {
                return Ok((State::Data { left: size }, Some(Token::Size(size))));
            }
            (State::SizeLf { .. }, _) => return Err(Malformed::ChunkSize),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                return Ok((State::default(), Some(Token::ChunkEnd)));
            }
            (State::DataCr | State::DataLf, _) => return Err(Malformed::ChunkEnd),
            (State::Trailer { line }, b'\r') => State::TrailerLf { line },
            (State::Trailer { .. }, b'\n') => return Err(Malformed::Trailer),
            (State::Trailer { line }, _) => {
                self.trailer(byte)?;
                State::Trailer { line: line + 1 }
            }
            (State::TrailerLf { line: 0 }, b'\n') => {
                self.finish_trailers()?;
                return Ok((State::End, Some(Token::End)));
            }
            (State::TrailerLf { .. }, b'\n') => {
                self.trailer(b'\r')?;
                self.trailer(b'\n')?;
                State::Trailer { line: 0 }
            }
            (State::TrailerLf { .. }, _) => return Err(Malformed::Trailer),
            (State::Data { .. }, _) | (State::End, _) => return Ok((self.state, Some(Token::End))),
        };
        Ok((next, None))
    }

    fn extension(&mut self, size: u64, quiet: bool) -> Result<State, Malformed> {
        self.extensions += 1;
        if self.extensions > MOST_EXTENSIONS {
            return Err(Malformed::ChunkExtension);
        }
        Ok(State::Extension { size, quiet })
    }

    fn trailer(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.trailers.len() == MOST_TRAILERS {
            return Err(Malformed::Trailer);
        }
        self.trailers.push(byte);
        Ok(())
    }

    /// Writes the trailers anew, without those that would say something about this message's way or its end (RFC 9110, 6.5.1).
    fn finish_trailers(&mut self) -> Result<(), Malformed> {
        if self.trailers.is_empty() {
            return Ok(());
        }
        let mut raw = std::mem::take(&mut self.trailers);
        raw.extend_from_slice(b"\r\n");
        let mut lines = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let Ok(httparse::Status::Complete((length, lines))) =
            httparse::parse_headers(&raw, &mut lines)
        else {
            return Err(Malformed::Trailer);
        };
        if length != raw.len() {
            return Err(Malformed::Trailer);
        }
        for line in lines {
            if !is_forbidden(line.name) {
                field(&mut self.trailers, line.name, line.value);
            }
        }
        // Written anew they may be longer, and the next proxy may have the same limit.
        if self.trailers.len() > MOST_TRAILERS {
            return Err(Malformed::Trailer);
        }
        Ok(())
    }
}

fn is_forbidden(name: &str) -> bool {
    [
        "transfer-encoding",
        "content-length",
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "content-encoding",
        "content-type",
        "content-range",
        "authorization",
        "set-cookie",
        "x-aviary-unsent",
        "x-aviary-peer",
    ]
    .iter()
    .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}
