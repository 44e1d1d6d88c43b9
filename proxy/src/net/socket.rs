//! What every connection gets, whichever way it goes.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that vanished without a word is noticed in about two minutes: the two ends cannot see past us, so it is for us to look.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15));
/// How long bytes may be on their way to a peer without being taken: a node that went away under its streams is noticed after this, not
/// after the quarter of an hour that retransmissions take.
pub const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// No delay for small writes, and TCP keep-alive. Fails only on a connection that is already gone.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEP_ALIVE)
}

/// For what a peer always reads, or its kernel has room for: HTTP/2, where what stalls are streams, and requests of HTTP/1.1 without a large body. Elsewhere
/// a reader that rests must not lose its connection, and the kernel does not tell it from one that is gone: see [`bear_silence`].
pub fn notice_silence(stream: &TcpStream, after: Duration) {
    // It fails only on a connection that is already gone.
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(after));
}

/// Takes that back.
pub fn bear_silence(stream: &TcpStream) {
    // It fails only on a connection that is already gone.
    let _ = SockRef::from(stream).set_tcp_user_timeout(None);
}

/// Lets a connection end with a reset, since its end would look like that of a whole message.
pub fn reset_on_close(stream: &TcpStream) {
    // It fails only on a connection that is already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_is_gone_is_looked_for_and_one_that_rests_is_borne() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        let times = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
        let times = (times.0.unwrap().as_secs(), times.1.unwrap().as_secs());
        assert_eq!(times, (60, 15));
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        notice_silence(&stream, UNACKNOWLEDGED);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        bear_silence(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }
}
