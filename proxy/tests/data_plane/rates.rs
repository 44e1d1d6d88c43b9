//! More requests a second than a pod takes.

use std::net::SocketAddr;
use std::sync::Arc;

use aviary_proxy::control::Install;
use aviary_proxy::limits::Limits;
use http::StatusCode;
use traffic_core::bounds::Bounds;
use traffic_core::config::{Inbound, Snapshot};
use traffic_core::inbound::Probe;
use traffic_core::rate::{Rate, Rates};
use traffic_core::retry::budget::Terms;
use traffic_core::retry::conditions::{Code, Condition};
use traffic_core::retry::methods::Method;
use traffic_core::retry::policy::{Retries, Times};

use crate::client::{Answer, Client};
use crate::mesh::{Given, Mesh, Service, counts, refused};
use crate::server::Server;

/// So many may come at once, and one a second after that.
const BURST: usize = 5;

pub(crate) fn few() -> Option<Rate> {
    Some(format!("1/s burst {BURST}").parse().unwrap())
}

pub(crate) fn limits(rates: Rates) -> Limits {
    Limits {
        rates,
        ..Limits::default()
    }
}

/// The sidecar of a pod that takes few requests.
fn pod(app: SocketAddr) -> Mesh {
    Mesh::start(Given {
        inbound: app,
        limits: limits(Rates {
            all: few(),
            each: None,
        }),
        ..Given::default()
    })
}

/// Asks until it is refused. Gives how often it was not.
pub(crate) async fn until_refused(client: &mut Client, path: &str) -> (usize, Answer) {
    for admitted in 0..1_000 {
        let answer = client.get(path).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return (admitted, answer);
        }
        assert_eq!(answer.status, StatusCode::OK);
    }
    panic!("it is never refused");
}

#[tokio::test]
async fn one_too_many_is_told_when_to_come_again() {
    for version in 0..2 {
        let app = Server::start("app").await;
        let mesh = pod(app.address);
        let client = &mut Client::both(mesh.inbound).await[version];
        let (admitted, answer) = until_refused(client, "/").await;
        assert!(admitted >= BURST, "{admitted}");
        assert_eq!(answer.headers["retry-after"], "1");
        let says = format!(
            "more requests came than the 1/s burst {BURST} that this pod takes of all callers together"
        );
        assert_eq!(answer.headers["x-aviary-error"], says);
        assert_eq!(answer.text, format!("aviary-proxy: {says}\n"));
        assert!(!answer.headers.contains_key("x-aviary-unsent"));
        assert_eq!(app.requests(), admitted);
        assert_eq!(refused(&mesh, "rate"), 1);
    }
}

#[tokio::test]
async fn a_call_of_grpc_that_is_one_too_many_is_told_that_something_is_exhausted() {
    let app = Server::start("app").await;
    let mesh = pod(app.address);
    let mut client = Client::http2(mesh.inbound).await;
    until_refused(&mut client, "/").await;
    let mut answer = client.grpc(0).await;
    while !answer.headers.contains_key("grpc-status") {
        answer = client.grpc(0).await;
    }
    assert_eq!(answer.headers["grpc-status"], "8");
    assert_eq!(answer.headers["retry-after"], "1");
}

/// Its pod asks for it, so it is the revision's; and a pod that is asked too much is not asked through another one.
#[tokio::test]
async fn what_a_pod_turns_away_speaks_against_its_revision_and_goes_nowhere_else() {
    for version in 0..2 {
        let (app, stable) = (Server::start("v2").await, Server::start("v1").await);
        let canary = pod(app.address);
        let caller = Mesh::with(&Service::new(stable.address, canary.inbound, 100)).await;
        let client = &mut Client::both(caller.outbound).await[version];
        let (admitted, answer) = until_refused(client, "/").await;
        assert!(!answer.headers.contains_key("x-aviary-unsent"));
        assert_eq!(answer.headers["retry-after"], "1");
        let admitted = admitted as u64;
        let ended = counts(&caller.arm("v2").first_attempts);
        assert_eq!(ended, [admitted, 0, 0, 1]);
        assert_eq!(stable.requests(), 0);
        // What the application itself says so is its answer.
        let plain = Mesh::with(&Service::new(app.address, app.address, 100)).await;
        let client = &mut Client::both(plain.outbound).await[version];
        let answer = client.get("/status/429").await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(counts(&plain.arm("v2").first_attempts), [1, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_call_of_grpc_that_is_turned_away_speaks_against_the_revision_too() {
    let (app, stable) = (Server::start("v2").await, Server::start("v1").await);
    let canary = pod(app.address);
    // What an application says so would be sent again.
    let retries = Retries {
        on: [Condition::Grpc(Code::ResourceExhausted)]
            .into_iter()
            .collect(),
        times: Times::ONCE,
        each: None,
        methods: [Method::Grpc].into_iter().collect(),
        budget: Terms::default(),
    };
    let bounds = Bounds {
        retries: Some(retries),
        ..Bounds::default()
    };
    let service = Service {
        bounds,
        ..Service::new(stable.address, canary.inbound, 100)
    };
    let caller = Mesh::with(&service).await;
    let mut client = Client::http2(caller.outbound).await;
    let mut admitted = 0;
    while !client.grpc(0).await.headers.contains_key("grpc-status") {
        admitted += 1;
    }
    let ended = counts(&caller.arm("v2").first_attempts);
    assert_eq!(ended, [admitted, 0, 0, 1]);
    assert_eq!(stable.requests(), 0);
}

#[tokio::test]
async fn declared_probes_are_never_too_many() {
    let app = Server::start("app").await;
    let mesh = pod(app.address);
    let inbound = Inbound {
        probes: vec![Probe::http(app.address.port(), "/healthz").unwrap()],
        ..Inbound::default()
    };
    let snapshot = Snapshot {
        inbound: Some(Arc::new(inbound)),
        ..Snapshot::default()
    };
    mesh.data.install(Arc::new(snapshot)).await;
    for client in &mut Client::both(mesh.inbound).await {
        until_refused(client, "/").await;
        for _ in 0..3 * BURST {
            assert_eq!(client.get("/healthz").await.status, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn workers_count_together() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Given {
        inbound: app.address,
        workers: 2,
        limits: limits(Rates {
            all: few(),
            each: None,
        }),
        ..Given::default()
    });
    let mut first = Client::http1(mesh.inbound).await;
    until_refused(&mut first, "/").await;
    // It is the other worker's, which has fewer connections.
    let mut second = Client::http1(mesh.inbound).await;
    let (admitted, _) = until_refused(&mut second, "/").await;
    assert!(admitted < BURST, "{admitted}");
}

#[tokio::test]
async fn a_pod_that_turns_away_quickly_draws_no_more_requests_by_that() {
    let (app, other) = (Server::start("v2").await, Server::start("v2").await);
    let limited = pod(app.address);
    let service = Service {
        canary: vec![limited.inbound, other.address],
        ..Service::new(other.address, other.address, 100)
    };
    let caller = Mesh::with(&service).await;
    let mut clients = Client::both(caller.outbound).await;
    let mut turned_away = 0;
    for number in 0..100 {
        let answer = clients[number % 2].get("/").await;
        turned_away += usize::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(turned_away <= 5, "{turned_away}");
}
