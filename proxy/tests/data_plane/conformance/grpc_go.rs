//! The interop tests of gRPC with Go's client and server. Those that are left out need TLS, credentials or a cloud; Go has none of the
//! compression cases, which are among Python's.

use std::process::Stdio;

use super::{Backend, Chain, Said, command, run, tool};
use crate::server::Server;

/// With this policy the client hands the reports in trailers to its tests, and asks for others on a stream that it leaves in the end.
const REPORTS: &str = r#"{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}"#;

async fn server() -> Backend {
    let mut command = command(tool("bin/server"), &["-port", "0"]);
    command
        .env("GRPC_GO_LOG_SEVERITY_LEVEL", "info")
        .stderr(Stdio::piped());
    let mut process = command
        .spawn()
        .expect("`make conformance` builds the server");
    let output = process.stderr.take().unwrap();
    Backend::listening(process, output).await
}

async fn client(port: &str, case: &str, extra: &[&str]) -> Said {
    let arguments = [
        &[
            "-server_host",
            "127.0.0.1",
            "-server_port",
            port,
            "-test_case",
            case,
        ],
        extra,
    ]
    .concat();
    let mut command = command(tool("bin/client"), &arguments);
    command.env("GRPC_GO_LOG_SEVERITY_LEVEL", "info");
    run(command).await
}

/// The case ends well, and says so.
async fn passes(chain: &Chain, case: &str, extra: &[&str]) {
    let said = client(&chain.port(), case, extra).await;
    let done = said.error.lines().any(|line| line.ends_with(" done"));
    assert!(
        said.is_success && done,
        "{case}:\n{}{}",
        said.out,
        said.error
    );
}

/// Each case, and what the sidecars count of it: success, failure, client closed, unsent.
const CASES: [(&str, [u64; 4]); 12] = [
    ("empty_unary", [1, 0, 0, 0]),
    ("large_unary", [1, 0, 0, 0]),
    ("client_streaming", [1, 0, 0, 0]),
    ("server_streaming", [1, 0, 0, 0]),
    ("ping_pong", [1, 0, 0, 0]),
    ("empty_stream", [1, 0, 0, 0]),
    ("cancel_after_first_response", [0, 0, 1, 0]),
    ("status_code_and_message", [0, 2, 0, 0]),
    ("special_status_message", [0, 1, 0, 0]),
    ("custom_metadata", [2, 0, 0, 0]),
    ("unimplemented_method", [0, 1, 0, 0]),
    ("unimplemented_service", [0, 1, 0, 0]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs gRPC's interop client and server: make conformance"]
async fn go_s_interop_cases_pass_and_are_counted() {
    let server = server().await;
    for (case, expected) in CASES {
        let chain = Chain::to(server.address).await;
        passes(&chain, case, &[]).await;
        chain.counted(expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs gRPC's interop client and server: make conformance"]
async fn reports_of_load_arrive_in_trailers_and_on_a_stream() {
    let server = server().await;
    for case in ["orca_per_rpc", "orca_oob"] {
        let chain = Chain::to(server.address).await;
        passes(&chain, case, &["-service_config_json", REPORTS]).await;
        // While the client waits for a report it calls again and again.
        for [success, failure, _, unsent] in chain.counts() {
            assert!(success > 0 && failure == 0 && unsent == 0, "{case}");
        }
    }
}

/// The caller may be gone before its request has left: then there is nothing to count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs gRPC's interop client and server: make conformance"]
async fn callers_that_leave_at_once_hurt_nobody() {
    let server = server().await;
    for (case, classes) in [
        // The server may find first that the time is over.
        ("timeout_on_sleeping_server", [0, 5, 5, 0]),
        ("cancel_after_begin", [0, 0, 5, 0]),
    ] {
        let chain = Chain::to(server.address).await;
        for _ in 0..5 {
            passes(&chain, case, &[]).await;
        }
        passes(&chain, "empty_unary", &[]).await;
        for [success, failure, left, unsent] in chain.counts() {
            assert_eq!((success, unsent), (1, 0), "{case}");
            assert!(
                failure <= classes[1] && left <= classes[2],
                "{case}: {failure} {left}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs gRPC's interop client and server: make conformance"]
async fn soaks_lose_no_call() {
    let server = server().await;
    let arguments = [
        "-soak_iterations",
        "200",
        "-soak_num_threads",
        "4",
        "-soak_overall_timeout_seconds",
        "60",
        // This machine may be busy: calls are counted here, not timed.
        "-soak_per_iteration_max_acceptable_latency_ms",
        "30000",
    ];
    for case in ["rpc_soak", "channel_soak"] {
        let chain = Chain::to(server.address).await;
        passes(&chain, case, &arguments).await;
        chain.counted([200, 0, 0, 0]).await;
    }
}

/// So that all of the above can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs gRPC's interop client and server: make conformance"]
async fn a_case_fails_where_nobody_answers_it() {
    let server = Server::start("v1").await;
    let chain = Chain::to(server.address).await;
    for (case, _) in CASES {
        let said = client(&chain.port(), case, &[]).await;
        assert!(!said.is_success, "{case}:\n{}{}", said.out, said.error);
    }
}
