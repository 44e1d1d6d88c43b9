//! Requests that fail and are sent again, since the Service's owner says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method as HttpMethod, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use traffic_core::bounds::Bounds;
use traffic_core::retry::budget::Terms;
use traffic_core::retry::conditions::Condition;
use traffic_core::retry::methods::{Method, Methods};
use traffic_core::retry::policy::{Retries, Times};

use crate::client::{Client, eventually, get, whole};
use crate::mesh::{Mesh, Service, counts};
use crate::server::{Server, nobody, raw};

/// Enough for all that a test asks for.
const PLENTY: (u32, u32) = (100, 1_000);

/// Once, for these.
pub(crate) fn policy(on: &str) -> Retries {
    Retries {
        on: on
            .split(',')
            .map(|word| word.parse::<Condition>().unwrap())
            .collect(),
        times: Times::ONCE,
        each: None,
        methods: Methods::default(),
        budget: Terms::new(PLENTY.0, PLENTY.1).unwrap(),
    }
}

fn methods(names: &[Method]) -> Methods {
    names.iter().copied().collect()
}

pub(crate) fn with(service: Service, retries: Retries) -> Service {
    let bounds = Bounds {
        retries: Some(retries),
        ..Bounds::default()
    };
    Service { bounds, ..service }
}

/// A stable and a canary, which gets all.
async fn two() -> (Server, Server, Service) {
    let (stable, canary) = (Server::start("v1").await, Server::start("v2").await);
    let service = Service::new(stable.address, canary.address, 100);
    (stable, canary, service)
}

/// [success, failure, client_closed, unsent] of the canary's first attempts, and of all requests that stable answered last.
fn ended(mesh: &Mesh) -> [[u64; 4]; 2] {
    let (canary, stable) = (mesh.arm("v2"), mesh.arm("v1"));
    assert_eq!(
        counts(&stable.first_attempts),
        [0; 4],
        "a retry is evidence for nobody"
    );
    [counts(&canary.first_attempts), counts(&stable.requests)]
}

/// How many attempts of a revision were sent again, or would have been.
pub(crate) fn told(mesh: &Mesh, metric: &str, revision: &str, reason: &str) -> Option<u64> {
    let text = mesh.metrics.render().unwrap();
    let labels = format!("revision=\"{revision}\",reason=\"{reason}\"}} ");
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{metric}_total{{")) && line.contains(&labels))?;
    line.rsplit(' ').next()?.parse().ok()
}

pub(crate) const SENT: &str = "aviary_outbound_retries";
const OVER_BUDGET: &str = "aviary_outbound_retries_over_budget";

fn put(
    path: &str,
    body: Vec<u8>,
) -> Request<UnsyncBoxBody<bytes::Bytes, std::convert::Infallible>> {
    Request::put(path)
        .body(UnsyncBoxBody::new(Full::new(body.into())))
        .unwrap()
}

#[tokio::test]
async fn a_canary_that_fails_is_answered_for_by_stable_and_it_speaks_against_it() {
    let (_stable, canary, service) = two().await;
    let mesh = Mesh::with(&with(service, policy("503,500"))).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..5 {
            let answer = client.get("/fails-at/v2").await;
            assert_eq!(
                (answer.status, answer.text.as_str()),
                (StatusCode::OK, "v1")
            );
        }
    }
    assert_eq!(ended(&mesh), [[0, 10, 0, 0], [10, 0, 0, 0]]);
    assert_eq!(canary.requests(), 10);
    assert!(
        canary.connections() <= 3,
        "they serve on: one of each version"
    );
    assert_eq!(told(&mesh, SENT, "v2", "status"), Some(10));
    assert_eq!(told(&mesh, SENT, "v1", "status"), Some(0));
    assert_eq!(told(&mesh, OVER_BUDGET, "v2", "status"), Some(0));
}

#[tokio::test]
async fn without_a_word_nothing_that_was_answered_is_sent_again_and_there_are_no_series_of_it() {
    let (stable, _canary, service) = two().await;
    let mesh = Mesh::with(&service).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.get("/fails-at/v2").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(stable.requests(), 0);
    let text = mesh.metrics.render().unwrap();
    assert!(!text.contains("aviary_outbound_retries_total{"), "{text}");
}

#[tokio::test]
async fn what_is_not_named_is_passed_on_as_it_is() {
    let (stable, _canary, service) = two().await;
    let mesh = Mesh::with(&with(service, policy("503,reset"))).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.get("/fails-at/v2").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.text, "v2");
    }
    assert_eq!(stable.requests(), 0);
    assert_eq!(ended(&mesh), [[0, 2, 0, 0], [0; 4]]);
}

