//! Callers without a sidecar, whom kube-proxy brings to any pod: the pod that they come to picks the revision.

mod alike;
mod first;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aviary_proxy::control::Install;
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use traffic_core::outcome::Class;
use traffic_core::peer::Peer;

use crate::client::{Client, eventually, get, whole};
use crate::control_plane::wall;
use crate::mesh::{Given, Mesh, Service, counts};
use crate::retries::{policy, with};
use crate::server::{Server, nobody};
use crate::streams::caller_at;
use crate::withdrawal::{Grpc, open, quick};

/// One pod of each revision behind the Service, each with its sidecar.
struct Pods {
    stable: Pod,
    canary: Pod,
}

struct Pod {
    /// Where it is called itself; to the other pod it is its sidecar's address, as redirect rules would have it.
    address: SocketAddr,
    mesh: Mesh,
}

impl Pod {
    fn start(address: SocketAddr) -> Pod {
        let mesh = Mesh::start(Given {
            inbound: address,
            limits: quick(),
            ..Given::default()
        });
        Pod { address, mesh }
    }

    /// Of the Service that it is a pod of, and which its own application does not call.
    async fn knows(&self, stable: SocketAddr, canary: SocketAddr, percent: u32) {
        let service = Service {
            application: Some(self.address),
            ..Service::new(stable, canary, percent)
        };
        let mut snapshot = service.snapshot();
        snapshot.routes.clear();
        self.mesh.data.install(Arc::new(snapshot)).await;
    }

    /// Its counts of what its sidecar has picked `revision` for, by first attempts.
    fn picked(&self, revision: &str) -> [u64; 4] {
        let route = Service::default().route();
        let arm =
            self.mesh
                .metrics
                .arm_of(&route, revision, aviary_proxy::metrics::Source::Outside);
        counts(&arm.first_attempts)
    }

    fn counted(&self, peer: Peer) -> [u64; 4] {
        counts(self.mesh.metrics.port(self.address.port()).requests(peer))
    }
}

impl Pods {
    async fn of(stable: SocketAddr, canary: SocketAddr, percent: u32) -> Pods {
        let pods = Pods {
            stable: Pod::start(stable),
            canary: Pod::start(canary),
        };
        pods.have_weight(percent).await;
        pods
    }

    async fn have_weight(&self, percent: u32) {
        let Pods { stable, canary } = self;
        stable
            .knows(stable.address, canary.mesh.inbound, percent)
            .await;
        canary
            .knows(stable.mesh.inbound, canary.address, percent)
            .await;
    }

    fn each(&self) -> [&Pod; 2] {
        [&self.stable, &self.canary]
    }
}

async fn apps() -> [Server; 2] {
    [Server::start("v1").await, Server::start("v2").await]
}

/// How many of `count` requests the canary answers, half of them over either version of HTTP.
async fn canarys(pod: &Pod, count: usize) -> usize {
    let mut clients = Client::both(pod.mesh.inbound).await;
    let mut canarys = 0;
    for number in 0..count {
        match clients[number % 2].get("/").await.text.as_str() {
            "v2" => canarys += 1,
            text => assert_eq!(text, "v1"),
        }
    }
    canarys
}

#[tokio::test]
async fn the_weight_holds_within_one_request_whichever_pod_is_called() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 0).await;
    for (percent, requests) in [(1, 300), (10, 200), (50, 100), (100, 20), (0, 20)] {
        pods.have_weight(percent).await;
        for pod in pods.each() {
            let got = canarys(pod, requests).await;
            let wanted = requests * usize::try_from(percent).unwrap() / 100;
            assert!(
                got.abs_diff(wanted) <= 1,
                "{percent} % of {requests}: {got} at {}",
                pod.address
            );
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_on_once_and_no_application_sees_that_it_was() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 50).await;
    for pod in pods.each() {
        for client in &mut Client::both(pod.mesh.inbound).await {
            for _ in 0..20 {
                let headers = client.get("/headers").await.text;
                assert!(!headers.contains("x-aviary"), "{headers}");
            }
        }
    }
    assert_eq!(v1.requests() + v2.requests(), 80);
    // What a pod was sent by the other one it has not picked for again.
    let picked = |pod: &Pod| pod.picked("v1")[0] + pod.picked("v2")[0];
    eventually("each was picked for once, where it came in", || {
        (picked(&pods.stable), picked(&pods.canary)) == (40, 40)
    })
    .await;
}

/// What the kubelet is told, who names the pod's own address.
async fn probed(pod: &Pod) -> String {
    let mut stream = TcpStream::connect(pod.mesh.inbound).await.unwrap();
    let host = pod.address;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn what_means_this_pod_is_answered_by_it() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 50).await;
    for (pod, own) in pods.each().into_iter().zip(["v1", "v2"]) {
        for _ in 0..20 {
            let answer = probed(pod).await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.ends_with(own),
                "{answer}"
            );
        }
        // The same over HTTP/2, as gRPC probes come.
        let stream = TcpStream::connect(pod.mesh.inbound).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..20 {
            let request = Request::get(format!("http://{}/", pod.address)).body(());
            let (answer, _) = sender.send_request(request.unwrap(), true).unwrap();
            let mut body = answer.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), own);
        }
        eventually("all count as probes", || pod.counted(Peer::Probe)[0] == 40).await;
    }
}

