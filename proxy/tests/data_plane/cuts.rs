//! An exchange that is cut at every one of its bytes, on either side, in every way that a connection can go. Whatever happens, the caller has a whole
//! and right answer or knows that it has none, nobody takes half a message for a whole one, and what was not finished is never sent twice.

mod caller;
mod http2;
mod message;
mod upstream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Close,
    Reset,
    /// It stays, and says nothing more.
    Stall,
}

const CUTS: [Cut; 3] = [Cut::Close, Cut::Reset, Cut::Stall];
/// Longer than the proxy waits for anything on the way.
const PATIENCE: Duration = Duration::from_secs(15);

/// Shows that nothing more is to come on a connection.
const STILL: Duration = Duration::from_millis(500);

/// What one side of a connection got to see.
#[derive(Debug)]
struct Seen {
    bytes: Vec<u8>,
    ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Reset,
    Open,
}

/// Reads to the end of a connection, for so long at most.
async fn read(stream: &mut TcpStream, patience: Duration) -> Seen {
    read_on(stream, patience, |_| false).await
}

/// The same until it is `enough`, and from then on for as long as shows that nothing more is to come.
async fn read_on(
    stream: &mut TcpStream,
    patience: Duration,
    enough: impl Fn(&[u8]) -> bool,
) -> Seen {
    let mut deadline = Instant::now() + patience;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let mut is_enough = false;
    let ended = loop {
        if !is_enough && enough(&bytes) {
            is_enough = true;
            deadline = Instant::now() + STILL;
        }
        match timeout_at(deadline, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => break Ended::Closed,
            Ok(Ok(read)) => bytes.extend_from_slice(&buffer[..read]),
            Ok(Err(_)) => break Ended::Reset,
            Err(_) => break Ended::Open,
        }
    };
    Seen { bytes, ended }
}

/// Ends a connection as `cut` says. A stalled one is left to its owner.
fn cut_off(stream: TcpStream, cut: Cut) -> Option<TcpStream> {
    match cut {
        Cut::Close => drop(stream),
        Cut::Reset => {
            stream.set_zero_linger().unwrap();
            drop(stream);
        }
        Cut::Stall => return Some(stream),
    }
    None
}

/// How often a backend saw what, by path.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<HashMap<String, usize>>>);

impl Tally {
    fn add(&self, what: &str) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    fn of(&self, what: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .get(what)
            .copied()
            .unwrap_or_default()
    }
}

/// What the path of a request says about its cut.
fn parse(path: &str) -> (usize, Cut, usize) {
    let mut parts = path[1..].split('/');
    let mut next = || parts.next().unwrap();
    let message = next().parse().unwrap();
    let cut = next();
    let cut = CUTS.into_iter().find(|each| format!("{each:?}") == cut);
    (message, cut.unwrap(), next().parse().unwrap())
}
