use super::{Chain, command, run, tool};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs h2spec: make conformance"]
async fn h2spec_finds_nothing_but_that_other_bytes_pass() {
    let server = Server::start("v1").await;
    let chain = Chain::to(server.address).await;
    // What does not begin like HTTP is passed on unread, and it is for the endpoint to close.
    let known = "Sends invalid connection preface";
    for port in [chain.caller.outbound.port(), chain.called.inbound.port()] {
        let port = port.to_string();
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-o", "5"];
        let text = run(command(tool("bin/h2spec"), &arguments)).await.out;
        assert!(text.contains("145 tests"), "{text}");
        let found: Vec<&str> = text
            .lines()
            .filter(|line| line.contains('\u{d7}'))
            .collect();
        assert!(found.iter().all(|line| line.contains(known)), "{text}");
    }
}
