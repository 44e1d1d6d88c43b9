//! What the owner of a Service puts into requests on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aviary_proxy::control::Install;
use http::StatusCode;
use traffic_core::bounds::Bounds;
use traffic_core::config::{Route, Weight};
use traffic_core::fault::{Abort, Delay, Faults, Only};
use traffic_core::retry::policy::Retries;

use crate::client::{Client, get, whole};
use crate::mesh::{Given, Mesh, SERVICE, Service, counts};
use crate::retries::{SENT, policy, told};
use crate::server::Server;

const LONG: Duration = Duration::from_secs(60);

pub(crate) fn faulty(address: SocketAddr, faults: Option<Faults>) -> Service {
    let bounds = Bounds {
        faults: faults.map(Arc::new),
        ..Bounds::default()
    };
    Service {
        bounds,
        ..Service::new(address, address, 0)
    }
}

/// A proxy of a Service that is not being released.
pub(crate) async fn at_rest(given: Given, service: &Service) -> Mesh {
    let mesh = Mesh::start(given);
    let mut route: Route = service.route();
    route.split.canary = None;
    let mut snapshot = service.snapshot();
    let address = SERVICE.parse().unwrap();
    snapshot.routes.insert(address, Some(Arc::new(route)));
    mesh.data.install(Arc::new(snapshot)).await;
    mesh
}

pub(crate) fn abort_all() -> Option<Faults> {
    Faults::new(None, Abort::new(Weight::ALL, 503), None)
}

/// Of how many requests it was done.
pub(crate) fn put_in(mesh: &Mesh, what: &str) -> u64 {
    let text = mesh.metrics.render().unwrap();
    let series = format!("aviary_outbound_faults_total{{reason=\"{what}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap().parse().unwrap()
}

/// [success, failure, client_closed, unsent], of first attempts and of requests.
fn ended(mesh: &Mesh) -> [[u64; 4]; 2] {
    let arm = mesh.arm("v1");
    [counts(&arm.first_attempts), counts(&arm.requests)]
}

#[tokio::test]
async fn an_abort_is_an_error_that_says_so_and_is_evidence_for_nobody() {
    let server = Server::start("v1").await;
    let mesh = at_rest(Given::default(), &faulty(server.address, abort_all())).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.get("/").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let says = "the owner of the Service asks for this fault";
        assert_eq!(answer.headers["x-aviary-error"], says);
    }
    let answer = Client::http2(mesh.outbound).await.grpc(0).await;
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(server.requests(), 0);
    assert_eq!(ended(&mesh), [[0; 4]; 2]);
    assert_eq!((put_in(&mesh, "abort"), put_in(&mesh, "delay")), (3, 0));
}

#[tokio::test]
async fn a_delay_is_waited_for_by_requests_that_say_so_and_is_evidence_for_nobody() {
    const DELAY: Duration = Duration::from_millis(700);
    let server = Server::start("v1").await;
    let only = Only::header("x-test", "slow").unwrap();
    let faults = Faults::new(Delay::new(Weight::ALL, DELAY), None, Some(only));
    let mesh = at_rest(Given::default(), &faulty(server.address, faults)).await;
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/").await.text, "v1");
        let mut request = get("/");
        let headers = request.headers_mut();
        headers.insert("x-test", "slow".parse().unwrap());
        let begun = Instant::now();
        let answer = whole(client.send(request).await.unwrap()).await.unwrap();
        assert_eq!(answer.text, "v1");
        assert!(begun.elapsed() >= DELAY);
    }
    assert_eq!(put_in(&mesh, "delay"), 2);
    let only_the_others = [2, 0, 0, 0];
    assert_eq!(ended(&mesh), [only_the_others; 2]);
}

#[tokio::test]
async fn a_delay_ends_with_the_time_of_its_request() {
    let server = Server::start("v1").await;
    let faults = Faults::new(Delay::new(Weight::ALL, LONG), None, None);
    let mut service = faulty(server.address, faults);
    service.bounds.request = Some(Duration::from_millis(300));
    let mesh = at_rest(Given::default(), &service).await;
    for client in &mut Client::both(mesh.outbound).await {
        let begun = Instant::now();
        let answer = client.get("/held").await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert!(begun.elapsed() < LONG);
    }
    assert_eq!(
        server.requests(),
        0,
        "nobody works for an answer that nobody reads"
    );
}

#[tokio::test]
async fn a_delay_takes_none_of_the_time_that_an_attempt_has() {
    const EACH: Duration = Duration::from_secs(2);
    let server = Server::start("v1").await;
    let delay = Delay::new(Weight::ALL, EACH + Duration::from_millis(1));
    let mut service = faulty(server.address, Faults::new(delay, None, None));
    service.bounds.retries = Some(Retries {
        each: Some(EACH),
        ..policy("reset")
    });
    let mesh = at_rest(Given::default(), &service).await;
    let mut client = Client::http1(mesh.outbound).await;
    assert_eq!(client.get("/").await.text, "v1");
    assert_eq!(told(&mesh, SENT, "v1", "reset"), Some(0));
}

#[tokio::test]
async fn while_there_is_a_canary_nothing_is_put_in_whatever_is_said() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&faulty(server.address, abort_all())).await;
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/").await.text, "v1");
    }
    assert_eq!(put_in(&mesh, "abort"), 0);
    assert_eq!(ended(&mesh)[0], [2, 0, 0, 0]);
}
