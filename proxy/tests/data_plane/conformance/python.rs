//! grpcio (gRPC's C core) on both ends, and httpx in front of Node's servers.

use std::process::Stdio;

use tokio::process::Command;

use super::{Backend, Chain, all_pass, command, node, said, script, tool};
use crate::mesh::counts;

fn python(name: &str, arguments: &[&str]) -> Command {
    let mut command = command(tool("python/bin/python"), &[]);
    command
        .arg(script(name))
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

async fn server(arguments: &[&str]) -> Backend {
    let mut process = python("grpc_server.py", arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make conformance` installs Python's packages");
    let output = process.stdout.take().unwrap();
    Backend::listening(process, output).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs grpcio: make conformance"]
async fn grpcio_s_calls_pass_and_are_counted() {
    let server = server(&[]).await;
    let chain = Chain::to(server.address).await;
    all_pass(python("grpc_client.py", &[&chain.port()]), 18).await;
    // Six of the statuses with details are failures, and so are the calls that nobody implements. The client has left from those that it
    // cancelled and from the one whose answer was too large. The one that is late is ended by whichever end notices first.
    chain.settled(588 + 51).await;
    for counts in chain.counts() {
        let is_right = matches!(counts, [588, 8, 43, 0] | [588, 9, 42, 0]);
        assert!(is_right, "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs grpcio: make conformance"]
async fn a_grpcio_server_that_renews_its_connections_costs_no_call() {
    let server = server(&["--max-age", "200"]).await;
    let chain = Chain::to(server.address).await;
    let text = said(python("grpc_steady.py", &[&chain.port(), "5"])).await;
    let calls: u64 = text.trim().parse().unwrap();
    assert!(calls > 50, "{calls}");
    assert_eq!(counts(&chain.caller.arm("v1").requests), [calls, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs httpx: make conformance"]
async fn httpx_speaks_both_versions() {
    let backend = node::backend().await;
    let chain = Chain::to(backend.address).await;
    all_pass(python("httpx_client.py", &[&chain.port()]), 29).await;
    // With each version two statuses and a broken answer are failures, and five answers are not waited for. An HTTP/1.1 caller that closes its
    // connection may still be listening: whether its answer counts as given depends on which packet comes first.
    chain.settled(1132).await;
    for [success, failure, left, unsent] in chain.counts() {
        assert_eq!((success + left, failure, unsent), (1126, 6, 0));
        assert!((5..=10).contains(&left), "{left}");
    }
}
