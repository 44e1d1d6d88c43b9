use super::{Chain, command, said};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs curl: make conformance"]
async fn curl_speaks_both_versions() {
    let server = Server::start("v1").await;
    let chain = Chain::to(server.address).await;
    let url = format!("{}/echo", chain.url());
    let format = "\n%{http_code} %{http_version}";
    for (version, expected) in [
        ("--http1.0", "body\n200 1"),
        ("--http1.1", "body\n200 1.1"),
        ("--http2-prior-knowledge", "body\n200 2"),
    ] {
        let arguments = ["-sS", "-m", "10", version, "-d", "body", "-w", format, &url];
        let text = said(command("curl", &arguments)).await;
        assert_eq!(text, expected, "{version}");
    }
    // A body that is announced with Expect, and one without a length.
    let large = "x".repeat(2_000_000);
    let file = std::env::temp_dir().join(format!("aviary-{}", std::process::id()));
    std::fs::write(&file, &large).unwrap();
    let data = format!("@{}", file.display());
    for extra in ["Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let arguments = ["-sS", "-m", "20", "-H", extra, "--data-binary", &data, &url];
        let text = said(command("curl", &arguments)).await;
        assert!(text == large, "{extra}: {} bytes", text.len());
    }
    std::fs::remove_file(file).unwrap();
    chain.counted([5, 0, 0, 0]).await;
}