#[tokio::test]
async fn a_post_is_sent_twice_only_if_it_is_named_and_then_whole() {
    let (stable, _canary, service) = two().await;
    let mesh = Mesh::with(&with(service.clone(), policy("5xx"))).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.post("/echo-or-fail/v2", "money").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(stable.requests(), 0);
    let named = Retries {
        methods: methods(&[Method::Post]),
        ..policy("5xx")
    };
    mesh.install(&with(service, named)).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.post("/echo-or-fail/v2", "money").await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::OK, "money")
        );
        // Methods that are not named are not sent again, then.
        let answer = client.get("/fails-at/v2").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(stable.requests(), 2);
}

#[tokio::test]
async fn a_body_is_sent_again_as_long_as_all_of_it_is_kept() {
    let (stable, _canary, service) = two().await;
    let named = Retries {
        methods: methods(&[Method::Put]),
        ..policy("5xx")
    };
    let mesh = Mesh::with(&with(service, named)).await;
    for (length, status) in [
        (60 * 1024, StatusCode::OK),
        (80 * 1024, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        for client in &mut Client::both(mesh.outbound).await {
            let body = vec![b'x'; length];
            let answer = client.send(put("/echo-or-fail/v2", body)).await.unwrap();
            let answer = whole(answer).await.unwrap();
            assert_eq!(answer.status, status);
            if status == StatusCode::OK {
                assert_eq!(answer.text.len(), length);
            }
        }
    }
    assert_eq!(stable.requests(), 2);
}

/// What comes next on such a connection is the rest of a body to its endpoint.
#[tokio::test]
async fn a_connection_that_was_answered_before_all_of_a_body_serves_nobody_else() {
    const PATIENCE: Duration = Duration::from_secs(10);
    let early = raw(|mut stream, request| async move {
        if request.starts_with(b"PUT") {
            let answer = b"HTTP/1.1 500 Early\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        } else {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv2";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let stable = Server::start("v1").await;
    let named = Retries {
        methods: methods(&[Method::Put]),
        ..policy("500")
    };
    let service = Service::new(stable.address, early, 100);
    let mesh = Mesh::with(&with(service, named)).await;
    let mut caller = TcpStream::connect(mesh.outbound).await.unwrap();
    let half = b"PUT /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhello";
    caller.write_all(half).await.unwrap();
    eventually("it is sent again", || stable.requests() == 1).await;
    caller.write_all(b"world").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"helloworld") {
        let read = timeout(PATIENCE, caller.read_buf(&mut answer)).await;
        assert_ne!(read.expect("an answer").unwrap(), 0);
    }
    let mut client = Client::http1(mesh.outbound).await;
    let answer = timeout(PATIENCE, client.get("/")).await.expect("an answer");
    assert_eq!(answer.text, "v2");
}

/// Takes a request and ends the connection without an answer; counts.
async fn dying() -> (SocketAddr, Arc<AtomicUsize>) {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let address = raw(move |stream, _request| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { drop(stream) }
    })
    .await;
    (address, hits)
}

#[tokio::test]
async fn what_ends_without_an_answer_is_sent_again_if_resets_are_named() {
    let (address, hits) = dying().await;
    let stable = Server::start("v1").await;
    let service = Service::new(stable.address, address, 100);
    let mesh = Mesh::with(&with(service.clone(), policy("reset"))).await;
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/").await.text, "v1");
        let answer = client.post("/", "money").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    }
    assert_eq!(hits.load(Ordering::SeqCst), 4);
    assert_eq!(ended(&mesh), [[0, 4, 0, 0], [2, 0, 0, 0]]);
    assert_eq!(told(&mesh, SENT, "v2", "reset"), Some(2));
    mesh.install(&with(service, policy("5xx"))).await;
    let answer = Client::http1(mesh.outbound).await.get("/").await;
    assert_eq!(
        answer.status,
        StatusCode::BAD_GATEWAY,
        "it is no answer of 500 or above"
    );
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_given_up_for_another_one() {
    let (stable, canary, service) = two().await;
    let within = |each| {
        let quick = Retries {
            each: Some(each),
            ..policy("reset")
        };
        with(service.clone(), quick)
    };
    // The other one has to be in time.
    let mesh = Mesh::with(&within(Duration::from_secs(2))).await;
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(client.get("/held-at/v2").await.text, "v1");
    }
    assert_eq!(ended(&mesh), [[0, 2, 0, 0], [2, 0, 0, 0]]);
    mesh.install(&within(Duration::from_millis(300))).await;
    for client in &mut Client::both(mesh.outbound).await {
        let answer = client.get("/held").await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        let says = "no answer within 300ms, which is how long one attempt of a call to this Service may take";
        assert_eq!(answer.text, format!("aviary-proxy: {says}\n"));
    }
    // The proxy may be done with one before its server has looked at it.
    eventually("each was asked", || {
        (stable.requests(), canary.requests()) == (4, 4)
    })
    .await;
    // What may not be sent again has all the time that there is.
    let outbound = mesh.outbound;
    let post = tokio::spawn(async move {
        let mut client = Client::http1(outbound).await;
        client.post("/held", "money").await.status
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    canary.state.held.add_permits(1);
    assert_eq!(post.await.unwrap(), StatusCode::OK);
    assert_eq!((stable.requests(), canary.requests()), (4, 5));
}

#[tokio::test]
async fn a_call_of_grpc_is_sent_again_for_a_status_that_is_all_of_its_answer() {
    let (stable, _canary, service) = two().await;
    let calls = Retries {
        methods: methods(&[Method::Grpc]),
        ..policy("unavailable,internal")
    };
    let mesh = Mesh::with(&with(service.clone(), calls)).await;
    let mut client = Client::http2(mesh.outbound).await;
    let answer = client.grpc_at("/grpc-only/v2/14").await;
    assert_eq!(answer.text, "message", "all of the call came to stable");
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    assert_eq!(ended(&mesh), [[0, 1, 0, 0], [1, 0, 0, 0]]);
    assert_eq!(told(&mesh, SENT, "v2", "grpc"), Some(1));
    // Another status, one behind an answer that has begun, and a POST that is no call.
    let answer = client.grpc_at("/grpc-only/v2/5").await;
    assert_eq!(answer.headers["grpc-status"], "5");
    let answer = client.grpc_at("/grpc-at/v2/14").await;
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "14");
    let answer = client.post("/fails-at/v2", "money").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(stable.requests(), 1);
}

#[tokio::test]
async fn a_request_is_sent_again_so_often_and_no_more() {
    let server = Server::start("v1").await;
    let thrice = Retries {
        times: Times::new(3).unwrap(),
        ..policy("5xx")
    };
    let service = with(Service::new(server.address, server.address, 0), thrice);
    let mesh = Mesh::with(&service).await;
    for (number, client) in Client::both(mesh.outbound).await.iter_mut().enumerate() {
        let answer = client.get("/status/503").await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "v1")
        );
        assert_eq!(server.requests(), 4 * (number + 1));
    }
    let stable = mesh.arm("v1");
    assert_eq!(counts(&stable.first_attempts), [0, 2, 0, 0]);
    assert_eq!(
        counts(&stable.requests),
        [0, 2, 0, 0],
        "a request is one, however often it is sent"
    );
    assert_eq!(told(&mesh, SENT, "v1", "status"), Some(6));
}

