//! Who gets how much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use traffic_core::config::Revocation;

use crate::client::Client;
use crate::mesh::{Given, Mesh, Service, counts};
use crate::protocols::detected;
use crate::server::{Server, idle_times};

async fn two() -> (Server, Server) {
    (Server::start("v1").await, Server::start("v2").await)
}

#[tokio::test]
async fn the_share_is_exact_over_both_versions_of_http() {
    let (stable, canary) = two().await;
    for percent in [0, 1, 10, 50, 99, 100] {
        let service = detected(Service::new(stable.address, canary.address, percent));
        let mesh = Mesh::with(&service).await;
        for client in &mut Client::both(mesh.outbound).await {
            let before = mesh
                .arm("v2")
                .first_attempts
                .get(traffic_core::outcome::Class::Success);
            let mut picked = 0;
            for _ in 0..200 {
                picked += u64::from(client.get("/").await.text == "v2");
            }
            assert_eq!(picked, 2 * u64::from(percent), "{percent} %");
            let counted = mesh
                .arm("v2")
                .first_attempts
                .get(traffic_core::outcome::Class::Success);
            assert_eq!(counted - before, picked);
        }
    }
}

#[tokio::test]
async fn workers_share_one_exact_split() {
    let (stable, canary) = two().await;
    let mesh = Mesh::start(Given {
        workers: 3,
        ..Given::default()
    });
    mesh.install(&Service::new(stable.address, canary.address, 10))
        .await;
    for _ in 0..25 {
        for client in &mut Client::both(mesh.outbound).await {
            for _ in 0..4 {
                client.get("/").await;
            }
        }
    }
    assert_eq!((stable.requests(), canary.requests()), (180, 20));
}

#[tokio::test]
async fn a_weight_change_under_load_loses_no_request_and_opens_no_connection() {
    let (stable, canary) = two().await;
    let service = Service::new(stable.address, canary.address, 50);
    let mesh = Mesh::with(&service).await;
    let begun = Instant::now();
    let mut clients = Client::both(mesh.outbound).await;
    for client in &mut clients {
        // Enough for both arms to have been picked: their connections are there before the changes begin.
        for _ in 0..20 {
            client.get("/").await;
        }
    }
    let connections = [&stable, &canary].map(Server::connections);
    let done = Arc::new(AtomicBool::new(false));
    let loads = clients.map(|mut client| {
        let done = done.clone();
        tokio::spawn(async move {
            let mut requests = 0;
            while !done.load(Ordering::SeqCst) {
                assert_eq!(client.get("/").await.status, 200);
                requests += 1;
            }
            requests
        })
    });
    for change in 0..200 {
        mesh.install(&service.at(change * 37 % 101)).await;
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    for load in loads {
        assert!(load.await.unwrap() > 0);
    }
    for (server, before) in [&stable, &canary].into_iter().zip(connections) {
        let more = server.connections() - before;
        // However long this took.
        assert!(more <= idle_times(begun), "{more} more");
    }
    for arm in ["v1", "v2"] {
        assert_eq!(counts(&mesh.arm(arm).requests)[1..], [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_revoked_run_stays_at_zero_whatever_comes_later_and_a_newer_run_does_not() {
    let (stable, canary) = two().await;
    let service = Service::new(stable.address, canary.address, 100);
    let mesh = Mesh::with(&service).await;
    let mut client = Client::http1(mesh.outbound).await;
    assert_eq!(client.get("/").await.text, "v2");

    let revocation = Revocation {
        rollout: "shop/web".into(),
        revision: "v2".into(),
        run: 1,
    };
    mesh.install(&Service {
        revoked: vec![revocation.clone()],
        ..service.at(0)
    })
    .await;
    assert_eq!(client.get("/").await.text, "v1");
    // As a leader that never saw the rollback would have it.
    mesh.install(&service).await;
    assert_eq!(client.get("/").await.text, "v1");
    assert_eq!(
        aviary_proxy::control::Install::revocations(&*mesh.data),
        [revocation.into()]
    );

    mesh.install(&Service { run: 2, ..service }).await;
    assert_eq!(client.get("/").await.text, "v2");
}
