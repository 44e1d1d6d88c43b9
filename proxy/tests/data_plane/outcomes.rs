//! What a proxy tells its control plane of the requests that it carries, and what becomes of the configuration meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::{Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use traffic_core::config::Protocol;
use traffic_core::outcome::ledger::TELLINGS;
use traffic_core::outcome::{
    Bucket, Class, Counts, Failures, PerClass, Place, Said, Second, Trace,
};

use crate::client::{Client, eventually, get, whole};
use crate::control_plane::{ControlPlane, Loads, PATIENCE, wall};
use crate::mesh::{Given, Mesh, Service, counts};
use crate::server::{Server, nobody, raw};
use crate::streams::endpoint;

/// How far the test's look at the clock may be off from the proxy's.
const MARGIN: Duration = Duration::from_millis(100);

const ARMS: [&str; 2] = ["v1", "v2"];

/// A request that a test has sent, as it looked from there.
struct Seen {
    /// The wall clock before and after.
    during: [Duration; 2],
    answer: (String, StatusCode),
}

impl Seen {
    /// The seconds that it may have started in: one or two.
    fn seconds(&self) -> [Second; 2] {
        let [from, to] = self.during;
        [(from - MARGIN).as_secs(), (to + MARGIN).as_secs()]
    }

    fn is(&self, revision: &str, status: u16) -> bool {
        self.answer.0 == revision && self.answer.1 == status
    }
}

async fn ask(client: &mut Client, path: &str) -> Seen {
    let before = wall();
    let answer = client.get(path).await;
    Seen {
        during: [before, wall()],
        answer: (answer.text, answer.status),
    }
}

fn cluster(revision: &str) -> String {
    format!("shop/web/80/{revision}")
}

/// Sum of all seconds up to `last`.
fn sum(told: &BTreeMap<(String, Second), Counts>, revision: &str, last: Second) -> Counts {
    let mut sum = Counts::default();
    for ((of, second), counts) in told {
        if *of == cluster(revision) && *second <= last {
            sum.merge(counts);
        }
    }
    sum
}

