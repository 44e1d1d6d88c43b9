//! Everything that is refused, and the status that a request gets for it.

/// Why a message is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a line of the head does not end with CR LF")]
    LineEnd,
    #[error("the head is larger than the proxy takes")]
    HeadTooLarge,
    #[error("the head has more fields than the proxy takes")]
    TooManyFields,
    #[error("the first line or a field is no HTTP")]
    Syntax,
    #[error("the request target is neither a path nor an http URI")]
    Target,
    #[error("CONNECT is not supported")]
    Connect,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("Host appears more than once")]
    Hosts,
    #[error("Host is no host")]
    Host,
    #[error("Content-Length is no number")]
    Length,
    #[error("Content-Length appears with different values")]
    Lengths,
    #[error("Content-Length and Transfer-Encoding appear together")]
    LengthAndCoding,
    #[error("Transfer-Encoding is not exactly `chunked`")]
    Coding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInOldVersion,
    #[error("a chunk's size is no hexadecimal number")]
    ChunkSize,
    #[error("a chunk's extensions are no text, or too long")]
    ChunkExtension,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("a trailer is no field, or the trailers are too long")]
    Trailer,
    #[error("the connection ended in the middle of the message")]
    Truncated,
    #[error("the protocol was switched without having been asked to")]
    Switched,
}

impl Malformed {
    /// The status that says it to a caller.
    pub fn status(self) -> u16 {
        match self {
            Malformed::HeadTooLarge | Malformed::TooManyFields => 431,
            Malformed::Version => 505,
            Malformed::Connect | Malformed::Coding => 501,
            Malformed::LineEnd
            | Malformed::Syntax
            | Malformed::Target
            | Malformed::Hosts
            | Malformed::Host
            | Malformed::Length
            | Malformed::Lengths
            | Malformed::LengthAndCoding
            | Malformed::CodingInOldVersion
            | Malformed::ChunkSize
            | Malformed::ChunkExtension
            | Malformed::ChunkEnd
            | Malformed::Trailer
            | Malformed::Truncated
            | Malformed::Switched => 400,
        }
    }
}
