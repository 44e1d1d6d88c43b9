//! Who sent a request: the calling sidecar marks what it has picked a revision for, the called one takes the mark off and counts.
//!
//! This is a hint for people, who want to know how many requests no weight reaches. It is no security: anybody can send the header, and
//! nothing is allowed or refused by it. An endpoint without a sidecar gets to see it.
//!
//! A request that a sidecar passes on without a route has no mark: nobody picked a revision for it, wherever it came from.

use std::net::{IpAddr, SocketAddr};

use http::Request;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use traffic_core::contract::header;
use traffic_core::peer::Peer;

static MARK: HeaderName = HeaderName::from_static(header::PEER);
static MARKED: HeaderValue = HeaderValue::from_static("1");

/// Marks a request whose revision was picked here, whatever the application has written there.
pub fn mark(headers: &mut HeaderMap) {
    headers.insert(&MARK, MARKED.clone());
}

/// Takes off a mark that is not ours.
pub fn unmark(headers: &mut HeaderMap) {
    headers.remove(&MARK);
}

/// Who sent a request that came to the pod's address `own`; the application does not see the mark.
///
/// Probes of the kubelet and scrapes name the pod's address as their authority, unless they are told to name another host; callers of a
/// Service name the Service.
pub fn take<B>(request: &mut Request<B>, own: IpAddr) -> Peer {
    if request.headers_mut().remove(&MARK).is_some() {
        Peer::Mesh
    } else if named(request).is_some_and(|named| named.to_canonical() == own.to_canonical()) {
        Peer::Probe
    } else {
        Peer::Outside
    }
}

/// The address in the authority of a request, if it is one and not a name.
fn named<B>(request: &Request<B>) -> Option<IpAddr> {
    let in_uri = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let authority = in_uri.or_else(|| request.headers().get(HOST)?.to_str().ok())?;
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
    use http::Uri;

    use super::*;

    fn request(uri: &str, host: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse::<Uri>().unwrap();
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.parse().unwrap());
        }
        request
    }

    fn sender(uri: &str, host: Option<&str>, own: &str) -> Peer {
        take(&mut request(uri, host), own.parse().unwrap())
    }

    #[test]
    fn an_authority_that_is_the_pod_s_own_address_is_a_probe_s() {
        for (uri, host, own) in [
            ("/", Some("10.1.0.7:8080"), "10.1.0.7"),
            ("/", Some("10.1.0.7"), "10.1.0.7"),
            ("/", Some("10.1.0.7:8080"), "::ffff:10.1.0.7"),
            ("/", Some("[fd00::7]:8080"), "fd00::7"),
            ("/", Some("[fd00:0::7]"), "fd00::7"),
            ("http://10.1.0.7:8080/", None, "10.1.0.7"),
            // The URI counts, not Host (RFC 9112, 3.2.2).
            ("http://10.1.0.7:8080/", Some("web"), "10.1.0.7"),
        ] {
            assert_eq!(sender(uri, host, own), Peer::Probe, "{uri} {host:?}");
        }
    }

    #[test]
    fn any_other_authority_is_an_outsider_s() {
        for (uri, host) in [
            ("/", None),
            ("/", Some("")),
            ("/", Some("web")),
            ("/", Some("web.shop.svc:80")),
            ("/", Some("10.1.0.70:8080")),
            ("/", Some("10.96.0.7")),
            ("/", Some("10.1.0.7.example.com")),
            ("http://web/", Some("10.1.0.7")),
        ] {
            assert_eq!(
                sender(uri, host, "10.1.0.7"),
                Peer::Outside,
                "{uri} {host:?}"
            );
        }
    }

    #[test]
    fn a_mark_counts_before_the_authority_and_is_gone_then() {
        let mut marked = request("/", Some("10.1.0.7:8080"));
        marked
            .headers_mut()
            .append(&MARK, HeaderValue::from_static("from the application"));
        marked
            .headers_mut()
            .append(&MARK, HeaderValue::from_static("twice"));
        mark(marked.headers_mut());
        assert_eq!(marked.headers().get_all(&MARK).iter().count(), 1);
        assert_eq!(take(&mut marked, "10.1.0.7".parse().unwrap()), Peer::Mesh);
        assert_eq!(marked.headers().len(), 1, "{:?}", marked.headers());
    }
}
