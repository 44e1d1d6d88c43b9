//! Both parts in one process, over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::client::{Caller, Settings};
use super::faults::{Delay, Faults};
use super::payment::Payment;
use super::stats::{Kind, Stats};

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn payment(version: &str, errors: &str) -> (SocketAddr, oneshot::Sender<()>) {
    let (listener, address) = listen().await;
    let (stop, stopped) = oneshot::channel();
    let payment = Payment::new(
        version,
        Faults::new(errors.parse().unwrap(), Delay::default()),
    )
    .unwrap();
    let stopped = async move {
        stopped.await.ok();
    };
    tokio::spawn(payment.run(listener, stopped, Duration::from_millis(300)));
    (address, stop)
}

/// A caller of `target`, and where it shows what it sees.
async fn caller(target: SocketAddr) -> SocketAddr {
    caller_with(target, 0).await
}

async fn caller_with(target: SocketAddr, streams: u32) -> SocketAddr {
    let (listener, address) = listen().await;
    let settings = Settings {
        target: format!("http://{target}").parse().unwrap(),
        rate: 500,
        grpc: "20%".parse().unwrap(),
        streams,
        timeout: Duration::from_secs(5),
    };
    tokio::spawn(Caller::new(settings).run(listener, std::future::pending()));
    address
}

async fn stats(caller: SocketAddr) -> Stats {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    reqwest::get(format!("http://{caller}/stats"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

async fn when(caller: SocketAddr, what: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let stats = stats(caller).await;
        if holds(&stats) {
            return stats;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within 30 s: {what}: {stats:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_kind_of_request_is_answered_on_one_port() {
    let (address, _stop) = payment("v1", "0%").await;
    let caller = caller(address).await;
    let seen = when(caller, "300 answers", |s| {
        s.versions.get("v1").is_some_and(|v| v.answered >= 300)
    })
    .await;
    assert_eq!((seen.failed.total(), seen.lost), (0, 0), "{:?}", seen.notes);
    for kind in [Kind::Get, Kind::Post, Kind::Grpc] {
        assert!(seen.kinds[&kind].sent > 50, "{kind:?}: {:?}", seen.kinds);
    }
}

#[tokio::test]
async fn a_long_stream_is_whole_and_the_next_one_follows() {
    let (address, _stop) = payment("v1", "0%").await;
    let caller = caller_with(address, 1).await;
    let seen = when(caller, "the second one", |s| {
        s.kinds
            .get(&Kind::Stream)
            .is_some_and(|kind| kind.sent == 2)
    })
    .await;
    assert_eq!((seen.failed.total(), seen.lost), (0, 0), "{:?}", seen.notes);
}

#[tokio::test]
async fn failures_come_at_their_rate_and_are_the_versions_own() {
    let (address, _stop) = payment("v2", "5%").await;
    let caller = caller(address).await;
    let seen = when(caller, "400 answers", |s| {
        s.versions.get("v2").is_some_and(|v| v.answered >= 400)
    })
    .await;
    let v2 = seen.versions["v2"];
    // Answers overtake one another by a few.
    let expected = v2.answered as i64 / 20;
    assert!((v2.failed as i64 - expected).abs() <= 4, "{v2:?}");
    assert_eq!(seen.lost, 0, "{:?}", seen.notes);
    assert!(
        seen.failed.grpc > 0 && seen.failed.status > 0,
        "{:?}",
        seen.failed
    );
    assert!(v2.first_bad.is_some());
}

#[tokio::test]
async fn broken_and_refused_connections_are_counted_as_lost() {
    let (listener, address) = listen().await;
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let caller = caller(address).await;
    when(caller, "resets", |s| {
        s.failed.reset > 20 && s.lost >= s.failed.reset
    })
    .await;
    accepting.abort();
    when(caller, "refused connections", |s| s.failed.connect > 20).await;
}

#[tokio::test]
async fn a_going_service_says_so_and_serves_a_little_longer() {
    let (address, stop) = payment("v1", "0%").await;
    let url = format!("http://{address}");
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    assert_eq!(
        reqwest::get(format!("{url}/healthz"))
            .await
            .unwrap()
            .status(),
        200
    );
    stop.send(()).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut served_while_going = false;
    loop {
        let pay = reqwest::get(format!("{url}/pay")).await;
        let health = reqwest::get(format!("{url}/healthz")).await;
        served_while_going |=
            matches!((&pay, &health), (Ok(p), Ok(h)) if p.status() == 200 && h.status() == 503);
        if pay.is_err() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it does not go");
    }
    assert!(served_while_going);
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let (address, _stop) = payment("v1", "0%").await;
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let answer = reqwest::get(format!("http://{address}/refund"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["x-version"], "v1");
}
