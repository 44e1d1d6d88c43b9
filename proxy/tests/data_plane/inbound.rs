//! The called side, alone and with a caller's proxy in front.

use futures::future::join_all;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use traffic_core::peer::Peer;

use crate::client::{Client, eventually, get, whole};
use crate::mesh::{Given, Mesh, Service, counts};
use crate::server::{Server, nobody, opaque};

#[tokio::test]
async fn requests_reach_the_application_and_are_counted_by_its_port() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    for client in &mut Client::both(mesh.inbound).await {
        assert_eq!(client.get("/").await.text, "app");
        assert_eq!(client.get("/status/500").await.status, 500);
        assert_eq!(client.post("/echo", "body").await.text, "body");
    }
    let port = mesh.metrics.port(app.address.port());
    eventually("all are counted", || {
        counts(port.requests(Peer::Outside)) == [4, 2, 0, 0]
    })
    .await;
}

#[tokio::test]
async fn requests_that_come_while_the_first_connection_is_opened_count_for_its_port() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    let together = (0..20).map(async |_| Client::http2(mesh.inbound).await.get("/").await);
    for answer in join_all(together).await {
        assert_eq!(answer.text, "app");
    }
    let port = mesh.metrics.port(app.address.port());
    eventually("all are counted", || {
        counts(port.requests(Peer::Outside)) == [20, 0, 0, 0]
    })
    .await;
    let of_no_port = mesh.metrics.port(0);
    assert_eq!(counts(of_no_port.requests(Peer::Outside)), [0; 4]);
}

#[tokio::test]
async fn other_bytes_are_copied() {
    let mesh = Mesh::start(Given {
        inbound: opaque("220 mail").await,
        ..Given::default()
    });
    let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, *b"220 mail");
    stream.write_all(b"HELO").await.unwrap();
    stream.read_exact(&mut greeting[..4]).await.unwrap();
    assert_eq!(greeting[..4], *b"HELO");
}

