//! Node's own HTTP/2 client and the WebSocket client and server `ws`, in front of Node's servers.

use std::process::Stdio;

use tokio::process::Command;

use super::{Backend, Chain, all_pass, command, script, tool};

fn node(name: &str, arguments: &[&str]) -> Command {
    let mut command = command("node", &[]);
    command.arg(script(name)).args(arguments);
    command.env("AVIARY_CONFORMANCE", tool(""));
    command
}

/// HTTP/1.1, HTTP/2 and WebSocket on one port.
pub(super) async fn backend() -> Backend {
    let mut process = node("backend.mjs", &[])
        .stdout(Stdio::piped())
        .spawn()
        .expect("`make conformance` installs Node");
    let output = process.stdout.take().unwrap();
    Backend::listening(process, output).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs node: make conformance"]
async fn node_s_http2_client_finds_streams_as_they_were_sent() {
    let backend = backend().await;
    let server = backend.address.port().to_string();
    let chain = Chain::to(backend.address).await;
    all_pass(node("node_http2.mjs", &[&chain.port(), &server]), 19).await;
    // Two statuses, five resets by the server, and what the client resets itself.
    chain.counted([1053, 7, 4, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs node and ws: make conformance"]
async fn websockets_pass_in_every_shape() {
    let backend = backend().await;
    let server = backend.address.port().to_string();
    let chain = Chain::to(backend.address).await;
    all_pass(node("node_websocket.mjs", &[&chain.port(), &server]), 8).await;
    // An upgrade is answered when it is made, and so is the one that is refused.
    chain.counted([218, 0, 0, 0]).await;
}
