//! What a proxy must not pass on, and what it adds when it answers itself.
//!
//! Host, header case, trace context and everything end-to-end stay untouched.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use std::net::SocketAddr;
use traffic_core::contract::header;

use crate::body::ResponseBody;
use crate::endpoint;

/// Says in an answer of the proxy's own why it is one.
pub const ERROR: HeaderName = HeaderName::from_static("x-aviary-error");
/// Between proxies, HTTP/1.1 only: "my application never saw this request". Never passed on.
pub const UNSENT: HeaderName = HeaderName::from_static(header::UNSENT);

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether a message asks to leave HTTP (WebSocket). `h2c` is not passed on: endpoints are spoken to in the caller's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    No,
    Wanted,
}

/// Makes a caller's request ready for an endpoint.
pub fn prepare<B>(
    request: &mut Request<B>,
    version: endpoint::Version,
    destination: SocketAddr,
) -> Upgrade {
    match version {
        endpoint::Version::Http1 => {
            let upgrade = wanted(request.headers());
            strip(request.headers_mut(), upgrade);
            // HTTP/1.0 needs no Host; the endpoint is spoken to in 1.1, which does.
            if request.version() == Version::HTTP_10 && !request.headers().contains_key(HOST) {
                insert_host(request.headers_mut(), destination);
            }
            *request.version_mut() = Version::HTTP_11;
            upgrade
        }
        endpoint::Version::Http2 => {
            strip(request.headers_mut(), Upgrade::No);
            if request.uri().authority().is_none() && request.method() != Method::CONNECT {
                complete(request, destination);
            }
            Upgrade::No
        }
    }
}

/// Makes an endpoint's answer ready for the caller. `true` upgrades keep their headers.
pub fn finish(headers: &mut HeaderMap, upgrade: Upgrade) {
    strip(headers, upgrade);
    if headers.contains_key(&UNSENT) {
        headers.remove(&UNSENT);
    }
}

/// An answer of the proxy's own.
pub fn answer(status: StatusCode, reason: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(format!("aviary-proxy: {reason}\n")));
    *response.status_mut() = status;
    let printable: String = reason
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .collect();
    if let Ok(value) = HeaderValue::from_str(&printable) {
        response.headers_mut().insert(ERROR, value);
    }
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain"),
    );
    response
}

fn wanted(headers: &HeaderMap) -> Upgrade {
    let h2c = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"h2c");
    match headers.get(UPGRADE) {
        Some(protocol) if !h2c(protocol) && mentions(headers, "upgrade") => Upgrade::Wanted,
        Some(_) | None => Upgrade::No,
    }
}

fn mentions(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Removes what is meant for this hop only (RFC 9110, 7.6.1).
fn strip(headers: &mut HeaderMap, upgrade: Upgrade) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // A caller must not make us lose what says where a message goes and where it ends.
            .filter(|name: &HeaderName| ![UPGRADE, TE, HOST, CONTENT_LENGTH].contains(name))
            .collect();
        headers.remove(CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    // With both, the length is a lie (RFC 9112, 6.3); it must not outlive the encoding that overrides it.
    if headers.remove(TRANSFER_ENCODING).is_some() {
        headers.remove(CONTENT_LENGTH);
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION] {
        headers.remove(name);
    }
    // gRPC servers insist on `te: trailers`; nothing else of it may pass.
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
    match upgrade {
        Upgrade::Wanted => {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        Upgrade::No => {
            headers.remove(UPGRADE);
        }
    }
}

/// HTTP/2 without `:authority` (the caller sent Host, or nothing): hyper needs a whole URI.
fn complete<B>(request: &mut Request<B>, destination: SocketAddr) {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = host.or_else(|| Authority::try_from(destination.to_string()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.authority = authority;
    parts
        .path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are all there");
}

fn insert_host(headers: &mut HeaderMap, destination: SocketAddr) {
    let host =
        HeaderValue::from_str(&destination.to_string()).expect("a socket address is printable");
    headers.insert(HOST, host);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (k.parse::<HeaderName>().unwrap(), v.parse().unwrap()))
            .collect()
    }

    fn request(version: Version, uri: &str, pairs: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.version_mut() = version;
        *request.uri_mut() = uri.parse().unwrap();
        *request.headers_mut() = headers(pairs);
        request
    }

    fn destination() -> SocketAddr {
        "10.0.0.1:80".parse().unwrap()
    }

    #[test]
    fn hop_by_hop_headers_go_and_the_rest_stays() {
        let pairs = [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("host", "web"),
            ("traceparent", "00-1-2-01"),
        ];
        let mut request = request(Version::HTTP_11, "/", &pairs);
        assert_eq!(
            prepare(&mut request, endpoint::Version::Http1, destination()),
            Upgrade::No
        );
        assert_eq!(
            *request.headers(),
            headers(&[("host", "web"), ("traceparent", "00-1-2-01")])
        );
    }

    #[test]
    fn a_message_keeps_its_host_and_never_a_length_beside_chunks() {
        let pairs = [
            ("connection", "host, content-length"),
            ("host", "web"),
            ("content-length", "3"),
        ];
        let mut named = headers(&pairs);
        strip(&mut named, Upgrade::No);
        assert_eq!(named, headers(&pairs[1..]));
        let mut both = headers(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        strip(&mut both, Upgrade::No);
        assert!(both.is_empty());
    }

    #[test]
    fn a_websocket_upgrade_passes_and_h2c_does_not() {
        let pairs = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("host", "web"),
        ];
        let mut websocket = request(Version::HTTP_11, "/", &pairs);
        assert_eq!(
            prepare(&mut websocket, endpoint::Version::Http1, destination()),
            Upgrade::Wanted
        );
        assert_eq!(websocket.headers()[UPGRADE], "websocket");
        assert_eq!(websocket.headers()[CONNECTION], "Upgrade");

        let pairs = [
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMA"),
        ];
        let mut h2c = request(Version::HTTP_11, "/", &pairs);
        assert_eq!(
            prepare(&mut h2c, endpoint::Version::Http1, destination()),
            Upgrade::No
        );
        assert!(h2c.headers().is_empty());
    }

    #[test]
    fn grpc_keeps_te_trailers() {
        let mut request = request(Version::HTTP_2, "http://web/a.B/C", &[("te", "trailers")]);
        prepare(&mut request, endpoint::Version::Http2, destination());
        assert_eq!(request.headers()[TE], "trailers");
    }

    #[test]
    fn http2_without_authority_gets_one_from_host_or_the_destination() {
        for (pairs, expected) in [
            (&[("host", "web:81")][..], "http://web:81/a"),
            (&[], "http://10.0.0.1:80/a"),
        ] {
            let mut request = request(Version::HTTP_2, "/a", pairs);
            prepare(&mut request, endpoint::Version::Http2, destination());
            assert_eq!(request.uri().to_string(), expected);
        }
    }

    #[test]
    fn an_old_request_without_host_gets_one() {
        let mut request = request(Version::HTTP_10, "/", &[]);
        prepare(&mut request, endpoint::Version::Http1, destination());
        assert_eq!(
            (request.version(), &request.headers()[HOST]),
            (Version::HTTP_11, &HeaderValue::from_static("10.0.0.1:80"))
        );
    }

    #[test]
    fn the_marker_between_proxies_is_never_passed_on() {
        let mut headers = headers(&[("x-aviary-unsent", "1"), ("x", "y")]);
        finish(&mut headers, Upgrade::No);
        assert_eq!(headers.len(), 1);
    }
}
