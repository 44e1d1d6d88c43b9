//! A node that goes away: no end, no reset, nothing any more. The tests are run again in a network namespace of their own, where the loopback interface drops
//! what goes to that node. Needs root, `unshare`, `ip` and `nft`; without one of them they fail and say which.

use std::process::Stdio;
use std::time::Duration;

use aviary_proxy::limits::Limits;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Streams, opaque_pods, pods};
use crate::client::{Client, eventually};
use crate::mesh::{Given, Mesh};
use crate::server::Server;

/// Set in the process that has a namespace of its own.
const INSIDE: &str = "AVIARY_TEST_IN_ITS_OWN_NETWORK";
const SHORT: Duration = Duration::from_millis(400);

/// Runs the test of this name again, in a network of its own. True there.
async fn is_inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]).await;
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("departures::silence::{name}")]);
    command
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(120), command.output()).await;
    let output = output.expect("it ends").unwrap_or_else(|error| {
        panic!("cannot run unshare: {error}; this test needs root, unshare, ip and nft")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}{error}"
    );
    false
}

async fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {program}: {error}; this test needs root, unshare, ip and nft")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// From now on nothing reaches this server, nor comes from it.
async fn goes_away(server: &Server) {
    let port = server.address.port();
    let rules = format!(
        "add table inet gone; add chain inet gone input {{ type filter hook input priority 0; }}; \
         add rule inet gone input tcp dport {port} drop; add rule inet gone input tcp sport {port} drop"
    );
    run("nft", &[&rules]).await;
}

fn impatient() -> Given {
    Given {
        limits: Limits {
            connect: SHORT,
            silence: SHORT,
            ..Limits::default()
        },
        ..Given::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_away_is_noticed_and_what_was_not_sent_goes_elsewhere() {
    if !is_inside("a_node_that_goes_away_is_noticed_and_what_was_not_sent_goes_elsewhere").await {
        return;
    }
    let (gone, other) = (Server::start("gone").await, Server::start("other").await);
    let mesh = Mesh::start(impatient());
    mesh.install(&pods(&[gone.address])).await;
    let mut clients = Client::both(mesh.outbound).await;
    for client in &mut clients {
        // Idle connections to it, of both versions.
        assert_eq!(client.get("/").await.text, "gone");
    }
    goes_away(&gone).await;
    mesh.install(&pods(&[gone.address, other.address])).await;
    let [one, two] = &mut clients;
    // On an idle connection what can be repeated is, elsewhere in the end; the rest is an error, soon.
    for _ in 0..10 {
        assert_eq!(one.get("/").await.text, "other");
        let answer = one.post("/echo", "money").await;
        assert!(answer.text == "money" || answer.status == 502, "{answer:?}");
        let answer = two.get("/").await;
        assert!(answer.text == "other" || answer.status == 502, "{answer:?}");
    }
    assert_eq!(gone.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_a_node_that_went_away_end_when_something_is_said_on_them() {
    if !is_inside("streams_to_a_node_that_went_away_end_when_something_is_said_on_them").await {
        return;
    }
    let gone = Server::start("gone").await;
    let (http, opaque) = (Mesh::start(impatient()), Mesh::start(impatient()));
    http.install(&pods(&[gone.address])).await;
    opaque.install(&opaque_pods(&[gone.address])).await;
    let Streams { grpc, .. } = Streams::open(&http, &opaque).await;
    goes_away(&gone).await;
    let (mut upload, mut download) = grpc;
    upload.send_data("anybody?".into(), false).unwrap();
    let end = timeout(Duration::from_secs(60), download.data()).await;
    let end = end.expect("it ends").expect("it ends with an error");
    assert!(end.is_err(), "{end:?}");
    let arm = http.arm("v1");
    eventually("it is counted", || {
        crate::mesh::counts(&arm.requests)[1] == 1
    })
    .await;
}
