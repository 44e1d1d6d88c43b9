//! Heads of HTTP/2 on their way. h2 has refused fields that concern one hop already (RFC 9113, 8.2.2), but for `te: trailers`, which gRPC
//! servers insist on.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, Entry, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
    RETRY_AFTER, SET_COOKIE,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Response, StatusCode, Uri, Version};
use traffic_core::bounds;
use traffic_core::contract::header;
use traffic_core::outcome::{Dialect, Trace};
use traffic_core::split::sticky::Head;

use crate::exchange::Refusal;
use crate::exchange::flight::dialect;

static MARK: HeaderName = HeaderName::from_static(header::PEER);
static UNSENT: HeaderName = HeaderName::from_static(header::UNSENT);
static ERROR: HeaderName = HeaderName::from_static(header::ERROR);
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `DEADLINE_EXCEEDED`, `PERMISSION_DENIED`, `RESOURCE_EXHAUSTED`, `UNIMPLEMENTED`, `INTERNAL` and `UNAVAILABLE` of gRPC.
const DEADLINE_EXCEEDED: u16 = 4;
const PERMISSION_DENIED: u16 = 7;
const RESOURCE_EXHAUSTED: u16 = 8;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;

/// The fields of a head, by name.
pub(super) struct Fields<'f>(pub(super) &'f HeaderMap);

impl Head for Fields<'_> {
    fn values<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        let values = self.0.get_all(name).into_iter();
        values.map(HeaderValue::as_bytes)
    }
}

/// Takes off what a calling sidecar has written.
pub(super) fn take_mark(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(&MARK)
}

/// Marks a request whose revision was picked here.
pub(super) fn mark(headers: &mut HeaderMap, mark: &HeaderValue) {
    headers.insert(&MARK, mark.clone());
}

pub(super) fn trace(head: &Parts) -> Option<Trace> {
    let traceparent = head.headers.get(&TRACEPARENT)?;
    Trace::of_request(traceparent.as_bytes(), head.uri.path().as_bytes())
}

pub(super) fn authority(head: &Parts) -> Option<&str> {
    let in_uri = head.uri.authority().map(Authority::as_str);
    in_uri.or_else(|| head.headers.get(HOST)?.to_str().ok())
}

/// Whether `:authority` and Host, of which an endpoint may believe either, name the same, and nobody's password (RFC 9113, 8.3.1).
pub(super) fn is_for_one(head: &Parts) -> bool {
    if head
        .uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return false;
    }
    let mut hosts = head.headers.get_all(HOST).into_iter();
    let (first, second) = (hosts.next(), hosts.next());
    match (first, second, head.uri.authority()) {
        (None, _, _) => true,
        (Some(_), Some(_), _) => false,
        (Some(host), None, Some(authority)) => host
            .as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes()),
        (Some(host), None, None) => Authority::try_from(host.as_bytes()).is_ok(),
    }
}

/// Secrets stay out of every table of HPACK (RFC 7541, 7.1.3): a connection to an endpoint carries many callers' requests, and one of them could
/// guess another's by the size of what is sent. Which other fields came as never to be indexed h2 does not tell.
fn keep_secrets<const N: usize>(headers: &mut HeaderMap, names: [HeaderName; N]) {
    for name in names {
        // Without a look first, room would be made for it.
        if headers.contains_key(&name)
            && let Entry::Occupied(mut values) = headers.entry(name)
        {
            for value in values.iter_mut() {
                value.set_sensitive(true);
            }
        }
    }
}

/// Makes a caller's request ready for an endpoint.
pub(super) fn prepare(head: &mut Parts, destination: SocketAddr) {
    let secrets = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];
    keep_secrets(&mut head.headers, secrets);
    head.version = Version::HTTP_2;
    if head.uri.authority().is_none() && head.method != Method::CONNECT {
        complete(head, destination);
    }
}

