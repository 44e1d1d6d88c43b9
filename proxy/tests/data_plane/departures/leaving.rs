//! Pods that leave in order: their sidecar drains, and the control plane takes them out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{PATIENCE, Streams, opaque_pods, pods};
use crate::client::{Client, eventually};
use crate::frames::{END_STREAM, GOAWAY, HEADERS, OK, PREFACE, frame, headers, parse, settings};
use crate::mesh::{Given, Mesh, Service, counts};
use crate::server::{Server, accepting};
use crate::streams::caller;

/// A pod: an application behind a sidecar that has time to leave.
fn sidecar(app: &Server) -> Mesh {
    Mesh::start(Given {
        inbound: app.address,
        drain_delay: Duration::from_millis(300),
        drain_deadline: Duration::from_secs(60),
        ..Given::default()
    })
}

/// Callers that go on until they are stopped: HTTP/1.1, HTTP/2 and gRPC, with and without a body.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(mesh: &Mesh) -> Load {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let outbound = mesh.outbound;
        let callers = (0..3).map(|number| {
            let (stop, done) = (stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut client = match number {
                    0 => Client::http1(outbound).await,
                    _ => Client::http2(outbound).await,
                };
                while !stop.load(Ordering::Relaxed) {
                    if number == 2 {
                        let answer = client.grpc(0).await;
                        assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
                    } else {
                        assert_eq!(client.get("/").await.status, 200);
                        assert_eq!(client.post("/echo", "body").await.text, "body");
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        });
        let callers = callers.collect();
        Load {
            stop,
            done,
            callers,
        }
    }

    /// Waits until many more requests are over.
    async fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("requests go on", || {
            self.done.load(Ordering::Relaxed) >= before + 60
                || self.callers.iter().any(JoinHandle::is_finished)
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("no request failed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_leaves_under_load_costs_no_request_and_no_stream() {
    let (leaving, staying) = (Server::start("web").await, Server::start("web").await);
    let (mut going, stays) = (sidecar(&leaving), sidecar(&staying));
    let both = [going.inbound, stays.inbound];
    // The streams go to the one that leaves.
    let (http, opaque) = (
        Mesh::with(&pods(&both[..1])).await,
        Mesh::with(&opaque_pods(&both[..1])).await,
    );
    let mut streams = Streams::open(&http, &opaque).await;
    http.install(&pods(&both)).await;
    let load = Load::on(&http);
    eventually("both are called", || {
        leaving.requests() > 20 && staying.requests() > 20
    })
    .await;

    // SIGTERM comes before the control plane has told anybody.
    going.stop();
    load.goes_on().await;
    for (mesh, service) in [
        (&http, pods(&both[1..])),
        (&opaque, opaque_pods(&both[1..])),
    ] {
        mesh.install(&service).await;
    }
    load.goes_on().await;
    load.end().await;
    let failed = counts(&http.arm("v1").requests)[1..].iter().sum::<u64>();
    assert_eq!(failed, 0);

    // Its streams have all the time that the pod has.
    streams.go_on().await;
    assert!(!going.has_ended());
    streams.finish().await;
    eventually("the sidecar leaves", || going.has_ended()).await;
}

#[tokio::test]
async fn an_endpoint_that_is_taken_out_finishes_what_it_has_and_gets_nothing_new() {
    let (old, new) = (Server::start("old").await, Server::start("new").await);
    let (http, opaque) = (
        Mesh::with(&pods(&[old.address])).await,
        Mesh::with(&opaque_pods(&[old.address])).await,
    );
    let mut streams = Streams::open(&http, &opaque).await;
    let before = old.requests();
    let held = Client::both(http.outbound)
        .await
        .map(|mut client| tokio::spawn(async move { client.get("/held").await.text }));
    eventually("they are under way", || old.requests() == before + 2).await;
    http.install(&pods(&[new.address])).await;
    opaque.install(&opaque_pods(&[new.address])).await;
    for client in &mut Client::both(http.outbound).await {
        assert_eq!(client.get("/").await.text, "new");
    }
    old.state.held.add_permits(2);
    for held in held {
        assert_eq!(held.await.unwrap(), "old");
    }
    streams.go_on().await;
    streams.finish().await;
    assert_eq!(old.requests(), before + 2);
}

/// What is above the last stream of a GOAWAY was not processed, whatever it is (RFC 9113, 6.8).
#[tokio::test]
async fn what_an_application_s_goaway_leaves_out_goes_elsewhere_and_the_rest_is_answered() {
    let other = Server::start("other").await;
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = arrived.clone();
    let address = accepting(move |mut stream| {
        let count = count.clone();
        async move {
            stream.write_all(&settings()).await.unwrap();
            let mut bytes = Vec::new();
            loop {
                let frames = parse(bytes.get(PREFACE.len()..).unwrap_or_default());
                let heads = frames.iter().filter(|frame| frame.kind == HEADERS);
                let heads = heads.count();
                count.store(heads, Ordering::Relaxed);
                if heads == 3 {
                    break;
                }
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            }
            // The first one is answered, and the others never were here.
            let last = [0, 0, 0, 1, 0, 0, 0, 0];
            let goaway = frame(GOAWAY, 0, 0, &last);
            stream.write_all(&goaway).await.unwrap();
            let answer = headers(END_STREAM, 1, OK);
            stream.write_all(&answer).await.unwrap();
            let _ = stream.read_to_end(&mut bytes).await;
        }
    })
    .await;
    // A canary's, so that there is another endpoint and no doubt which one is asked first.
    let mesh = Mesh::with(&Service::new(other.address, address, 100)).await;
    let mut first = caller(&mesh).await;
    let get = http::Request::get("http://web/").body(()).unwrap();
    let (first, _) = first.send_request(get, true).unwrap();
    eventually("it is there", || arrived.load(Ordering::Relaxed) == 1).await;
    let mut others = Vec::new();
    for number in 2..=3 {
        let mut client = Client::http2(mesh.outbound).await;
        others.push(tokio::spawn(async move {
            client.post("/echo", "money").await.text
        }));
        eventually("it is there", || arrived.load(Ordering::Relaxed) == number).await;
    }
    let answer = timeout(PATIENCE, first).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    for other in others {
        assert_eq!(other.await.unwrap(), "money");
    }
    assert_eq!(other.requests(), 2);
}
