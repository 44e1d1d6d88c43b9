//! Who sent a request that came in, seen from the called side.

use crate::contract::peer;

/// The kinds of senders, in the order of the metrics' label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A sidecar that picked the revision: the request is held to the weight.
    Mesh,
    /// Anybody else: kube-proxy, an ingress controller or the caller itself picked the pod.
    Outside,
    /// Somebody who meant this very pod: a probe of the kubelet, a scrape.
    Probe,
}

impl Peer {
    pub const ALL: [Peer; 3] = [Peer::Mesh, Peer::Outside, Peer::Probe];

    /// The value of the label `peer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Peer::Mesh => peer::MESH,
            Peer::Outside => peer::OUTSIDE,
            Peer::Probe => peer::PROBE,
        }
    }

    /// Position in [`Peer::ALL`].
    pub fn index(self) -> usize {
        match self {
            Peer::Mesh => 0,
            Peer::Outside => 1,
            Peer::Probe => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_stands_at_its_own_position() {
        for (position, peer) in Peer::ALL.into_iter().enumerate() {
            assert_eq!(peer.index(), position, "{peer:?}");
        }
    }
}