#[tokio::test]
async fn a_declared_probe_is_answered_by_its_pod_under_whatever_name() {
    let [v1, v2] = apps().await;
    let declared = format!("{}/healthz", v1.address.port());
    let mesh = Mesh::start(Given {
        inbound: v1.address,
        probe_paths: vec![declared.leak()],
        ..Given::default()
    });
    let address = v1.address;
    let pod = Pod { address, mesh };
    pod.knows(address, v2.address, 100).await;
    let mut client = Client::http1(pod.mesh.inbound).await;
    for (path, revision) in [("/healthz", "v1"), ("/", "v2"), ("/healthz?x", "v2")] {
        assert_eq!(client.get(path).await.text, revision, "{path}");
    }
}

#[tokio::test]
async fn a_canary_whose_application_is_dead_costs_no_request_and_looks_dead() {
    let v1 = Server::start("v1").await;
    let pods = Pods::of(v1.address, nobody().await, 50).await;
    for pod in pods.each() {
        let [mut one, mut two] = Client::both(pod.mesh.inbound).await;
        for _ in 0..10 {
            assert_eq!(one.get("/").await.text, "v1");
            assert_eq!(two.get("/").await.text, "v1");
            // Bodies that were sent in vain are still in hand.
            assert_eq!(one.post("/echo", "body").await.text, "body");
            assert_eq!(two.post("/echo", "body").await.text, "body");
        }
        // And it is evidence, from whoever has picked.
        assert_eq!(pod.picked("v2"), [0, 0, 0, 20]);
    }
    let answer = probed(&pods.canary).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

/// It gains nothing: the request stays at the pod to which it came.
#[tokio::test]
async fn a_mark_that_a_caller_makes_up_only_keeps_a_request_where_it_is() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 50).await;
    for (pod, own) in pods.each().into_iter().zip(["v1", "v2"]) {
        for client in &mut Client::both(pod.mesh.inbound).await {
            for _ in 0..10 {
                let mut request = get("/");
                let headers = request.headers_mut();
                headers.insert("x-aviary-peer", "made-up".parse().unwrap());
                let answer = whole(client.send(request).await.unwrap()).await.unwrap();
                assert_eq!(answer.text, own);
            }
        }
    }
}

#[tokio::test]
async fn what_becomes_of_them_is_told_apart_and_told_to_the_control_plane() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 50).await;
    let stable = &pods.stable;
    // Its own application calls the Service, too.
    let service = Service {
        application: Some(stable.address),
        ..Service::new(stable.address, pods.canary.mesh.inbound, 50)
    };
    stable.mesh.install(&service).await;
    let mut client = Client::http1(stable.mesh.inbound).await;
    for _ in 0..10 {
        client.get("/status/500").await;
    }
    assert_eq!(
        (stable.picked("v1"), stable.picked("v2")),
        ([0, 5, 0, 0], [0, 5, 0, 0])
    );
    let text = stable.mesh.metrics.render().unwrap();
    let labels = r#"dst_namespace="shop",dst_service="web",dst_port="80",revision="v2""#;
    for (labels, count) in [
        (format!("{labels},source=\"outside\""), 5),
        (labels.to_owned(), 0),
    ] {
        let series =
            format!("aviary_outbound_first_attempts_total{{{labels},class=\"failure\"}} {count}\n");
        assert!(text.contains(&series), "no {series} in {text}");
    }
    // Its own share is also what its application was asked, and held to a weight.
    assert_eq!(stable.counted(Peer::Mesh), [0, 5, 0, 0]);
    assert_eq!(stable.counted(Peer::Outside), [0; 4]);
    let told = stable.mesh.data.outcomes(wall().as_secs() + 2).await;
    for revision in ["v1", "v2"] {
        let of = told
            .iter()
            .filter(|it| it.cluster == format!("shop/web/80/{revision}"));
        let (mut started, mut failed) = (0, 0);
        for outcome in of {
            started += outcome.counts.started;
            failed += outcome.counts.ended[Class::Failure];
        }
        assert_eq!((started, failed), (5, 5), "{revision}");
    }
}

#[tokio::test]
async fn without_a_release_a_request_stays_where_it_is() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 100).await;
    let mut client = Client::http1(pods.stable.mesh.inbound).await;
    assert_eq!(client.get("/").await.text, "v2");
    let mut over = Service::new(v1.address, v2.address, 0).snapshot();
    over.applications = [(v1.address, None)].into();
    pods.stable.mesh.data.install(Arc::new(over)).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.text, "v1");
    }
    eventually("they are an outsider's", || {
        pods.stable.counted(Peer::Outside)[0] == 5
    })
    .await;
}

#[tokio::test]
async fn a_rollback_ends_their_streams_to_the_canary_whichever_pod_they_came_to() {
    let (v1, v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let pods = Pods::of(v1.address, v2.address, 100).await;
    for pod in pods.each() {
        let mut sender = caller_at(pod.mesh.inbound).await;
        let mut canary = open(&mut sender).await;
        assert_eq!(canary.name(), b"v2");
        pods.have_weight(0).await;
        canary.ends_with("14").await;
        let mut stable = open(&mut sender).await;
        assert_eq!(stable.name(), b"v1");
        stable.goes_on().await;
        pods.have_weight(100).await;
    }
}

#[tokio::test]
async fn what_the_owner_of_the_service_says_of_calls_holds_for_theirs() {
    let [v1, v2] = apps().await;
    let pod = Pod::start(v2.address);
    let service = Service {
        application: Some(v2.address),
        ..Service::new(v1.address, v2.address, 100)
    };
    let mut service = with(service, policy("500"));
    service.bounds.request = Some(Duration::from_secs(2));
    pod.mesh.install(&service).await;
    for client in &mut Client::both(pod.mesh.inbound).await {
        assert_eq!(client.get("/fails-at/v2").await.text, "v1");
        let answer = client.get("/held").await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    }
    assert_eq!(pod.picked("v2"), [0, 4, 0, 0]);
}