#[tokio::test]
async fn when_everything_fails_no_more_than_the_budget_is_sent_again() {
    let server = Server::start("v1").await;
    let tenth = Retries {
        budget: Terms::new(10, 0).unwrap(),
        ..policy("5xx")
    };
    let service = with(Service::new(server.address, server.address, 0), tenth);
    let mesh = Mesh::with(&service).await;
    let mut clients = Client::both(mesh.outbound).await;
    let sent = |mesh: &Mesh| told(mesh, SENT, "v1", "status").unwrap();
    for number in 0..40 {
        if number == 20 {
            // What was spent is spent under another weight, too.
            mesh.install(&service.at(50)).await;
            mesh.install(&service).await;
        }
        let answer = clients[number % 2].get("/status/503").await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "v1")
        );
        let most = (number as u64 + 1) / 10;
        assert!(sent(&mesh) <= most, "{} of {number}", sent(&mesh));
    }
    assert!(sent(&mesh) >= 1);
    assert_eq!(
        sent(&mesh) + told(&mesh, OVER_BUDGET, "v1", "status").unwrap(),
        40
    );
    assert_eq!(server.requests() as u64, 40 + sent(&mesh));
}

#[tokio::test]
async fn what_reaches_nobody_is_tried_as_often_as_the_owner_says() {
    let stable = Server::start("v1").await;
    let service = Service {
        stable: vec![nobody().await, stable.address],
        canary: vec![nobody().await],
        ..Service::default()
    }
    .at(100);
    let twice = Retries {
        times: Times::new(2).unwrap(),
        ..policy("connect-failure")
    };
    let mesh = Mesh::with(&with(service, twice)).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..20 {
            // A POST, too: nobody has seen it.
            assert_eq!(client.post("/echo", "money").await.text, "money");
        }
    }
    assert_eq!(ended(&mesh), [[0, 0, 0, 40], [40, 0, 0, 0]]);
}

