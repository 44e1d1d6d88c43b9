//! Who sent a request: the calling sidecar marks what it has picked a revision for, the called one takes the mark off and counts.
//!
//! This is a hint for people, who want to know how many requests no weight reaches. It is no security: anybody can send the header, and
//! nothing is allowed or refused by it. An endpoint without a sidecar gets to see it.
//!
//! A request that a sidecar passes on without a route has no mark: nobody picked a revision for it, wherever it came from.

use std::net::{IpAddr, SocketAddr};

use traffic_core::inbound::Probe;
use traffic_core::peer::Peer;

use super::Facts;

/// Who sent a request that came to the pod's address `own`.
///
/// Probes of the kubelet and scrapes name the pod's address as their authority; callers of a Service name the Service. A probe that is told to
/// name another host is known by what it asks for: such are `elsewhere`.
pub fn of(facts: Facts<'_>, own: SocketAddr, elsewhere: &[Probe]) -> Peer {
    if facts.mark.is_some() {
        return Peer::Mesh;
    }
    let named = facts.authority.and_then(named);
    let is_own = named.is_some_and(|named| named.to_canonical() == own.ip().to_canonical());
    let (port, request) = (own.port(), facts.request);
    let mut elsewhere = elsewhere.iter();
    if is_own || elsewhere.any(|probe| probe.is(port, request.method, request.path)) {
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
    use traffic_core::authorize::Request;
    use traffic_core::outcome::Dialect;

    use super::*;

    fn get(path: &str) -> Request<'_> {
        Request {
            method: "GET",
            path,
            upgrade: false,
        }
    }

    fn sender(authority: Option<&str>, mark: Option<&[u8]>, own: &str) -> Peer {
        let facts = Facts {
            authority,
            mark,
            waits: None,
            dialect: Dialect::Http,
            request: get("/healthz?full"),
            protocol: "HTTP/1.1",
        };
        let own = SocketAddr::new(own.parse().unwrap(), 8080);
        of(facts, own, &[])
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
    fn a_probe_under_another_name_is_known_by_its_port_and_path() {
        let probes: [Probe; 2] =
            ["8080/healthz?full", "9090/live"].map(|path| path.parse().unwrap());
        let asked = |port, request| {
            let facts = Facts {
                authority: Some("web.example"),
                mark: None,
                waits: None,
                dialect: Dialect::Http,
                request,
                protocol: "HTTP/1.1",
            };
            of(facts, SocketAddr::from(([10, 1, 0, 7], port)), &probes)
        };
        let sender = |port, path| asked(port, get(path));
        assert_eq!(sender(8080, "/healthz?full"), Peer::Probe);
        for (port, path) in [
            (8080, "/healthz"),
            (8080, "/live"),
            (9090, "/healthz?full"),
            (8080, "*"),
            (8080, "http://web.example/healthz?full"),
            (8080, ""),
        ] {
            assert_eq!(sender(port, path), Peer::Outside, "{port} {path}");
        }
        let post = Request {
            method: "POST",
            ..get("/healthz?full")
        };
        assert_eq!(asked(8080, post), Peer::Outside);
    }

    #[test]
    fn a_mark_counts_before_the_authority() {
        let own = "10.1.0.7:8080";
        assert_eq!(sender(Some(own), Some(b"1"), "10.1.0.7"), Peer::Mesh);
    }
}
