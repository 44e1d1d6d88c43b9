//! How much one proxy may make the control plane remember. Whoever can start a pod is a proxy: what it says is kept only within
//! these limits, which no honest proxy comes near.

use std::sync::Arc;

use traffic_core::inbound::MOST_UNIDENTIFIED;

use crate::Request;
use crate::kind::Kind;
use crate::node::{Node, Report};

/// The most bytes of a NACK's text that are kept. It goes into logs and into the status of rollouts.
pub const LONGEST_REJECTION: usize = 256;
/// The most names of one kind that a stream may subscribe to.
pub const MOST_NAMES: usize = 4096;
/// The most bytes of a name: the longest of a cluster takes about 200.
pub const LONGEST_NAME: usize = 300;
/// The most revocations that a proxy may report.
pub const MOST_REVOCATIONS: usize = 1000;

/// A limit that was passed; the stream ends with this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    #[error("this stream subscribes to more than {MOST_NAMES} {0} resources, which is the limit")]
    Names(Kind),
    #[error("a name of {kind} resources has {bytes} bytes, the limit is {LONGEST_NAME}")]
    Name { kind: Kind, bytes: usize },
    #[error("the node reports {0} revocations, the limit is {MOST_REVOCATIONS}")]
    Revocations(usize),
    #[error("{0} callers are told of, the limit is {MOST_UNIDENTIFIED}")]
    Callers(usize),
}

pub(super) fn check_names(kind: Kind, request: &Request) -> Result<(), Limit> {
    let longest = request
        .resource_names_subscribe
        .iter()
        .map(String::len)
        .max();
    match longest {
        Some(bytes) if bytes > LONGEST_NAME => Err(Limit::Name { kind, bytes }),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn check_node(node: &Node) -> Result<(), Limit> {
    match node.revocations.len() {
        reported if reported > MOST_REVOCATIONS => Err(Limit::Revocations(reported)),
        _ => Ok(()),
    }
}

pub(super) fn check_report(report: Option<&Report>) -> Result<(), Limit> {
    match report.map_or(0, Vec::len) {
        callers if callers > MOST_UNIDENTIFIED => Err(Limit::Callers(callers)),
        _ => Ok(()),
    }
}

/// The text of a NACK as it is kept: shared by all names that it is about, and no longer than anyone wants to read.
pub(crate) fn cut(text: &str) -> Arc<str> {
    let end = text.floor_char_boundary(LONGEST_REJECTION);
    Arc::from(&text[..end])
}

#[cfg(test)]
mod tests {
    use traffic_core::config::{Revocation, SignedRevocation};

    use super::super::tests::{nack, route, subscribe, world};
    use super::super::{DeltaServer, ProtocolError, Verdict};
    use super::*;
    use crate::node;

    fn names(numbers: std::ops::Range<usize>) -> Request {
        let mut request = subscribe(Kind::Route, &[]);
        request.resource_names_subscribe = numbers.map(|number| number.to_string()).collect();
        request
    }

    #[test]
    fn a_long_rejection_is_cut_between_characters_and_shared_by_all_names() {
        let now = std::time::Instant::now();
        let mut server = DeltaServer::default();
        server.on_request(names(0..1000)).unwrap();
        let sent = server.next(&world(&[route("web", 1)], &[]), now).unwrap();
        let text = format!("x{}", "é".repeat(512 << 10));
        let received = server.on_request(nack(&sent, &text)).unwrap();
        let kept = received.rejection.unwrap();
        assert_eq!((kept.len(), kept.chars().last()), (255, Some('é')));
        let mut sharing = 0;
        for answer in server.kinds[Kind::Route].names.values() {
            if let super::super::Answer::Given {
                verdict: Verdict::Rejected(text),
                ..
            } = answer
            {
                assert!(Arc::ptr_eq(text, &kept));
                sharing += 1;
            }
        }
        assert_eq!(sharing, 1000);
    }

    #[test]
    fn a_stream_may_subscribe_to_so_many_names_and_not_to_one_more() {
        let mut server = DeltaServer::default();
        server.on_request(names(0..MOST_NAMES)).unwrap();
        server.on_request(names(0..MOST_NAMES)).unwrap();
        assert_eq!(
            server.on_request(names(MOST_NAMES..MOST_NAMES + 1)),
            Err(ProtocolError::Limit(Limit::Names(Kind::Route)))
        );
        let mut at_once = DeltaServer::default();
        at_once.on_request(names(0..MOST_NAMES + 1)).unwrap_err();
    }

    #[test]
    fn a_name_may_have_so_many_bytes_and_not_one_more() {
        let named = |bytes: usize| subscribe(Kind::Endpoints, &[&"n".repeat(bytes)]);
        DeltaServer::default()
            .on_request(named(LONGEST_NAME))
            .unwrap();
        let error = DeltaServer::default()
            .on_request(named(LONGEST_NAME + 1))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "a name of endpoints resources has 301 bytes, the limit is 300"
        );
    }

    fn reporting(revocations: usize) -> Request {
        let revocation = |number: usize| {
            SignedRevocation::from(Revocation {
                rollout: "shop/web".to_owned(),
                revision: number.to_string(),
                run: 1,
            })
        };
        let node = Node {
            revocations: (0..revocations).map(revocation).collect(),
            ..Node::default()
        };
        let mut request = subscribe(Kind::Route, &[]);
        request.node = Some(node::encode(&node));
        request
    }

    #[test]
    fn a_proxy_may_report_so_many_revocations_and_not_one_more() {
        let mut server = DeltaServer::default();
        server.on_request(reporting(MOST_REVOCATIONS)).unwrap();
        let error = DeltaServer::default()
            .on_request(reporting(MOST_REVOCATIONS + 1))
            .unwrap_err();
        assert_eq!(error, ProtocolError::Limit(Limit::Revocations(1001)));
    }

    #[test]
    fn a_node_is_read_in_the_first_request_and_in_no_other() {
        let mut server = DeltaServer::default();
        let node = |server: &mut DeltaServer| server.on_request(reporting(1)).unwrap().node;
        assert!(node(&mut server).is_some());
        assert_eq!(node(&mut server), None);
    }
}
