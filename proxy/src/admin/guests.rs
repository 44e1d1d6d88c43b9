//! Connections to the admin port: so many at once. Whoever comes when there are as many is served all the same, and whoever has the most loses the oldest: so
//! nobody who holds connections keeps the kubelet or Prometheus out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::task::AbortHandle;

/// At once: a kubelet and two Prometheus have a handful.
const MOST: usize = 128;

/// Oldest first.
#[derive(Default)]
pub(super) struct Guests(VecDeque<(IpAddr, AbortHandle)>);

impl Guests {
    pub(super) fn enter(&mut self, peer: IpAddr, connection: AbortHandle) {
        self.0.retain(|(_, open)| !open.is_finished());
        if self.0.len() >= MOST
            && let Some(oldest) = oldest_of_the_most(self.0.iter().map(|(peer, _)| *peer))
            && let Some((_, open)) = self.0.remove(oldest)
        {
            open.abort();
        }
        self.0.push_back((peer, connection));
    }
}

/// Which connection goes, of all by their peers.
fn oldest_of_the_most(peers: impl Iterator<Item = IpAddr> + Clone) -> Option<usize> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for peer in peers.clone() {
        *counts.entry(peer).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    let mut peers = peers;
    peers.position(|peer| counts.get(&peer) == Some(&most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_most_loses_the_oldest() {
        let goes = |peers: &[u8]| {
            let peers = peers.iter().map(|last| IpAddr::from([10, 0, 0, *last]));
            oldest_of_the_most(peers.collect::<Vec<_>>().into_iter())
        };
        assert_eq!(goes(&[]), None);
        assert_eq!(goes(&[1]), Some(0));
        assert_eq!(goes(&[1, 2, 2, 1, 2]), Some(1));
        assert_eq!(goes(&[1, 2, 3, 3]), Some(2));
    }
}
