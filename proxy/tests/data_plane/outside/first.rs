//! The first request of a caller without a sidecar: it asks what to split, and waits for that as long as it is worth while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aviary_proxy::control::{Install, Link};
use aviary_proxy::limits::Limits;
use tokio::net::TcpStream;
use tokio::time::timeout;
use traffic_core::config::Wanted;
use traffic_core::peer::Peer;

use super::{Pod, apps, canarys, probed};
use crate::client::{Client, eventually, get, whole};
use crate::control_plane::PATIENCE;
use crate::mesh::{Given, Mesh, Service};
use crate::server::Server;

/// A pod whose control plane is there, and says what the test says. Its first request waits for that as long as it takes.
fn listening(address: SocketAddr) -> Pod {
    waiting_for(address, Duration::from_secs(3600))
}

fn waiting_for(address: SocketAddr, hold: Duration) -> Pod {
    let limits = Limits {
        hold,
        ..Limits::default()
    };
    let mesh = Mesh::start(Given {
        inbound: address,
        limits,
        ..Given::default()
    });
    mesh.data.link(Link::Connected);
    Pod { address, mesh }
}

/// What one request of either version of HTTP is answered, and what happens while it waits.
async fn held(pod: &mut Pod, version: usize, then: impl AsyncFnOnce(&Pod)) -> String {
    let [one, two] = Client::both(pod.mesh.inbound).await;
    let mut client = if version == 1 { one } else { two };
    let asks = async { client.get("/").await.text };
    let answers = async {
        let wanted = Wanted::Application(pod.address);
        assert_eq!(pod.mesh.demands.recv().await, Some(wanted));
        then(pod).await;
    };
    timeout(PATIENCE, async { tokio::join!(asks, answers).0 })
        .await
        .unwrap()
}

#[tokio::test]
async fn the_first_request_waits_until_it_is_known_what_to_split() {
    for version in [1, 2] {
        let [v1, v2] = apps().await;
        let mut pod = listening(v1.address);
        let answer = held(&mut pod, version, async |pod| {
            pod.knows(v1.address, v2.address, 100).await;
        });
        assert_eq!(answer.await, "v2");
        assert_eq!(v1.requests(), 0);
        assert_eq!(pod.picked("v2"), [1, 0, 0, 0]);
    }
}

/// Also at a canary's pod that nobody has called before: it need not have known any weight.
#[tokio::test]
async fn weight_0_is_in_force_for_the_first_request() {
    for version in [1, 2] {
        let [v1, v2] = apps().await;
        let mut pod = listening(v2.address);
        let answer = held(&mut pod, version, async |pod| {
            pod.knows(v1.address, v2.address, 0).await;
        });
        assert_eq!(answer.await, "v1");
        assert_eq!(v2.requests(), 0);
    }
}

#[tokio::test]
async fn where_there_is_nothing_to_split_one_answer_is_enough() {
    let app = Server::start("v1").await;
    let mut pod = listening(app.address);
    let answer = held(&mut pod, 1, async |pod| {
        let mut nothing = Service::default().snapshot();
        nothing.applications = [(pod.address, None)].into();
        pod.mesh.data.install(Arc::new(nothing)).await;
    });
    assert_eq!(answer.await, "v1");
    for client in &mut Client::both(pod.mesh.inbound).await {
        assert_eq!(client.get("/").await.text, "v1");
    }
    assert!(pod.mesh.demands.try_recv().is_err(), "it is known");
    assert_eq!(pod.counted(Peer::Outside), [3, 0, 0, 0]);
}

#[tokio::test]
async fn what_is_forgotten_is_waited_for_again() {
    let [v1, v2] = apps().await;
    let mut pod = listening(v1.address);
    for version in [1, 2] {
        let answer = held(&mut pod, version, async |pod| {
            pod.knows(v1.address, v2.address, 100).await;
        });
        assert_eq!(answer.await, "v2");
        pod.mesh.install(&Service::default()).await;
    }
    assert_eq!(v1.requests(), 0);
}