/// Goes on sending requests until the condition holds.
async fn until(what: &str, client: &mut Client, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        client.get("/").await;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Sends requests until every second up to now is closed, and told.
async fn close(plane: &ControlPlane, client: &mut Client) -> Second {
    let last = (wall() + MARGIN).as_secs();
    while wall().as_secs() <= last {
        sleep(MARGIN).await;
    }
    let closed = || {
        let mut seconds = plane.told().into_keys().map(|(_, second)| second);
        seconds.any(|second| second > last + TELLINGS)
    };
    until("every second is closed", client, closed).await;
    last
}

fn http(service: Service) -> Service {
    Service {
        protocol: Protocol::Http,
        ..service
    }
}

pub(crate) fn shows(mesh: &Mesh, line: &str) -> bool {
    let text = mesh.metrics.render().unwrap();
    text.lines().any(|shown| shown == line)
}

#[tokio::test]
async fn every_first_attempt_is_told_once_in_the_second_in_which_it_started() {
    let (stable, canary) = (Server::start("v1").await, Server::start("v2").await);
    let service = http(Service::new(stable.address, canary.address, 50));
    let mut mesh = Mesh::start(Given {
        workers: 2,
        ..Given::default()
    });
    let mut plane = ControlPlane::start(Loads::Served);
    plane.rules(&mut mesh, &service).await;
    eventually("outcomes are taken", || {
        shows(&mesh, "aviary_outcomes_connected 1")
    })
    .await;
    let mut clients = Client::both(mesh.outbound).await;

    let mut seen = Vec::new();
    let end = wall() + Duration::from_millis(2_200);
    let mut rounds = 0;
    // Several seconds, and enough of both revisions however slow they are.
    while wall() < end || rounds < 40 {
        rounds += 1;
        for (client, path) in clients.iter_mut().zip(["/", "/status/500"]) {
            seen.push(ask(client, path).await);
            seen.push(ask(client, "/").await);
        }
        sleep(Duration::from_millis(5)).await;
    }
    let gone = http(Service::new(stable.address, nobody().await, 25));
    let away = gone.canary[0];
    plane.shifts(&gone, &gone.route()).await;
    let before = seen.len();
    for _ in 0..10 {
        for client in &mut clients {
            seen.push(ask(client, "/").await);
        }
    }
    let retried = 5;
    assert!(seen[before..].iter().all(|seen| seen.is("v1", 200)));
    let last = close(&plane, &mut clients[0]).await;

    let told = plane.told();
    for revision in ARMS {
        let answered = |status| -> usize { seen.iter().filter(|s| s.is(revision, status)).count() };
        let mut expected = [answered(200) as u64, answered(500) as u64, 0, 0];
        match revision {
            "v1" => expected[0] -= retried,
            _ => expected[Class::Unsent.index()] = retried,
        }
        let sum = sum(&told, revision, last);
        let expected = PerClass::from(expected);
        assert_eq!((sum.started, sum.ended), (expected.total(), expected));
        assert_eq!(sum.late, PerClass::default());
        let answered = expected.total() - expected[Class::Unsent];
        assert_eq!(sum.latency.count(), answered);
    }
    assert!(sum(&told, "v2", last).ended[Class::Failure] > 10);
    for (revision, server) in ARMS.into_iter().zip([&stable, &canary]) {
        let failures = sum(&told, revision, last).failures;
        let failed = seen.iter().filter(|seen| seen.is(revision, 500)).count();
        let mut expected = Failures::default();
        let at = |endpoint, said| Place { endpoint, said };
        expected.add(at(server.address, Said::Status(500)), failed as u64);
        if revision == "v2" {
            expected.add(at(away, Said::Nothing), retried);
        }
        assert_eq!(failures, expected);
    }

    let seconds: Vec<[Second; 2]> = seen.iter().map(Seen::seconds).collect();
    for second in seconds[0][0]..=last {
        let started: u64 = ARMS
            .iter()
            .filter_map(|arm| told.get(&(cluster(arm), second)))
            .map(|counts| counts.started)
            .sum();
        let surely = seconds.iter().filter(|of| **of == [second; 2]).count() as u64;
        let perhaps = seconds.iter().filter(|of| of.contains(&second)).count() as u64;
        assert!(
            (surely..=perhaps).contains(&started),
            "{started} in {second}, sent {surely} to {perhaps}"
        );
    }
}

/// A failure of either version of HTTP, or of gRPC in its trailers, is told with the trace that its caller gave it.
#[tokio::test]
async fn a_failure_is_told_with_the_trace_of_its_latest_request() {
    const PARENT: &str = "00f067aa0ba902b7-01";
    let server = Server::start("v2").await;
    let service = http(Service::new(server.address, server.address, 100));
    let mut mesh = Mesh::start(Given::default());
    let mut plane = ControlPlane::start(Loads::Served);
    plane.rules(&mut mesh, &service).await;
    eventually("outcomes are taken", || {
        shows(&mesh, "aviary_outcomes_connected 1")
    })
    .await;
    let [mut one, mut two] = Client::both(mesh.outbound).await;
    let traced = |path: &str, digit: &str| {
        let mut request = get(path);
        let traceparent = format!("00-{}-{PARENT}", digit.repeat(32));
        let headers = request.headers_mut();
        headers.insert("traceparent", traceparent.parse().unwrap());
        request
    };
    for (path, digit) in [
        ("/", "a"),
        ("/status/500?user=7", "b"),
        ("/status/404", "c"),
    ] {
        let answer = whole(one.send(traced(path, digit)).await.unwrap()).await;
        assert!(answer.is_ok(), "{path}");
    }
    // What has none takes none away.
    one.get("/status/500").await;
    let answer = whole(two.send(traced("/status/503", "d")).await.unwrap()).await;
    assert!(answer.is_ok());
    for (code, digit) in [(13, "e"), (5, "f")] {
        let mut call = traced(&format!("/grpc/{code}"), digit);
        let kind = "application/grpc".parse().unwrap();
        call.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        let answer = whole(two.send(call).await.unwrap()).await.unwrap();
        assert!(answer.trailers.is_some() || answer.headers.contains_key("grpc-status"));
    }
    close(&plane, &mut one).await;

    let failures = sum(&plane.told(), "v2", Second::MAX).failures;
    let said: Vec<(Said, u64, String)> = failures
        .places()
        .map(|failed| {
            let trace = failed.trace.as_ref().map(Trace::to_string);
            (failed.place.said, failed.times, trace.unwrap_or_default())
        })
        .collect();
    let trace = |digit: &str, path: &str| format!("trace {} of {path}", digit.repeat(32));
    let expected = [
        (Said::Status(500), 2, trace("b", "/status/500")),
        (Said::Status(503), 1, trace("d", "/status/503")),
        (Said::Grpc(13), 1, trace("e", "/grpc/13")),
    ];
    assert_eq!(said, expected);
    let names = two.send(traced("/headers", "a")).await.unwrap();
    let names = whole(names).await.unwrap().text;
    assert!(names.contains("traceparent"), "it goes on: {names}");
}

#[tokio::test]
async fn an_attempt_that_outlives_its_second_is_told_late_and_as_slow_as_can_be() {
    let server = Server::start("v2").await;
    let service = http(Service::new(server.address, server.address, 100));
    let mut mesh = Mesh::start(Given::default());
    let mut plane = ControlPlane::start(Loads::Served);
    plane.rules(&mut mesh, &service).await;
    eventually("outcomes are taken", || {
        shows(&mesh, "aviary_outcomes_connected 1")
    })
    .await;
    let mut client = Client::http1(mesh.outbound).await;
    let waiting = tokio::spawn(async move { client.get("/held").await.status });
    let told = || sum(&plane.told(), "v2", Second::MAX);
    eventually("its second is closed", || told().latency.count() == 1).await;
    let slow = [(Bucket::LAST, 1)].into_iter().collect();
    let only_started = Counts {
        started: 1,
        latency: slow,
        ..Counts::default()
    };
    assert_eq!(told(), only_started);
    server.state.held.add_permits(1);
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
    eventually("its end is told", || {
        told().late == PerClass::from([1, 0, 0, 0])
    })
    .await;
    assert_eq!((told().started, told().ended.total()), (1, 0));
}

/// Its head said 200: where it failed is not told as that.
#[tokio::test]
async fn an_answer_that_breaks_off_is_told_as_no_answer() {
    let cuts = raw(|mut stream, _request| async move {
        let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all";
        stream.write_all(begun).await.unwrap();
    })
    .await;
    let seen = Arc::new(Notify::new());
    let arrived = seen.clone();
    let resets = endpoint(move |_request, mut respond| {
        let arrived = arrived.clone();
        async move {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            arrived.notified().await;
            body.send_reset(Reason::INTERNAL_ERROR);
        }
    })
    .await;
    let mut plane = ControlPlane::start(Loads::Served);
    let mut mesh = Mesh::start(Given::default());
    plane
        .rules(&mut mesh, &http(Service::new(cuts, cuts, 100)))
        .await;
    eventually("outcomes are taken", || {
        shows(&mesh, "aviary_outcomes_connected 1")
    })
    .await;
    let mut http1 = Client::http1(mesh.outbound).await;
    http1.try_get("/").await.unwrap_err();
    let other = http(Service::new(resets, resets, 100));
    plane.shifts(&other, &other.route()).await;
    let mut http2 = Client::http2(mesh.outbound).await;
    let begun = http2.send(get("/")).await.unwrap();
    assert_eq!(begun.status(), StatusCode::OK);
    seen.notify_one();
    whole(begun).await.unwrap_err();

    let mut expected = Failures::default();
    for endpoint in [cuts, resets] {
        let said = Said::Nothing;
        expected.add(Place { endpoint, said }, 1);
    }
    eventually("both are told", || {
        let sum = sum(&plane.told(), "v2", Second::MAX);
        sum.failures == expected && sum.ended[Class::Failure] == 2
    })
    .await;
}

#[tokio::test]
async fn nothing_is_told_of_a_route_without_a_rollout() {
    let server = Server::start("v1").await;
    let service = http(Service::new(server.address, server.address, 0));
    let mut plain = service.route();
    (plain.rollout, plain.split.canary) = (String::new(), None);
    let mut mesh = Mesh::start(Given::default());
    let mut plane = ControlPlane::start(Loads::Served);
    plane.rules(&mut mesh, &service).await;
    plane.shifts(&service, &plain).await;
    eventually("outcomes are taken", || {
        shows(&mesh, "aviary_outcomes_connected 1")
    })
    .await;
    let mut client = Client::http1(mesh.outbound).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    // What is told of them would be told before what is told of these.
    plane.shifts(&service, &service.route()).await;
    for _ in 0..3 {
        client.get("/").await;
    }
    let told = close(&plane, &mut client).await;
    assert_eq!(sum(&plane.told(), "v1", told).started, 3);
    assert!(counts(&mesh.arm("v1").first_attempts)[0] > 23);
}

#[tokio::test]
async fn a_control_plane_that_takes_no_outcomes_is_asked_once_and_rules_all_the_same() {
    let server = Server::start("v1").await;
    let service = http(Service::new(server.address, server.address, 10));
    let mut mesh = Mesh::start(Given::default());
    let mut plane = ControlPlane::start(Loads::Unserved);
    plane.rules(&mut mesh, &service).await;
    let mut client = Client::http1(mesh.outbound).await;
    eventually("it is asked", || plane.load_streams() == 1).await;
    for percent in [20, 30] {
        let shifted = service.at(percent);
        plane.shifts(&shifted, &shifted.route()).await;
        client.get("/").await;
    }
    // Longer than the first waits between attempts.
    sleep(Duration::from_secs(1)).await;
    assert_eq!((plane.ads_streams(), plane.load_streams()), (1, 1));
    assert!(shows(&mesh, "aviary_outcomes_connected 0"));

    plane.loads_are(Loads::Served);
    plane.hangs_up();
    until("a newer one takes them", &mut client, || {
        plane.reports() > 0
    })
    .await;
    assert_eq!((plane.ads_streams(), plane.load_streams()), (2, 2));
    assert!(shows(&mesh, "aviary_outcomes_connected 1"));
}

#[tokio::test]
async fn outcomes_are_told_again_after_their_stream_ended_and_the_configuration_goes_on() {
    let server = Server::start("v1").await;
    let service = http(Service::new(server.address, server.address, 10));
    let mut mesh = Mesh::start(Given::default());
    let mut plane = ControlPlane::start(Loads::Broken);
    plane.rules(&mut mesh, &service).await;
    let mut client = Client::http1(mesh.outbound).await;
    until("it is asked again", &mut client, || {
        plane.load_streams() >= 2
    })
    .await;
    plane.loads_are(Loads::Served);
    close(&plane, &mut client).await;
    let shifted = service.at(20);
    plane.shifts(&shifted, &shifted.route()).await;
    assert_eq!(plane.ads_streams(), 1);
    for ((_, second), counts) in plane.told() {
        assert!(
            counts.ended.total() <= counts.started,
            "{second}: {counts:?}"
        );
    }
}

#[tokio::test]
async fn what_the_control_plane_does_not_read_is_dropped_and_the_configuration_goes_on() {
    let server = Server::start("v1").await;
    let service = http(Service::new(server.address, server.address, 10));
    let mut mesh = Mesh::start(Given::default());
    let mut plane = ControlPlane::start(Loads::Deaf);
    plane.rules(&mut mesh, &service).await;
    let mut client = Client::http1(mesh.outbound).await;
    let none = "aviary_outcome_reports_total{result=\"dropped\"} 0";
    until("something is dropped", &mut client, || !shows(&mesh, none)).await;
    let shifted = service.at(20);
    plane.shifts(&shifted, &shifted.route()).await;
    assert_eq!(plane.reports(), 0);

    plane.loads_are(Loads::Served);
    close(&plane, &mut client).await;
    assert_eq!((plane.ads_streams(), plane.load_streams()), (1, 1));
    for ((_, second), counts) in plane.told() {
        assert!(
            counts.ended.total() <= counts.started,
            "{second}: {counts:?}"
        );
    }
}
