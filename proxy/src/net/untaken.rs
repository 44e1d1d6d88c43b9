//! What has been written to callers and their kernels have not acknowledged, as this kernel tells it (`/proc/net/tcp`, proc(5)). It is on its way as long as
//! the pod's network is there, and a caller of HTTP/2 tells how much it has read: when nobody is there to hear that, a reset is the answer, and the end of it.

use std::net::SocketAddr;

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `TCP_LISTEN` (`include/net/tcp_states.h`): its queue is one of callers.
const LISTENS: &str = "0A";

/// How many such bytes there are on connections that came to these listeners. None if the kernel does not tell.
pub fn bytes(listeners: &[SocketAddr]) -> u64 {
    let tables = TABLES
        .iter()
        .filter_map(|it| std::fs::read_to_string(it).ok());
    tables.map(|table| sum(&table, listeners)).sum()
}

fn sum(table: &str, listeners: &[SocketAddr]) -> u64 {
    let came_to = |local: &str| {
        let port = local
            .rsplit_once(':')
            .map(|(_, port)| u16::from_str_radix(port, 16));
        matches!(port, Some(Ok(port)) if listeners.iter().any(|it| it.port() == port))
    };
    let untaken = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _remote) = (fields.next()?, fields.next());
        let (state, queues) = (fields.next()?, fields.next()?);
        let (sends, _receives) = queues.split_once(':')?;
        let is_ours = came_to(local) && state != LISTENS;
        u64::from_str_radix(sends, 16).ok().filter(|_| is_ours)
    };
    table.lines().skip(1).filter_map(untaken).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_acknowledged_are_counted() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:3A9E 00000000:0000 0A 00000005:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:3A9E 0100007F:E2DC 01 002F0A40:00000000 01:00000014 00000000     0        0 2 1
   2: 0100007F:3A9E 0100007F:E2DE 01 00000000:00000A40 00:00000000 00000000     0        0 3 1
   3: 0100007F:3A9E 0100007F:E2E0 04 00000001:00000000 00:00000000 00000000     0        0 0 1
   4: 0100007F:E2DC 0100007F:3A9E 01 00000D15:00000000 00:00000000 00000000     0        0 5 1
   5: 00000000000000000000000001000000:3A99 00000000000000000000000001000000:E2E2 01 00000100:00000000 00:00000000 00000000
";
        let at = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        assert_eq!(sum(table, &[at(15006)]), 0x2f0a41);
        assert_eq!(sum(table, &[at(15006), at(15001)]), 0x2f0b41);
        assert_eq!(sum("", &[at(15006)]), 0);
    }
}
