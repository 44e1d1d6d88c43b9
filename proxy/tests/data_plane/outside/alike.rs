//! What the owner of a Service asks for holds for callers without a sidecar, too: the pod that they come to sees to it.

use std::collections::BTreeSet;
use std::time::Duration;

use aviary_proxy::limits::Limits;
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use traffic_core::bounds::Bounds;
use traffic_core::rate::Rates;
use traffic_core::retry::budget::Terms;
use traffic_core::retry::conditions::Condition;
use traffic_core::retry::methods::Methods;
use traffic_core::retry::policy::{Retries, Times};
use traffic_core::split::sticky::Key;

use super::{Pod, Pods, apps};
use crate::client::{Client, get, whole};
use crate::control_plane::PATIENCE;
use crate::mesh::{Given, Mesh, Service, refused};
use crate::rates::{few, until_refused};
use crate::server::raw;

impl Pods {
    /// Half of the requests are the canary's, and what else `asked` says holds.
    async fn are_told(&self, asked: impl Fn(Service) -> Service) {
        let Pods { stable, canary } = self;
        for (pod, v1, v2) in [
            (stable, stable.address, canary.mesh.inbound),
            (canary, stable.mesh.inbound, canary.address),
        ] {
            let service = asked(Service {
                application: Some(pod.address),
                ..Service::new(v1, v2, 50)
            });
            pod.mesh.install(&service).await;
        }
    }
}

#[tokio::test]
async fn a_user_keeps_a_revision_whichever_pod_is_called() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 50).await;
    pods.are_told(|service| Service {
        sticky: Key::header("X-User-Id").ok(),
        ..service
    })
    .await;
    let mut all = BTreeSet::new();
    for user in 0..20 {
        let mut own = BTreeSet::new();
        for pod in pods.each() {
            for client in &mut Client::both(pod.mesh.inbound).await {
                let mut request = get("/");
                let name = format!("user-{user}").parse().unwrap();
                request.headers_mut().insert("x-user-id", name);
                let answer = whole(client.send(request).await.unwrap()).await.unwrap();
                own.insert(answer.text);
            }
        }
        assert_eq!(own.len(), 1, "user {user} got {own:?}");
        all.append(&mut own);
    }
    assert_eq!(all.len(), 2, "each revision has users");
}

#[tokio::test]
async fn a_request_waits_no_longer_than_a_call_to_the_service_may_take() {
    let [v1, v2] = apps().await;
    let pods = Pods::of(v1.address, v2.address, 50).await;
    pods.are_told(|service| Service {
        bounds: Bounds {
            request: Some(Duration::from_millis(300)),
            ..Bounds::default()
        },
        ..service
    })
    .await;
    for pod in pods.each() {
        for client in &mut Client::both(pod.mesh.inbound).await {
            // Of either revision.
            for _ in 0..2 {
                let answer = timeout(PATIENCE, client.get("/held")).await.unwrap();
                assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_the_canary_fails_is_sent_again_where_the_owner_says_so() {
    let [v1, _] = apps().await;
    let failing = raw(|mut stream, _| async move {
        let answer =
            b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let _ = stream.write_all(answer).await;
    })
    .await;
    let pods = Pods::of(v1.address, failing, 50).await;
    let once = Retries {
        on: ["503".parse::<Condition>().unwrap()].into_iter().collect(),
        times: Times::ONCE,
        each: None,
        methods: Methods::default(),
        budget: Terms::new(100, 1_000).unwrap(),
    };
    for (retries, failures) in [(None, 10), (Some(once), 0)] {
        pods.are_told(|service| Service {
            bounds: Bounds {
                retries,
                ..Bounds::default()
            },
            ..service
        })
        .await;
        for pod in pods.each() {
            let mut client = Client::http1(pod.mesh.inbound).await;
            let mut failed = 0;
            for _ in 0..20 {
                failed += usize::from(client.get("/").await.status != StatusCode::OK);
            }
            assert_eq!(failed, failures, "at {}", pod.address);
        }
    }
}

#[tokio::test]
async fn a_pod_that_takes_few_requests_turns_them_away_and_the_revision_has_not_failed() {
    let [v1, v2] = apps().await;
    let mesh = Mesh::start(Given {
        inbound: v1.address,
        limits: Limits {
            rates: Rates {
                all: few(),
                each: None,
            },
            ..Limits::default()
        },
        ..Given::default()
    });
    let address = v1.address;
    let pod = Pod { address, mesh };
    pod.knows(address, v2.address, 0).await;
    let mut client = Client::http1(pod.mesh.inbound).await;
    let (admitted, _) = until_refused(&mut client, "/").await;
    assert_eq!(refused(&pod.mesh, "rate"), 1);
    let admitted = u64::try_from(admitted).unwrap();
    assert_eq!(pod.picked("v1"), [admitted, 0, 0, 1]);
    // What is another pod's to answer is that pod's to count.
    pod.knows(address, v2.address, 100).await;
    assert_eq!(client.get("/").await.text, "v2");
}
