//! What every connection gets, whichever way it goes.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that vanished without a word is noticed in about two minutes: the two ends cannot see past us, so it is for us to look.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15));
/// How long bytes may be on their way without being acknowledged: a node that went away under a request is noticed after this, not
/// after the quarter of an hour that retransmissions take.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// No delay for small writes, TCP keep-alive, and an end to waiting for acknowledgements. Fails only on a connection that is already gone.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&KEEP_ALIVE)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Lets a connection end with a reset, since its end would look like that of a whole message.
pub fn reset_on_close(stream: &TcpStream) {
    // It fails only on a connection that is already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
