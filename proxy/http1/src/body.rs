//! A body on its way: what belongs to it, and how it goes on. Nothing waits for the whole: what came goes on at once.

use crate::Malformed;
use crate::chunks::{Chunks, Token};
use crate::framing::{Coding, Framing};

#[derive(Debug)]
pub struct Body {
    source: Source,
    coding: Coding,
}

#[derive(Debug)]
enum Source {
    Length(u64),
    Chunked(Chunks),
    Close(Open),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Yes,
    No,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed<'i> {
    /// How many of them belong to this body.
    pub taken: usize,
    /// What goes on as it is. If it is empty, what goes on was appended to the output.
    pub plain: &'i [u8],
}

impl Body {
    pub fn new(framing: Framing, coding: Coding) -> Body {
        let source = match framing {
            Framing::Empty => Source::Length(0),
            Framing::Length(length) => Source::Length(length),
            Framing::Chunked => Source::Chunked(Chunks::default()),
            Framing::Close => Source::Close(Open::Yes),
        };
        Body { source, coding }
    }

    /// A request's body goes on as it came.
    pub fn of_request(framing: Framing) -> Body {
        let coding = match framing {
            Framing::Chunked => Coding::Chunked,
            Framing::Empty | Framing::Length(_) | Framing::Close => Coding::Plain,
        };
        Body::new(framing, coding)
    }

    /// Takes what belongs to the body from the beginning of `input`.
    pub fn relay<'i>(
        &mut self,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Relayed<'i>, Malformed> {
        match &mut self.source {
            Source::Length(left) => {
                let taken =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= taken as u64;
                Ok(Relayed {
                    taken,
                    plain: &input[..taken],
                })
            }
            Source::Close(_) => Ok(match self.coding {
                Coding::Plain => Relayed {
                    taken: input.len(),
                    plain: input,
                },
                Coding::Chunked => {
                    if !input.is_empty() {
                        size(out, input.len() as u64);
                        out.extend_from_slice(input);
                        out.extend_from_slice(b"\r\n");
                    }
                    Relayed {
                        taken: input.len(),
                        plain: &[],
                    }
                }
            }),
            Source::Chunked(chunks) => {
                let mut rest = input;
                loop {
                    let token = match chunks.is_done() {
                        true => Token::More,
                        false => chunks.next(&mut rest)?,
                    };
                    match (token, self.coding) {
                        (Token::Size(length), Coding::Chunked) => size(out, length),
                        (Token::Data(data), _) => out.extend_from_slice(data),
                        (Token::ChunkEnd, Coding::Chunked) => out.extend_from_slice(b"\r\n"),
                        (Token::End, Coding::Chunked) => {
                            out.extend_from_slice(b"0\r\n");
                            out.extend_from_slice(chunks.trailers());
                            out.extend_from_slice(b"\r\n");
                        }
                        (Token::Size(_) | Token::ChunkEnd | Token::End, Coding::Plain) => {}
                        (Token::More, _) => break,
                    }
                }
                Ok(Relayed {
                    taken: input.len() - rest.len(),
                    plain: &[],
                })
            }
        }
    }

    pub fn is_done(&self) -> bool {
        match &self.source {
            Source::Length(left) => *left == 0,
            Source::Chunked(chunks) => chunks.is_done(),
            Source::Close(open) => *open == Open::No,
        }
    }

    /// The connection that the body came on has ended.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match &mut self.source {
            Source::Close(open) => {
                if *open == Open::Yes && self.coding == Coding::Chunked {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                *open = Open::No;
                Ok(())
            }
            Source::Length(0) => Ok(()),
            Source::Chunked(chunks) if chunks.is_done() => Ok(()),
            Source::Length(_) | Source::Chunked(_) => Err(Malformed::Truncated),
        }
    }

    /// The value of a trailer, once the body is done.
    pub fn trailer(&self, name: &str) -> Option<&[u8]> {
        let Source::Chunked(chunks) = &self.source else {
            return None;
        };
        chunks
            .trailers()
            .split(|b| *b == b'\n')
            .filter_map(|line| {
                let colon = line.iter().position(|b| *b == b':')?;
                Some((&line[..colon], line[colon + 1..].trim_ascii()))
            })
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

fn size(out: &mut Vec<u8>, size: u64) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut left = size;
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(left & 15) as usize];
        left >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}
