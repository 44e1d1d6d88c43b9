//! What the access log says of requests that a rate limit or a fault has concerned.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use traffic_core::config::Weight;
use traffic_core::fault::{Abort, Delay, Faults};
use traffic_core::rate::Rates;

use super::log::known;
use super::logging;
use crate::client::{Client, get};
use crate::faults::{abort_all, at_rest, faulty};
use crate::mesh::{Given, Mesh, Service};
use crate::rates::{few, limits, until_refused};
use crate::server::Server;

const NAMES: [&str; 4] = ["direction", "response_code", "response_flags", "outcome"];
const LONG: Duration = Duration::from_secs(60);

fn delay_all(time: Duration) -> Option<Faults> {
    Faults::new(Delay::new(Weight::ALL, time), None, None)
}

/// Whether a revision is picked for it here or not, as for callers without a sidecar while a release is under way.
#[tokio::test]
async fn one_request_too_many_is_an_error_of_the_called_side() {
    for is_split in [false, true] {
        let app = Server::start("v1").await;
        let (given, written) = logging("errors");
        let mesh = Mesh::start(Given {
            inbound: app.address,
            limits: limits(Rates {
                all: few(),
                each: None,
            }),
            ..given
        });
        if is_split {
            let service = Service {
                application: Some(app.address),
                ..Service::new(app.address, app.address, 0)
            };
            mesh.install(&service).await;
        }
        for (index, client) in Client::both(mesh.inbound).await.iter_mut().enumerate() {
            let (_, answer) = until_refused(client, "/").await;
            let line = &written.lines(index + 1).await[index];
            assert_eq!(
                known(line, &NAMES),
                json!({"direction": "inbound", "response_code": 429, "response_flags": "RL", "outcome": "unsent"})
            );
            let says = answer.headers["x-aviary-error"].to_str().unwrap();
            assert_eq!(line["response_code_details"], says);
        }
    }
}

#[tokio::test]
async fn an_abort_and_a_delay_say_that_somebody_has_asked_for_them() {
    let server = Server::start("v1").await;
    let both = Faults::new(
        Delay::new(Weight::ALL, Duration::from_millis(1)),
        Abort::new(Weight::ALL, 404),
        None,
    );
    for (faults, code, flags, outcome) in [
        (abort_all(), 503, "FI", "failure"),
        (delay_all(Duration::from_millis(1)), 200, "DI", "success"),
        (both, 404, "DI,FI", "failure"),
    ] {
        let (given, written) = logging("all");
        let mesh = at_rest(given, &faulty(server.address, faults)).await;
        for (index, client) in Client::both(mesh.outbound).await.iter_mut().enumerate() {
            assert_eq!(client.get("/").await.status.as_u16(), code);
            let line = &written.lines(index + 1).await[index];
            assert_eq!(
                known(line, &NAMES),
                json!({"direction": "outbound", "response_code": code, "response_flags": flags, "outcome": outcome})
            );
            assert_eq!(line["route_name"].is_string(), code == 200);
        }
    }
}

#[tokio::test]
async fn a_delay_is_said_besides_what_came_of_the_request() {
    let server = Server::start("v1").await;
    for faults in [
        delay_all(LONG),
        Faults::new(
            Delay::new(Weight::ALL, LONG),
            Abort::new(Weight::ALL, 503),
            None,
        ),
    ] {
        let (given, written) = logging("errors");
        let mut service = faulty(server.address, faults);
        service.bounds.request = Some(Duration::from_millis(200));
        let mesh = at_rest(given, &service).await;
        for (index, client) in Client::both(mesh.outbound).await.iter_mut().enumerate() {
            let answer = client.get("/").await;
            assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(
                written.lines(index + 1).await[index]["response_flags"],
                "DI,UT"
            );
        }
    }
    assert_eq!(server.requests(), 0);
}

/// Were it not noticed, there would be no line before the delay is over.
#[tokio::test]
async fn a_caller_that_leaves_is_kept_waiting_no_longer_and_its_request_goes_nowhere() {
    let server = Server::start("v1").await;
    let (given, written) = logging("all");
    let mesh = at_rest(given, &faulty(server.address, delay_all(LONG))).await;
    let left = json!({"direction": "outbound", "response_code": 0, "response_flags": "DI,DC", "outcome": "client_closed"});
    for request in [
        "GET / HTTP/1.1\r\nhost: web\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\n\r\nhe",
    ] {
        let before = written.text().lines().count();
        let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        waits(&mesh, before + 1).await;
        stream.set_zero_linger().unwrap();
        drop(stream);
        let line = &written.lines(before + 1).await[before];
        assert_eq!(known(line, &NAMES), left);
    }
    let (outbound, before) = (mesh.outbound, written.text().lines().count());
    let call = tokio::spawn(async move { Client::http2(outbound).await.send(get("/")).await });
    waits(&mesh, before + 1).await;
    call.abort();
    let line = &written.lines(before + 1).await[before];
    assert_eq!(known(line, &NAMES), left);
    assert_eq!(server.requests(), 0);
}

/// So many requests were kept waiting by now.
async fn waits(mesh: &Mesh, count: usize) {
    let is_there = || crate::faults::put_in(mesh, "delay") == count as u64;
    crate::client::eventually("it is kept waiting", is_there).await;
}
