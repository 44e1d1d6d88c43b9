//! Why there is no stream, in words for the log.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use aviary_xds::identity::InvalidAnswer;
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(
        "the ServiceAccount token {path} cannot be read ({source}): does the pod have the volume that the injector adds?"
    )]
    Token {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the ServiceAccount token {0} is no header text: is it the right file?")]
    NotAToken(PathBuf),
    #[error("it cannot be reached: {0}")]
    Connect(String),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("it refuses this pod: {0}")]
    Refused(String),
    /// It is of a version that does not know this service.
    #[error("it does not serve this: {0}")]
    Unserved(String),
    #[error("no key can be made: {0}")]
    Key(rcgen::Error),
    #[error("its answer makes no sense: {0}")]
    Answer(#[from] InvalidAnswer),
    #[error("its answer is no identity: {0}")]
    Identity(String),
    #[error("it ended the stream: {0}")]
    Status(String),
    #[error("it ended the stream")]
    Ended,
}

impl From<tonic::transport::Error> for Failure {
    fn from(error: tonic::transport::Error) -> Failure {
        Failure::Connect(causes(&error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let text = match status.source() {
            Some(_) => causes(&status),
            None => status.message().to_owned(),
        };
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Failure::Refused(text),
            Code::Unimplemented => Failure::Unserved(text),
            _ => Failure::Status(text),
        }
    }
}

/// The innermost cause says what happened ("connection refused"), the outer ones only where.
fn causes(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
