//! Why an attempt failed, as far as it matters for what may follow.

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Provably not processed: no endpoint, the connection was refused or never used, the stream was refused.
    Unsent,
    /// Not sent either: its revision has as many requests as it may.
    Full,
    /// Something went out and no head of an answer came back: the connection or the stream broke, or the attempt's own time was over.
    Reset,
    /// Nobody waits for an answer any more, or there was nothing to answer.
    Over,
    /// An answer with this status, of 500 or above.
    Status(u16),
    /// An answer of gRPC that consists of this status.
    Grpc(u16),
}
