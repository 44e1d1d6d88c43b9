use super::{Chain, command, said};
use crate::mesh::counts;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs h2load and wrk: make conformance"]
async fn load_generators_lose_no_request() {
    let server = Server::start("v1").await;
    let chain = Chain::to(server.address).await;
    let url = chain.url();
    for arguments in [
        ["-n2000", "-c8", "-m32", &url],
        ["--h1", "-n2000", "-c8", &url],
    ] {
        let text = said(command("h2load", &arguments)).await;
        let all =
            "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(text.contains(all) && text.contains("2000 2xx"), "{text}");
    }
    chain.counted([4000, 0, 0, 0]).await;
    let text = said(command("wrk", &["-t1", "-c16", "-d2", &url])).await;
    assert!(
        !text.contains("Socket errors") && !text.contains("Non-2xx"),
        "{text}"
    );
    let whole: u64 = text
        .lines()
        .find_map(|line| line.split_once(" requests in "))
        .and_then(|(count, _)| count.trim().parse().ok())
        .unwrap_or_else(|| panic!("{text}"));
    // wrk leaves in the middle of what it has asked for last, on each connection.
    let [success, failure, left, unsent] = counts(&chain.caller.arm("v1").requests);
    assert_eq!([failure, unsent], [0, 0]);
    assert!(whole > 0 && success >= 4000 + whole && success + left <= 4000 + whole + 16);
}
