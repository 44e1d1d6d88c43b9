//! What a proxy is told to do with what comes in.

use traffic_core::inbound::{Callers, Mtls, Probe};

use super::*;
use crate::kind;
use crate::listener;
use crate::resources::INBOUND;

fn rules(mtls: Mtls) -> Inbound {
    Inbound {
        mtls,
        probes: vec![Probe::http(8080, "/healthz").unwrap()],
        callers: Callers::Anybody,
    }
}

fn with(mtls: Mtls) -> Resources {
    let mut world = full_world(1, &[]);
    world.insert_inbound(POD, &rules(mtls));
    world
}

fn shown(pair: &Pair) -> Option<Mtls> {
    pair.client.snapshot.inbound.as_ref().map(|it| it.mtls)
}

/// Whether the control plane knows that every worker has what it has sent.
fn is_acknowledged(pair: &Pair) -> bool {
    use crate::server::Verdict;
    pair.server.inbound() == Some(&Verdict::Accepted)
}

#[test]
fn a_proxy_is_told_without_asking_for_anything_and_says_so_when_every_worker_has_it() {
    let mut pair = Pair::connected(DeltaClient::default());
    assert_eq!(shown(&pair), None);
    pair.run(&with(Mtls::Permissive));
    assert_eq!(pair.sent, ["listener+inbound/self"]);
    assert_eq!(shown(&pair), Some(Mtls::Permissive));
    assert_eq!(
        *pair.client.snapshot.inbound.clone().unwrap(),
        rules(Mtls::Permissive)
    );
    assert!(!is_acknowledged(&pair));
    pair.install();
    assert!(is_acknowledged(&pair));
    pair.run(&with(Mtls::Strict));
    assert_eq!(shown(&pair), Some(Mtls::Strict));
    assert!(!is_acknowledged(&pair));
    pair.install();
    assert!(is_acknowledged(&pair));
}

#[test]
fn what_was_said_last_stays_when_it_is_not_said_any_more_and_when_the_stream_is_lost() {
    let mut pair = Pair::connected(DeltaClient::default());
    pair.run(&with(Mtls::Strict));
    pair.install();
    pair.run(&full_world(1, &[]));
    assert_eq!(shown(&pair), Some(Mtls::Strict));
    pair.client.disconnected();
    assert_eq!(shown(&pair), Some(Mtls::Strict));
    let mut again = Pair::connected(pair.client);
    again.run(&with(Mtls::Strict));
    assert_eq!(again.sent, [""; 0], "it has that already");
    assert!(is_acknowledged(&again));
    again.run(&with(Mtls::Permissive));
    assert_eq!(shown(&again), Some(Mtls::Permissive));
}

#[test]
fn rules_that_are_not_understood_are_rejected_with_the_reason_and_the_last_good_ones_stay() {
    let mut pair = settled(&with(Mtls::Strict));
    let mut response = pair.server.next(&with(Mtls::Permissive), pair.now).unwrap();
    let mut wire = listener::encode(&rules(Mtls::Permissive));
    wire.filter_chains.clear();
    let body = response.resources[0].resource.as_mut().unwrap();
    body.value = wire.encode_to_vec();
    pair.deliver(response);
    assert_eq!(
        pair.rejected,
        ["listener `inbound/self`: it has 0 filter chains, expected one"]
    );
    pair.install();
    assert_eq!(shown(&pair), Some(Mtls::Strict));
    assert!(!is_acknowledged(&pair));
    pair.run(&with(Mtls::Strict));
    assert_eq!(shown(&pair), Some(Mtls::Strict));
}

#[test]
fn another_listener_than_its_own_is_not_taken() {
    let mut pair = settled(&full_world(1, &[]));
    let mut response = pair.server.next(&with(Mtls::Strict), pair.now).unwrap();
    let mut wire = listener::encode(&rules(Mtls::Strict));
    wire.name = "inbound/other".to_owned();
    let resource = &mut response.resources[0];
    resource.name.clone_from(&wire.name);
    resource.resource.as_mut().unwrap().value = wire.encode_to_vec();
    pair.deliver(response);
    assert!(
        pair.rejected[0].contains("is not this proxy's"),
        "{:?}",
        pair.rejected
    );
    assert_eq!(shown(&pair), None);
}

#[test]
fn a_control_plane_that_knows_no_listeners_is_not_asked_on_the_next_stream_and_is_on_the_one_after()
{
    let asks = |output: &Output| {
        let mut requests = output.requests.iter();
        requests.any(|request| request.type_url == kind::LISTENER)
    };
    let mut client = DeltaClient::default();
    assert!(asks(&client.connected(&Node::default())));
    client.disconnected();
    client.ended_with(&Kind::from_type_url("x").unwrap_err().to_string());
    assert!(
        asks(&client.connected(&Node::default())),
        "of something else"
    );
    client.disconnected();
    let unknown = kind::UnknownType(kind::LISTENER.to_owned());
    client.ended_with(&unknown.to_string());
    assert!(!asks(&client.connected(&Node::default())));
    client.disconnected();
    let again = client.connected(&Node::default());
    assert!(asks(&again));
    let named = again
        .requests
        .iter()
        .find(|it| it.type_url == kind::LISTENER);
    assert_eq!(named.unwrap().resource_names_subscribe, [INBOUND]);
}
