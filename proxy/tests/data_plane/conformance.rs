//! What other people's tools say: `make conformance` installs them and starts these.

use std::process::Stdio;

use tokio::process::Command;

use crate::mesh::{Mesh, Service, counts};
use crate::server::Server;

async fn given() -> (Server, Mesh) {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 0)).await;
    (server, mesh)
}

/// What a program says, if it ends well.
async fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| {
            panic!("cannot run `{program}`: {error}; `make conformance` installs it")
        });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "`{program}` failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs h2spec: make conformance"]
async fn h2spec_finds_nothing_but_that_other_bytes_pass() {
    let (_server, mesh) = given().await;
    let program = std::env::var("AVIARY_H2SPEC").unwrap_or_else(|_| "h2spec".to_owned());
    let port = mesh.outbound.port().to_string();
    let output = Command::new(&program)
        .args(["-h", "127.0.0.1", "-p", &port, "-o", "5"])
        .output()
        .await
        .unwrap_or_else(|error| {
            panic!("cannot run `{program}`: {error}; `make conformance` installs it")
        });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("145 tests"), "{text}");
    // What does not begin like HTTP is passed on unread, and it is for the endpoint to close.
    let found: Vec<&str> = text
        .lines()
        .filter(|line| line.contains('\u{d7}'))
        .collect();
    let is_known = |line: &&str| line.contains("Sends invalid connection preface");
    assert!(found.iter().all(is_known), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs curl: make conformance"]
async fn curl_speaks_both_versions() {
    let (_server, mesh) = given().await;
    let url = format!("http://{}/echo", mesh.outbound);
    let format = "\n%{http_code} %{http_version}";
    for (version, expected) in [
        ("--http1.0", "body\n200 1"),
        ("--http1.1", "body\n200 1.1"),
        ("--http2-prior-knowledge", "body\n200 2"),
    ] {
        let arguments = ["-sS", "-m", "10", version, "-d", "body", "-w", format, &url];
        let text = said("curl", &arguments).await;
        assert!(text.starts_with(expected), "{version}: {text}");
    }
    // A body that is announced with Expect, and one without a length.
    let large = "x".repeat(2_000_000);
    let file = std::env::temp_dir().join(format!("aviary-{}", std::process::id()));
    std::fs::write(&file, &large).unwrap();
    let data = format!("@{}", file.display());
    for extra in ["Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let arguments = ["-sS", "-m", "20", "-H", extra, "--data-binary", &data, &url];
        assert_eq!(said("curl", &arguments).await.len(), large.len(), "{extra}");
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs h2load and wrk: make conformance"]
async fn load_generators_lose_no_request() {
    let (_server, mesh) = given().await;
    let url = format!("http://{}/", mesh.outbound);
    for arguments in [
        ["-n2000", "-c8", "-m32", &url],
        ["--h1", "-n2000", "-c8", &url],
    ] {
        let text = said("h2load", &arguments).await;
        assert!(text.contains("2000 succeeded, 0 failed"), "{text}");
    }
    let text = said("wrk", &["-t1", "-c16", "-d2", &url]).await;
    assert!(
        !text.contains("Socket errors") && !text.contains("Non-2xx"),
        "{text}"
    );
    assert_eq!(counts(&mesh.arm("v1").requests)[1], 0);
    assert_eq!(counts(&mesh.arm("v1").requests)[3], 0);
}
