//! What the kubelet and Prometheus see.

use std::time::Duration;

use aviary_proxy::control::{Install, Link};
use aviary_proxy::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use traffic_core::bounds::Bounds;

use crate::client::Client;
use crate::mesh::{Given, Mesh, Service};
use crate::server::Server;

#[tokio::test]
async fn a_proxy_is_ready_when_it_has_met_the_control_plane() {
    let mesh = Mesh::start(Given::default());
    let mut client = Client::http1(mesh.admin).await;
    assert_eq!(client.get("/live").await.status, 200);
    assert_eq!(client.get("/ready").await.status, 503);
    mesh.data.link(Link::Connected);
    assert_eq!(client.get("/ready").await.status, 200);
    mesh.data.link(Link::Disconnected);
    assert_eq!(client.get("/ready").await.status, 200);
}

#[tokio::test]
async fn a_revision_has_its_series_at_zero_before_its_first_request() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 0)).await;
    let text = Client::http1(mesh.admin).await.get("/metrics").await.text;
    let labels = "dst_namespace=\"shop\",dst_service=\"web\",dst_port=\"80\",revision=\"v2\"";
    for class in ["success", "failure", "client_closed", "unsent"] {
        for name in ["requests", "first_attempts", "connections"] {
            let line = format!("aviary_outbound_{name}_total{{{labels},class=\"{class}\"}} 0\n");
            assert!(text.contains(&line), "no {line} in {text}");
        }
    }
    assert!(
        text.contains(&format!(
            "aviary_outbound_duration_seconds_count{{{labels}}} 0\n"
        )),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "aviary_outbound_duration_seconds_bucket{{le=\"0.5\",{labels}}} 0\n"
        )),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "aviary_outbound_duration_seconds_bucket{{le=\"+Inf\",{labels}}} 0\n"
        )),
        "{text}"
    );
    assert!(text.contains("aviary_proxy_info{version=\""), "{text}");
    assert!(
        text.contains("aviary_config_installs_total 1\n") && text.ends_with("# EOF\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_dump_shows_the_weights_that_really_hold() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 10)).await;
    let text = Client::http1(mesh.admin)
        .await
        .get("/config_dump")
        .await
        .text;
    let dump: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dump["routes"][0]["canary"]["weight"], "10%");
    assert_eq!(dump["routes"][0]["destination"], crate::mesh::SERVICE);
    assert_eq!(dump["clusters"].as_array().unwrap().len(), 2);
    let listeners = dump["listeners"].as_array().unwrap();
    let expected = serde_json::json!([
        {"name": "outbound", "address": mesh.outbound.to_string()},
        {"name": "inbound", "address": mesh.inbound.to_string()},
        {"name": "admin", "address": mesh.admin.to_string()},
    ]);
    assert_eq!(listeners, expected.as_array().unwrap());
}

#[tokio::test]
async fn the_dump_shows_how_calls_are_bounded_and_what_the_pod_takes() {
    let server = Server::start("v1").await;
    let mesh = Mesh::start(Given {
        limits: Limits {
            connect: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Given::default()
    });
    let bounds = Bounds {
        request: Some(Duration::from_secs(15)),
        ..Bounds::default()
    };
    let service = Service {
        bounds,
        ..Service::new(server.address, server.address, 10)
    };
    mesh.install(&service).await;
    let mut client = Client::http1(mesh.admin).await;
    let text = client.get("/config_dump").await.text;
    let dump: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dump["routes"][0]["bounds"]["request_timeout"], "15s");
    assert_eq!(dump["limits"]["connect_timeout"], "300ms");
}

#[tokio::test]
async fn post_drain_makes_it_unready_without_ending_it() {
    let mesh = Mesh::start(Given::default());
    mesh.data.link(Link::Connected);
    let mut client = Client::http1(mesh.admin).await;
    assert_eq!(client.get("/drain").await.status, 405);
    assert_eq!(client.post("/drain", "").await.status, 200);
    assert_eq!(client.get("/ready").await.status, 503);
    assert_eq!(client.get("/live").await.status, 200);
    assert_eq!(client.get("/nothing").await.status, 404);
}

/// Were the oldest ended by its deadline for a head, it would take longer than what is waited for here.
#[tokio::test]
async fn whoever_holds_connections_keeps_no_probe_out_and_loses_the_oldest() {
    let mesh = Mesh::start(Given::default());
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(TcpStream::connect(mesh.admin).await.unwrap());
        // It was accepted when a later one is answered.
        assert_eq!(
            Client::http1(mesh.admin).await.get("/live").await.status,
            200
        );
    }
    let mut nothing = [0; 1];
    let ended = tokio::time::timeout(Duration::from_secs(15), held[0].read(&mut nothing));
    let ended = ended.await.expect("it is ended");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let ask = b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let newest = held.last_mut().unwrap();
    newest.write_all(ask).await.unwrap();
    let mut answer = String::new();
    newest.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
