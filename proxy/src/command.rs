//! What other threads may ask of a worker.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use tokio::sync::oneshot;
use traffic_core::outcome::Second;

use crate::control::Outcome;
use crate::net::origin::Side;
use crate::table::Table;

#[derive(Debug)]
pub enum Command {
    /// Use this table from now on, then acknowledge.
    Install(Arc<Table>, oneshot::Sender<()>),
    /// Tell what is new of the first attempts of the seconds before this one.
    Outcomes(Second, oneshot::Sender<Vec<Outcome>>),
    /// Serve a connection that an acceptor took.
    Serve(TcpStream, Side),
    /// Accept for yourself (a single worker).
    Listen(TcpListener, Side),
    /// Tell how many connections have still to write what streams that have ended have left to them.
    Unwritten(oneshot::Sender<usize>),
    /// Leave, and drop every connection that is left.
    Stop,
}
