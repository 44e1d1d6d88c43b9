//! What passes by on the node's network: whoever listens on the way between two pods sees this.

use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use socket2::{Domain, Protocol, Socket, Type};

/// Every protocol, as packet(7) names it: a listener for one of them does not see what a bridge passes on.
const ALL: u16 = 3;
const IPV4: u8 = 4;
const TCP: u8 = 6;

pub(crate) struct Wire(Socket);

/// What a segment of TCP carries, and from whom to whom.
#[derive(Debug)]
pub(crate) struct Segment {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    /// Of whom it is for.
    pub port: u16,
    pub bytes: Vec<u8>,
}

impl Wire {
    /// Everything from now on. It has to be on the node itself.
    pub(crate) fn tapped() -> anyhow::Result<Wire> {
        let protocol = Protocol::from(i32::from(ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))
            .context("cannot listen on the node's network (root on the node itself can)")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Wire(socket))
    }

    /// The next segment that carries something and is such a one. While the node has much to do, some pass by unheard.
    pub(crate) fn until(
        &mut self,
        within: Duration,
        is_it: impl Fn(&Segment) -> bool,
    ) -> anyhow::Result<Segment> {
        let deadline = Instant::now() + within;
        let mut packet = vec![0; 64 * 1024];
        loop {
            let length = match self.0.read(&mut packet) {
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    0
                }
                Err(error) => return Err(error.into()),
            };
            let segment = segment(&packet[..length]);
            if let Some(segment) = segment.filter(|it| !it.bytes.is_empty() && is_it(it)) {
                return Ok(segment);
            }
            ensure!(
                Instant::now() < deadline,
                "no such segment within {}s",
                within.as_secs()
            );
        }
    }
}

impl Segment {
    pub(crate) fn has(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.bytes.windows(text.len()).any(|part| part == text)
    }

    /// It begins with a record of TLS that carries what only the two ends can read (RFC 8446, 5.1).
    pub(crate) fn is_sealed(&self) -> bool {
        self.bytes.starts_with(&[23, 3, 3])
    }
}

/// RFC 791, 3.1, and RFC 9293, 3.1; `None`: it is no TCP.
fn segment(packet: &[u8]) -> Option<Segment> {
    let words = |byte: u8| usize::from(byte & 0x0f) * 4;
    let address = |at: usize| {
        Some(Ipv4Addr::from(
            <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?,
        ))
    };
    let whole = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let tcp = packet.get(words(*packet.first()?)..whole.min(packet.len()))?;
    if packet.first()? >> 4 != IPV4 || packet.get(9) != Some(&TCP) {
        return None;
    }
    Some(Segment {
        from: address(12)?,
        to: address(16)?,
        port: u16::from_be_bytes([*tcp.get(2)?, *tcp.get(3)?]),
        bytes: tcp.get(words(*tcp.get(12)? >> 4)..)?.to_vec(),
    })
}