#[tokio::test]
async fn a_caller_that_leaves_and_an_answer_that_has_begun_are_not_tried_again() {
    let cuts = raw(|mut stream, _request| async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all";
        stream.write_all(head).await.unwrap();
    })
    .await;
    let stable = Server::start("v1").await;
    let all = policy("connect-failure,reset,5xx");
    let mesh = Mesh::with(&with(Service::new(stable.address, cuts, 100), all)).await;
    let mut client = Client::http1(mesh.outbound).await;
    assert!(client.try_get("/").await.is_err());
    let canary = Server::start("v2").await;
    mesh.install(&with(
        Service::new(stable.address, canary.address, 100),
        all,
    ))
    .await;
    for mut client in Client::both(mesh.outbound).await {
        let before = canary.requests();
        let waiting = tokio::spawn(async move {
            let _ = client.send(get("/held")).await;
        });
        eventually("it arrives", || canary.requests() > before).await;
        waiting.abort();
    }
    eventually("both have left", || ended(&mesh)[0][2] == 2).await;
    assert_eq!(stable.requests(), 0);
}

#[tokio::test]
async fn a_request_for_a_head_alone_is_sent_again_too() {
    let (_stable, _canary, service) = two().await;
    let mesh = Mesh::with(&with(service, policy("5xx"))).await;
    for client in &mut Client::both(mesh.outbound).await {
        let mut request = get("/head-fails-at/v2");
        *request.method_mut() = HttpMethod::HEAD;
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

/// Else a new weight would take away what the requests before it have earned.
#[tokio::test]
async fn what_was_not_spent_outlives_a_new_weight() {
    let server = Server::start("v1").await;
    let half = Retries {
        budget: Terms::new(50, 0).unwrap(),
        ..policy("5xx")
    };
    let service = with(Service::new(server.address, server.address, 0), half);
    let mesh = Mesh::with(&service).await;
    let mut client = Client::http1(mesh.outbound).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    mesh.install(&service.at(50)).await;
    mesh.install(&service).await;
    for _ in 0..5 {
        client.get("/status/503").await;
    }
    assert_eq!(told(&mesh, SENT, "v1", "status"), Some(5));
}
