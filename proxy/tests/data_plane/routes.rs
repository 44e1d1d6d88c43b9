//! How a proxy learns where things are, and what it does before and after.

use std::sync::Arc;

use aviary_proxy::control::{Install, Link};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use traffic_core::config::{Snapshot, Wanted};

use crate::client::{Client, eventually};
use crate::mesh::{Given, Mesh, SERVICE, Service};
use crate::server::{Server, opaque};

#[tokio::test]
async fn a_new_destination_is_asked_for_and_its_first_connection_is_split() {
    let server = Server::start("v2").await;
    let mut mesh = Mesh::start(Given::default());
    mesh.data.link(Link::Connected);
    let outbound = mesh.outbound;
    let first = tokio::spawn(async move { Client::http1(outbound).await.get("/").await.text });
    let service = Wanted::Destination(SERVICE.parse().unwrap());
    assert_eq!(mesh.demands.recv().await, Some(service));
    mesh.install(&Service::new(server.address, server.address, 100))
        .await;
    assert_eq!(first.await.unwrap(), "v2");
}

#[tokio::test]
async fn without_an_answer_a_connection_is_passed_through_and_the_next_one_asks_again() {
    let server = Server::start("plain").await;
    let mut mesh = Mesh::start(Given {
        outbound: server.address,
        ..Given::default()
    });
    for _ in 0..2 {
        assert_eq!(
            Client::http1(mesh.outbound).await.get("/").await.text,
            "plain"
        );
        let address = Wanted::Destination(server.address);
        assert_eq!(mesh.demands.recv().await, Some(address));
    }
    let text = mesh.metrics.render().unwrap();
    assert!(
        text.contains("aviary_passthrough_connections_total{reason=\"no_answer\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_connection_that_came_before_the_answer_joins_the_split_when_it_comes() {
    let (plain, canary) = (Server::start("plain").await, Server::start("v2").await);
    let mesh = Mesh::start(Given {
        outbound: plain.address,
        ..Given::default()
    });
    let mut clients = Client::both(mesh.outbound).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.text, "plain");
    }
    let mut snapshot = Service::new(canary.address, canary.address, 100).snapshot();
    let route = snapshot.routes.remove(&SERVICE.parse().unwrap()).unwrap();
    snapshot.routes.insert(plain.address, route);
    mesh.data.install(Arc::new(snapshot)).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.text, "v2");
    }
}

#[tokio::test]
async fn a_destination_without_a_route_is_passed_through_at_once() {
    let address = opaque("hello").await;
    let mut mesh = Mesh::start(Given {
        outbound: address,
        ..Given::default()
    });
    let snapshot = Snapshot {
        routes: [(address, None)].into(),
        ..Snapshot::default()
    };
    mesh.data.install(Arc::new(snapshot)).await;
    let mut greeting = [0; 5];
    TcpStream::connect(mesh.outbound)
        .await
        .unwrap()
        .read_exact(&mut greeting)
        .await
        .unwrap();
    assert_eq!(greeting, *b"hello");
    assert!(mesh.demands.try_recv().is_err());
}

#[tokio::test]
async fn a_route_that_goes_away_leaves_open_connections_working() {
    let (server, plain) = (Server::start("v1").await, Server::start("plain").await);
    let mesh = Mesh::start(Given {
        outbound: plain.address,
        ..Given::default()
    });
    let mut snapshot = Service::new(server.address, server.address, 0).snapshot();
    let route = snapshot.routes.remove(&SERVICE.parse().unwrap()).unwrap();
    snapshot.routes.insert(plain.address, route);
    mesh.data.install(Arc::new(snapshot)).await;
    let mut clients = Client::both(mesh.outbound).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.text, "v1");
    }
    mesh.data.install(Arc::new(Snapshot::default())).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.text, "plain");
    }
}

#[tokio::test]
async fn an_endpoint_that_drains_gets_nothing_new() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let mut snapshot = Service {
        stable: vec![one.address, two.address],
        ..Service::default()
    }
    .snapshot();
    let mut cluster = (*snapshot.clusters["shop/web/80/v1"]).clone();
    cluster.endpoints[0].health = traffic_core::config::Health::Draining;
    snapshot
        .clusters
        .insert(cluster.name.clone(), Arc::new(cluster));
    let mesh = Mesh::start(Given::default());
    mesh.data.install(Arc::new(snapshot)).await;
    for client in &mut Client::both(mesh.outbound).await {
        for _ in 0..20 {
            assert_eq!(client.get("/").await.text, "two");
        }
    }
}

#[tokio::test]
async fn the_load_is_spread_over_endpoints() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let mesh = Mesh::with(&Service {
        stable: vec![one.address, two.address],
        ..Service::default()
    })
    .await;
    let mut requests = Vec::new();
    for _ in 0..40 {
        let mut client = Client::http1(mesh.outbound).await;
        requests.push(tokio::spawn(async move { client.get("/held").await }));
    }
    eventually("all are in flight", || {
        one.requests() + two.requests() == 40
    })
    .await;
    assert_eq!((one.requests(), two.requests()), (20, 20));
    one.state.held.add_permits(40);
    two.state.held.add_permits(40);
    for request in requests {
        request.await.unwrap();
    }
}
