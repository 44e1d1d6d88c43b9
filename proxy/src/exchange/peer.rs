//! Who sent a request: the calling sidecar marks what it has picked a revision for, the called one takes the mark off and counts.
//!
//! This is a hint for people, who want to know how many requests no weight reaches. It is no security: anybody can send the header, and
//! nothing is allowed or refused by it. An endpoint without a sidecar gets to see it.
//!
//! A request that a sidecar passes on without a route has no mark: nobody picked a revision for it, wherever it came from.

use std::net::{IpAddr, SocketAddr};

use traffic_core::peer::Peer;

use super::Facts;

/// Who sent a request that came to the pod's address `own`.
///
/// Probes of the kubelet and scrapes name the pod's address as their authority, unless they are told to name another host; callers of a
/// Service name the Service.
pub fn of(facts: Facts<'_>, own: IpAddr) -> Peer {
    if facts.mark.is_some() {
        Peer::Mesh
    } else if facts
        .authority
        .and_then(named)
        .is_some_and(|named| named.to_canonical() == own.to_canonical())
    {
        Peer::Probe
    } else {
        Peer::Outside
    }
}

/// The address in an authority, if it is one and not a name.
fn named(authority: &str) -> Option<IpAddr> {
    match authority.parse::<SocketAddr>() {
        Ok(address) => Some(address.ip()),
        Err(_) => authority
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(authority: Option<&str>, mark: Option<&[u8]>, own: &str) -> Peer {
        of(Facts { authority, mark }, own.parse().unwrap())
    }

    #[test]
    fn an_authority_that_is_the_pod_s_own_address_is_a_probe_s() {
        for (authority, own) in [
            ("10.1.0.7:8080", "10.1.0.7"),
            ("10.1.0.7", "10.1.0.7"),
            ("10.1.0.7:8080", "::ffff:10.1.0.7"),
            ("[fd00::7]:8080", "fd00::7"),
            ("[fd00:0::7]", "fd00::7"),
        ] {
            assert_eq!(
                sender(Some(authority), None, own),
                Peer::Probe,
                "{authority}"
            );
        }
    }

    #[test]
    fn any_other_authority_is_an_outsider_s() {
        for authority in [
            None,
            Some(""),
            Some("web"),
            Some("web.shop.svc:80"),
            Some("10.1.0.70:8080"),
            Some("10.96.0.7"),
            Some("10.1.0.7.example.com"),
        ] {
            assert_eq!(
                sender(authority, None, "10.1.0.7"),
                Peer::Outside,
                "{authority:?}"
            );
        }
    }

    #[test]
    fn a_mark_counts_before_the_authority() {
        let own = "10.1.0.7:8080";
        assert_eq!(sender(Some(own), Some(b"1"), "10.1.0.7"), Peer::Mesh);
    }
}