#[tokio::test]
async fn a_control_plane_that_says_nothing_is_waited_for_once() {
    let [v1, v2] = apps().await;
    let pod = waiting_for(v1.address, Duration::from_millis(20));
    for client in &mut Client::both(pod.mesh.inbound).await {
        for _ in 0..5 {
            assert_eq!(client.get("/").await.text, "v1");
        }
    }
    assert_eq!(pod.counted(Peer::Outside), [10, 0, 0, 0]);
    pod.knows(v1.address, v2.address, 100).await;
    assert_eq!(canarys(&pod, 4).await, 4);
}

/// The one that is waited for may be away: what comes meanwhile is answered at once, and known when it is back.
#[tokio::test]
async fn without_a_control_plane_nothing_waits_and_it_is_asked_all_the_same() {
    let app = Server::start("v1").await;
    let mut pod = listening(app.address);
    pod.mesh.data.link(Link::Disconnected);
    for client in &mut Client::both(pod.mesh.inbound).await {
        let answer = timeout(PATIENCE, client.get("/")).await.unwrap();
        assert_eq!(answer.text, "v1");
    }
    let wanted = Wanted::Application(app.address);
    assert_eq!(pod.mesh.demands.recv().await, Some(wanted));
}

#[tokio::test]
async fn a_drain_waits_for_a_request_that_waits() {
    let [v1, v2] = apps().await;
    let mut pod = listening(v1.address);
    let mut client = Client::http1(pod.mesh.inbound).await;
    let asks = tokio::spawn(async move { client.get("/").await.text });
    pod.mesh.demands.recv().await.unwrap();
    pod.mesh.stop();
    let gone = async || TcpStream::connect(pod.mesh.inbound).await.is_err();
    let closes = async { while !gone().await {} };
    timeout(PATIENCE, closes).await.unwrap();
    pod.knows(v1.address, v2.address, 100).await;
    assert_eq!(asks.await.unwrap(), "v2");
}

/// Whoever looks at what is in progress, as a drain does, sees no moment in which it waits no more and is not sent yet.
#[tokio::test]
async fn a_request_that_waited_is_in_progress_all_the_time() {
    let [v1, v2] = apps().await;
    let mut pod = listening(v1.address);
    for number in 1..=20 {
        let [one, two] = Client::both(pod.mesh.inbound).await;
        let mut client = if number % 2 == 0 { one } else { two };
        let asks = tokio::spawn(async move { client.get("/held").await.text });
        pod.mesh.demands.recv().await.unwrap();
        let metrics = pod.mesh.metrics.clone();
        let is_sent = Arc::new(AtomicBool::new(false));
        let over = is_sent.clone();
        let least = std::thread::spawn(move || {
            let looks = || metrics.streams.load(Ordering::Relaxed);
            let mut least = looks();
            while !over.load(Ordering::Relaxed) {
                least = least.min(looks());
            }
            least
        });
        pod.knows(v1.address, v2.address, 100).await;
        eventually("it is sent", || v2.requests() == number).await;
        is_sent.store(true, Ordering::Relaxed);
        assert_eq!(least.join().unwrap(), 1);
        v2.state.held.add_permits(1);
        assert_eq!(asks.await.unwrap(), "v2");
        // Else the next one is not the only one.
        eventually("it is over", || {
            pod.mesh.metrics.streams.load(Ordering::Relaxed) == 0
        })
        .await;
        pod.mesh.data.install(Arc::default()).await;
    }
}

#[tokio::test]
async fn who_is_not_called_from_outside_asks_for_nothing() {
    let app = Server::start("v1").await;
    let mut pod = listening(app.address);
    for _ in 0..2 {
        assert!(probed(&pod).await.starts_with("HTTP/1.1 200"));
    }
    for client in &mut Client::both(pod.mesh.inbound).await {
        let mut request = get("/");
        let headers = request.headers_mut();
        headers.insert("x-aviary-peer", "a sidecar".parse().unwrap());
        let answer = whole(client.send(request).await.unwrap()).await.unwrap();
        assert_eq!(answer.text, "v1");
    }
    assert!(pod.mesh.demands.try_recv().is_err());
}
