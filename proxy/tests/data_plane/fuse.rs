//! A proxy that holds requests back by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use traffic_core::fuse::{LEAST, PAUSE, TOLERANCE};

use crate::client::{Client, eventually};
use crate::control_plane::{ControlPlane, Loads};
use crate::mesh::{Given, Mesh, Service};
use crate::outcomes::shows;
use crate::server::{Server, nobody};

const REQUESTS: u64 = 400;
/// Half of them.
const SHARE: u64 = REQUESTS / 2;
const BAD: &str = "/fails-at/v2";

/// How many may fail in this time while a fuse is open: it tries one after each pause.
pub(crate) fn tried(took: Duration) -> u64 {
    let pauses = took.as_millis() / PAUSE.as_millis();
    u64::try_from(pauses).unwrap() + 1
}

/// Sends them over both versions of HTTP, in turn. How many failed, and how long it took.
async fn send(mesh: &Mesh, path: &str) -> (u64, Duration) {
    let (mut failed, started) = (0, Instant::now());
    let mut clients = Client::both(mesh.outbound).await;
    for number in 0..REQUESTS {
        let client = &mut clients[number as usize % 2];
        let status = client.get(path).await.status;
        failed += u64::from(status == StatusCode::INTERNAL_SERVER_ERROR);
    }
    (failed, started.elapsed())
}

fn withheld(mesh: &Mesh) -> u64 {
    mesh.arm("v2").withheld.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_canary_that_fails_is_given_a_few_requests_a_second_and_the_control_plane_hears_of_the_rest()
 {
    let (stable, canary) = (Server::start("v1").await, Server::start("v2").await);
    let service = Service {
        fuse: Some(TOLERANCE),
        ..Service::new(stable.address, canary.address, 50)
    };
    let mut mesh = Mesh::start(Given::default());
    let mut plane = ControlPlane::start(Loads::Served);
    plane.rules(&mut mesh, &service).await;
    eventually("outcomes are taken", || {
        shows(&mesh, "aviary_outcomes_connected 1")
    })
    .await;
    let (failed, took) = send(&mesh, BAD).await;
    assert_eq!(
        failed + withheld(&mesh),
        SHARE,
        "the weight counts them all"
    );
    let most = 2 * LEAST + tried(took);
    assert!(failed <= most, "{failed} failed, in {took:?}");
    let text = mesh.metrics.render().unwrap();
    let series = format!(
        "aviary_outbound_withheld_total{{dst_namespace=\"shop\",dst_service=\"web\",dst_port=\"80\",revision=\"v2\"}} {}",
        withheld(&mesh)
    );
    assert!(text.lines().any(|line| line == series), "{text}");
    eventually("all of it is told", || {
        let told = plane.told();
        let told = told.values().map(|counts| counts.withheld);
        told.sum::<u64>() == withheld(&mesh)
    })
    .await;

    // A new weight of the same run finds the fuse as it was, and one of another run another fuse.
    mesh.install(&service.at(40)).await;
    let before = withheld(&mesh);
    let (failed, took) = send(&mesh, BAD).await;
    let held = withheld(&mesh) - before;
    assert!(
        held >= REQUESTS * 2 / 5 - LEAST || failed < LEAST.max(tried(took) + 1),
        "{failed} failed and {held} were withheld, in {took:?}"
    );
    let next = Service { run: 2, ..service };
    mesh.install(&next).await;
    let (failed, _) = send(&mesh, "/").await;
    assert_eq!((failed, canary.requests() as u64 >= SHARE), (0, true));
}

#[tokio::test]
async fn what_cannot_be_reached_counts_as_what_fails() {
    let stable = Server::start("v1").await;
    let mesh = Mesh::with(&Service {
        fuse: Some(TOLERANCE),
        ..Service::new(stable.address, nobody().await, 50)
    })
    .await;
    let (failed, _) = send(&mesh, "/").await;
    assert_eq!(failed, 0, "stable answers instead");
    assert!(withheld(&mesh) > SHARE / 2);
}

#[tokio::test]
async fn nothing_is_held_back_without_a_fuse_and_at_the_whole_weight() {
    let (stable, canary) = (Server::start("v1").await, Server::start("v2").await);
    let service = Service::new(stable.address, canary.address, 50);
    let mesh = Mesh::with(&service).await;
    assert_eq!(send(&mesh, BAD).await.0, SHARE);
    let fused = Service {
        fuse: Some(TOLERANCE),
        ..service
    };
    mesh.install(&fused).await;
    assert!(send(&mesh, BAD).await.0 < SHARE);
    mesh.install(&fused.at(100)).await;
    assert_eq!(send(&mesh, BAD).await.0, REQUESTS);
}

#[tokio::test]
async fn nothing_is_held_back_where_stable_has_nobody() {
    let (stable, canary) = (Server::start("v1").await, Server::start("v2").await);
    let service = Service {
        fuse: Some(TOLERANCE),
        ..Service::new(stable.address, canary.address, 50)
    };
    let mesh = Mesh::with(&service).await;
    send(&mesh, BAD).await;
    let alone = Service {
        stable: vec![],
        ..service
    };
    mesh.install(&alone).await;
    let before = canary.requests();
    send(&mesh, "/").await;
    assert_eq!((canary.requests() - before) as u64, SHARE);
}