#[tokio::test]
async fn an_application_that_is_away_is_a_marked_503_or_a_refused_stream() {
    let mesh = Mesh::start(Given {
        inbound: nobody().await,
        ..Given::default()
    });
    let mut client = Client::http1(mesh.inbound).await;
    let mut marked = get("/");
    marked
        .headers_mut()
        .insert("x-aviary-peer", "token".parse().unwrap());
    let answer = whole(client.send(marked).await.unwrap()).await.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["x-aviary-unsent"], "token");
    assert!(answer.headers.contains_key("x-aviary-error"));
    // Nobody else is told: an outsider has nothing to do with it.
    let answer = client.get("/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.headers.contains_key("x-aviary-unsent"));

    let error = Client::http2(mesh.inbound)
        .await
        .try_get("/")
        .await
        .unwrap_err();
    let reset = std::error::Error::source(&error)
        .unwrap()
        .downcast_ref::<h2::Error>()
        .unwrap();
    assert_eq!(reset.reason(), Some(h2::Reason::REFUSED_STREAM));
    let of_no_port = mesh.metrics.port(0);
    assert_eq!(counts(of_no_port.requests(Peer::Outside)), [0, 0, 0, 2]);
    assert_eq!(counts(of_no_port.requests(Peer::Mesh)), [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_canary_pod_whose_application_is_away_costs_no_request() {
    let stable = Server::start("v1").await;
    let canary = Mesh::start(Given {
        inbound: nobody().await,
        ..Given::default()
    });
    let caller = Mesh::with(&Service::new(stable.address, canary.inbound, 50)).await;
    let [mut one, mut two] = Client::both(caller.outbound).await;
    for _ in 0..10 {
        assert_eq!(one.get("/").await.text, "v1");
        assert_eq!(two.get("/").await.text, "v1");
        // Bodies that were sent in vain are still in hand.
        assert_eq!(one.post("/echo", "body").await.text, "body");
        let grpc = two.grpc(0).await;
        assert_eq!(
            (
                grpc.text.as_str(),
                grpc.trailers.unwrap()["grpc-status"].as_bytes()
            ),
            ("message", &b"0"[..])
        );
    }
    assert_eq!(counts(&caller.arm("v2").first_attempts), [0, 0, 0, 20]);
    assert_eq!(counts(&caller.arm("v1").requests), [40, 0, 0, 0]);
}

#[tokio::test]
async fn an_application_cannot_pretend_to_be_away() {
    let app = crate::server::raw(|mut stream, _| async move {
        let answer = "HTTP/1.1 200 OK\r\nx-aviary-unsent: 1\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let mesh = Mesh::start(Given {
        inbound: app,
        ..Given::default()
    });
    let answer = Client::http1(mesh.inbound).await.get("/").await;
    assert!(!answer.headers.contains_key("x-aviary-unsent"));
}

/// Names of the headers that came to the application.
async fn arrived(client: &mut Client, written: &'static str) -> String {
    let mut request = get("/headers");
    request
        .headers_mut()
        .insert("x-aviary-peer", written.parse().unwrap());
    whole(client.send(request).await.unwrap())
        .await
        .unwrap()
        .text
}

#[tokio::test]
async fn a_call_by_a_sidecar_counts_as_the_mesh_s_and_arrives_as_it_was_sent() {
    let app = Server::start("app").await;
    let called = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    let caller = Mesh::with(&Service::new(called.inbound, called.inbound, 50)).await;
    let direct = arrived(&mut Client::http1(app.address).await, "1").await;
    assert!(direct.contains("x-aviary-peer"), "{direct}");
    for client in &mut Client::both(caller.outbound).await {
        for path in ["/", "/status/500"] {
            client.get(path).await;
        }
        // Nothing that an application writes there changes that, or is passed on.
        let headers = arrived(client, "mine").await;
        assert!(!headers.contains("x-aviary"), "{headers}");
    }
    let port = called.metrics.port(app.address.port());
    eventually("all are counted", || {
        counts(port.requests(Peer::Mesh)) == [4, 2, 0, 0]
    })
    .await;
    for other in [Peer::Outside, Peer::Probe] {
        assert_eq!(counts(port.requests(other)), [0; 4], "{other:?}");
    }
}

#[tokio::test]
async fn a_direct_call_counts_as_an_outsider_s_and_one_to_the_pod_s_own_address_as_a_probe() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    let own = app.address.to_string();
    for host in ["web", "127.0.0.2", &own, "127.0.0.1"] {
        let mut stream = TcpStream::connect(mesh.inbound).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    Client::http2(mesh.inbound).await.get("/").await;
    let port = mesh.metrics.port(app.address.port());
    let by_peer = || Peer::ALL.map(|peer| counts(port.requests(peer))[0]);
    eventually("all are counted", || by_peer() == [0, 3, 2]).await;
    let text = mesh.metrics.render().unwrap();
    for (peer, count) in [("mesh", 0), ("outside", 3), ("probe", 2)] {
        let series = format!(
            r#"aviary_inbound_requests_total{{namespace="shop",workload="web",port="{}",peer="{peer}",class="success"}} {count}"#,
            app.address.port()
        );
        assert!(text.contains(&series), "no {series} in\n{text}");
    }
}

/// While the control plane is away, a request goes where kube-proxy sends it: no revision is picked for it.
#[tokio::test]
async fn a_request_that_is_passed_on_without_a_route_has_no_mark() {
    let app = Server::start("app").await;
    let called = Mesh::start(Given {
        inbound: app.address,
        ..Given::default()
    });
    let caller = Mesh::start(Given {
        outbound: called.inbound,
        ..Given::default()
    });
    for client in &mut Client::both(caller.outbound).await {
        let headers = arrived(client, "mine").await;
        assert!(!headers.contains("x-aviary"), "{headers}");
    }
    let port = called.metrics.port(app.address.port());
    eventually("both are counted", || {
        counts(port.requests(Peer::Outside)) == [2, 0, 0, 0]
    })
    .await;
}
