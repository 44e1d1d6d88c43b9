//! How a proxy leaves.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::client::{Client, eventually};
use crate::mesh::{Given, Mesh, Service};
use crate::server::Server;

async fn held(mesh: &Mesh, app: &Server) -> [tokio::task::JoinHandle<String>; 2] {
    let before = app.requests();
    let requests = Client::both(mesh.inbound)
        .await
        .map(|mut client| tokio::spawn(async move { client.get("/held").await.text }));
    eventually("both requests are in flight", || {
        app.requests() == before + 2
    })
    .await;
    requests
}

#[tokio::test]
async fn requests_in_flight_are_finished_before_the_proxy_leaves() {
    let app = Server::start("app").await;
    let mut mesh = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    let idle = Client::both(mesh.inbound).await;
    let requests = held(&mesh, &app).await;
    mesh.stop();
    let mut health = Client::http1(mesh.admin).await;
    while health.get("/ready").await.text != "draining\n" {
        tokio::task::yield_now().await;
    }
    assert!(!mesh.has_ended());
    app.state.held.add_permits(2);
    for request in requests {
        assert_eq!(request.await.unwrap(), "app");
    }
    eventually("the proxy leaves", || mesh.has_ended()).await;
    drop(idle);
}

#[tokio::test]
async fn new_connections_are_served_through_the_delay_and_told_to_close() {
    let app = Server::start("app").await;
    let given = Given {
        inbound: app.address,
        drain_delay: Duration::from_secs(60),
        ..Given::default()
    };
    let mut mesh = Mesh::start(Given {
        drain_deadline: Duration::from_secs(60),
        ..given
    });
    let [mut old, _] = Client::both(mesh.inbound).await;
    assert!(!old.get("/").await.headers.contains_key("connection"));
    mesh.stop();
    let mut health = Client::http1(mesh.admin).await;
    while health.get("/ready").await.text != "draining\n" {
        tokio::task::yield_now().await;
    }
    assert_eq!(old.get("/").await.headers["connection"], "close");
    let [mut one, mut two] = Client::both(mesh.inbound).await;
    let answer = one.get("/").await;
    assert_eq!(
        (
            answer.text.as_str(),
            answer.headers["connection"].as_bytes()
        ),
        ("app", &b"close"[..])
    );
    assert_eq!(two.get("/").await.text, "app");
    // GOAWAY follows the first answer: sooner or later the connection takes no more requests.
    eventually("GOAWAY", || match &two {
        Client::Http2(sender) => sender.is_closed(),
        Client::Http1(_) => unreachable!(),
    })
    .await;
}

#[tokio::test]
async fn the_deadline_ends_what_does_not_end() {
    let app = Server::start("app").await;
    let deadline = Duration::from_millis(200);
    let mut mesh = Mesh::start(Given {
        inbound: app.address,
        drain_deadline: deadline,
        ..Given::default()
    });
    let requests = held(&mesh, &app).await;
    mesh.stop();
    eventually("the proxy leaves", || mesh.has_ended()).await;
    for request in requests {
        assert!(request.await.is_err());
    }
}

/// The application may need the network to finish its own work.
#[tokio::test]
async fn calls_of_the_application_are_served_to_the_very_end() {
    let server = Server::start("v1").await;
    let mut mesh = Mesh::start(Given {
        inbound: server.address,
        drain_deadline: Duration::from_secs(60),
        ..Given::default()
    });
    mesh.install(&Service::new(server.address, server.address, 0))
        .await;
    let requests = held(&mesh, &server).await;
    mesh.stop();
    // Nobody is taken in any more: the proxy is closing.
    while TcpStream::connect(mesh.inbound).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        for client in &mut Client::both(mesh.outbound).await {
            assert_eq!(client.get("/").await.text, "v1");
        }
    }
    server.state.held.add_permits(2);
    for request in requests {
        assert_eq!(request.await.unwrap(), "v1");
    }
}
