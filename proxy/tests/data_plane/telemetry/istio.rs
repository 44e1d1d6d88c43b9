//! Istio's names: what both sidecars say of the same requests.

use std::collections::BTreeMap;

use aviary_proxy::telemetry::Wanted;
use traffic_core::telemetry::MetricNames;

use crate::client::{Client, eventually, post, whole};
use crate::mesh::{Given, Mesh, Service};
use crate::server::{Server, nobody};

fn wanted() -> Wanted {
    Wanted {
        names: MetricNames::Istio,
        ..Wanted::default()
    }
}

fn given() -> Given {
    Given {
        telemetry: wanted(),
        ..Given::default()
    }
}

/// The series of a metric with these labels in the text of `/metrics`, with their values.
fn series(mesh: &Mesh, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
    let text = mesh.metrics.render().unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let read = lines.map(|line| {
        let (labels, value) = line.rsplit_once("} ").unwrap();
        let labels = labels.split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        (labels.collect(), value.parse().unwrap())
    });
    read.collect()
}

/// How many requests the series say that have these labels.
pub(crate) fn count(mesh: &Mesh, labels: &[(&str, &str)]) -> f64 {
    let all = series(mesh, "istio_requests_total");
    let matching = all.into_iter().filter(|(of, _)| {
        labels
            .iter()
            .all(|(name, value)| of.get(*name).is_some_and(|is| is == value))
    });
    matching.map(|(_, value)| value).sum()
}

#[tokio::test]
async fn the_caller_s_sidecar_names_workload_service_code_and_why() {
    let (v1, v2) = (Server::start("v1").await, Server::start("v2").await);
    let mesh = Mesh::start(given());
    let service = Service {
        workloads: true,
        ..Service::new(v1.address, v2.address, 50)
    };
    mesh.install(&service).await;
    for mut client in Client::both(mesh.outbound).await {
        for path in ["/", "/", "/status/500", "/status/500"] {
            client.get(path).await;
        }
    }
    let mut grpc = Client::http2(mesh.outbound).await;
    grpc.grpc(13).await;
    eventually("all are counted", || count(&mesh, &[]) == 9.0).await;
    let (labels, _) = &series(&mesh, "istio_requests_total")[0];
    let expected = [
        ("connection_security_policy", "unknown"),
        ("destination_service", "web.shop.svc.cluster.local"),
        ("destination_service_name", "web"),
        ("destination_service_namespace", "shop"),
        ("destination_workload_namespace", "shop"),
        ("destination_principal", "unknown"),
        ("reporter", "source"),
        ("response_flags", "-"),
        ("source_principal", "unknown"),
        ("source_workload", "web"),
        ("source_workload_namespace", "shop"),
    ];
    for (name, value) in expected {
        assert_eq!(labels.get(name).map(String::as_str), Some(value), "{name}");
    }
    let (stable, canary) = (
        ("destination_workload", "web-v1"),
        ("destination_workload", "web-v2"),
    );
    assert_eq!(count(&mesh, &[stable]) + count(&mesh, &[canary]), 9.0);
    assert!((4.0..=5.0).contains(&count(&mesh, &[canary])));
    let http = ("request_protocol", "http");
    assert_eq!(
        count(
            &mesh,
            &[http, ("response_code", "500"), ("grpc_response_status", "")]
        ),
        4.0
    );
    let grpc = [
        ("request_protocol", "grpc"),
        ("response_code", "200"),
        ("grpc_response_status", "13"),
    ];
    assert_eq!(count(&mesh, &grpc), 1.0);

    let dead = nobody().await;
    mesh.install(&Service {
        workloads: true,
        ..Service::new(dead, v2.address, 0)
    })
    .await;
    Client::http1(mesh.outbound).await.get("/").await;
    let unreached = [("response_code", "503"), ("response_flags", "UF"), stable];
    eventually("it is counted", || count(&mesh, &unreached) == 1.0).await;
    mesh.install(&Service::default()).await;
    Client::http1(mesh.outbound).await.get("/").await;
    let nowhere = [
        ("response_code", "503"),
        ("response_flags", "UH"),
        ("destination_workload", "unknown"),
        ("destination_service_name", "web"),
    ];
    eventually("it is counted", || count(&mesh, &nowhere) == 1.0).await;
}

#[tokio::test]
async fn the_called_one_counts_what_reaches_its_application_and_no_probes() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Given {
        inbound: app.address,
        ..given()
    });
    let mut caller = Client::http1(mesh.inbound).await;
    whole(caller.send(post("/echo", "hello")).await.unwrap())
        .await
        .unwrap();
    let expected = [
        ("reporter", "destination"),
        ("source_workload", "unknown"),
        ("destination_workload", "web"),
        ("destination_workload_namespace", "shop"),
        ("destination_service", "unknown"),
        ("connection_security_policy", "none"),
        ("response_code", "200"),
    ];
    eventually("it is counted", || count(&mesh, &expected) == 1.0).await;
    for (name, sum) in [
        ("istio_request_bytes_sum", 5.0),
        ("istio_response_bytes_sum", 5.0),
    ] {
        assert_eq!(series(&mesh, name)[0].1, sum, "{name}");
    }
    let buckets = series(&mesh, "istio_request_duration_milliseconds_bucket");
    assert_eq!(buckets.len(), 20);
    assert_eq!(buckets[19].1, 1.0);
    assert_eq!(buckets[19].0["le"], "+Inf");
}