/// Without `:authority` (the caller sent Host, or nothing): h2 wants a whole URI.
fn complete(head: &mut Parts, destination: SocketAddr) {
    let host = head
        .headers
        .get(HOST)
        .and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = host.or_else(|| Authority::try_from(destination.to_string()).ok());
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.authority = authority;
    parts
        .path_and_query
        .get_or_insert_with(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from_parts(parts).expect("scheme, authority and path are all there");
}

/// Whether a sidecar may have said that its application never saw the request.
pub(super) fn is_marked_unsent(headers: &HeaderMap) -> bool {
    headers.contains_key(&UNSENT)
}

/// Whether a sidecar says to this one, which has written `token`, that its application never saw the request.
pub(super) fn is_unsent(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get(&UNSENT)
        .is_some_and(|mark| mark.as_bytes() == token.as_bytes())
}

/// Makes an endpoint's answer ready for the caller.
pub(super) fn finish(headers: &mut HeaderMap) {
    headers.remove(&UNSENT);
    keep_secrets(headers, [SET_COOKIE]);
}

/// The dialect that an answer has to be given in.
pub(super) fn dialect_of(headers: &HeaderMap) -> Dialect {
    dialect(headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes))
}

pub(super) fn grpc_status(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(&GRPC_STATUS).map(HeaderValue::as_bytes)
}

/// How long the caller of gRPC waits.
pub(super) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    bounds::grpc_timeout(headers.get(&GRPC_TIMEOUT)?.as_bytes())
}

/// The trailers of an answer that takes too long.
pub(super) fn too_late() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(&GRPC_STATUS, HeaderValue::from(DEADLINE_EXCEEDED));
    let text = HeaderValue::from_static("aviary-proxy: the answer took longer than it may");
    trailers.insert(&GRPC_MESSAGE, text);
    trailers
}

/// The trailers of a stream to a revision that gets nothing any more: it is to be opened again.
pub(super) fn withdrawn() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(&GRPC_STATUS, HeaderValue::from(UNAVAILABLE));
    let text = "aviary-proxy: this revision gets nothing any more: open the stream again";
    trailers.insert(&GRPC_MESSAGE, HeaderValue::from_static(text));
    trailers
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)
}

/// The proxy's own answer, without its text. To a gRPC call it is a status in an answer that consists of trailers only.
/// `mark`: who wrote it is told that the application never saw the request.
pub(super) fn refuse(
    refusal: &Refusal,
    dialect: Dialect,
    mark: Option<HeaderValue>,
) -> Response<()> {
    let printable: String = refusal
        .reason
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .collect();
    let reason = HeaderValue::from_str(&printable).ok();
    let mut response = Response::new(());
    let headers = response.headers_mut();
    if let Some(reason) = reason.clone() {
        headers.insert(&ERROR, reason);
    }
    if let Some(mark) = mark {
        headers.insert(&UNSENT, mark);
    }
    if let Some(seconds) = refusal.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    match dialect {
        Dialect::Grpc => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let code = match refusal.status {
                503 => UNAVAILABLE,
                504 => DEADLINE_EXCEEDED,
                501 => UNIMPLEMENTED,
                403 => PERMISSION_DENIED,
                429 => RESOURCE_EXHAUSTED,
                400..=499 => INTERNAL,
                _ => UNAVAILABLE,
            };
            headers.insert(&GRPC_STATUS, HeaderValue::from(code));
            if let Some(reason) = reason {
                headers.insert(&GRPC_MESSAGE, reason);
            }
        }
        Dialect::Http => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            *response.status_mut() =
                StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn a_request_without_authority_gets_one_from_host_or_the_destination() {
        for (host, expected) in [
            (Some("web:81"), "http://web:81/a"),
            (None, "http://10.0.0.1:80/a"),
        ] {
            let mut request = Request::builder().uri("/a");
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            prepare(&mut head, "10.0.0.1:80".parse().unwrap());
            assert_eq!(head.uri.to_string(), expected);
        }
    }
}
