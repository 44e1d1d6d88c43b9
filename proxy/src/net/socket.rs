//! What every connection gets, whichever way it goes.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that vanished without a word is noticed in about two minutes: the two ends cannot see past us, so it is for us to look.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15));
/// How long bytes of HTTP/2 may be on their way without being taken: a node that went away under its streams is noticed after this, not
/// after the quarter of an hour that retransmissions take.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// No delay for small writes, and TCP keep-alive. Fails only on a connection that is already gone.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEP_ALIVE)
}

/// For HTTP/2, whose two ends always read: what stalls are its streams. Elsewhere a reader that rests must not lose its connection, and the kernel
/// does not tell it from one that is gone.
pub fn notice_silence(stream: &TcpStream) {
    // It fails only on a connection that is already gone.
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

/// Lets a connection end with a reset, since its end would look like that of a whole message.
pub fn reset_on_close(stream: &TcpStream) {
    // It fails only on a connection that is already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
