//! What passes through, and how untouched.

use std::sync::{Arc, Mutex};

use http::header::{CONNECTION, UPGRADE};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use traffic_core::config::Protocol;

use crate::client::{Client, eventually, get};
use crate::mesh::{Given, Mesh, Service, counts};
use crate::server::{Server, idle_times, nobody, opaque, raw};

/// What its port speaks is found out.
pub(crate) fn detected(service: Service) -> Service {
    Service {
        protocol: Protocol::Detect,
        ..service
    }
}

#[tokio::test]
async fn grpc_trailers_pass_and_decide_the_outcome() {
    let server = Server::start("v2").await;
    let mesh = Mesh::with(&detected(Service::new(server.address, server.address, 100))).await;
    let mut client = Client::http2(mesh.outbound).await;
    for code in [0, 5, 14, 13] {
        let answer = client.grpc(code).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "message")
        );
        assert_eq!(answer.trailers.unwrap()["grpc-status"], code.to_string());
    }
    assert_eq!(counts(&mesh.arm("v2").first_attempts), [2, 2, 0, 0]);
}

#[tokio::test]
async fn a_websocket_upgrade_passes() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&detected(Service::new(server.address, server.address, 0))).await;
    let mut request = get("/chat");
    request
        .headers_mut()
        .insert(UPGRADE, "websocket".parse().unwrap());
    request
        .headers_mut()
        .insert(CONNECTION, "Upgrade".parse().unwrap());
    let response = Client::http1(mesh.outbound)
        .await
        .send(request)
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()[UPGRADE], "websocket");
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for message in ["hello", "again"] {
        socket.write_all(message.as_bytes()).await.unwrap();
        let mut echo = vec![0; message.len()];
        socket.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, message.as_bytes());
    }
    assert_eq!(counts(&mesh.arm("v1").requests), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_and_connections_are_split() {
    let (stable, canary) = (opaque("v1 ready").await, opaque("v2 ready").await);
    for protocol in [Protocol::Detect, Protocol::Opaque] {
        let mesh = Mesh::with(&Service {
            protocol,
            ..Service::new(stable, canary, 50)
        })
        .await;
        let mut to_canary = 0;
        for _ in 0..4 {
            let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
            let mut greeting = [0; 8];
            stream.read_exact(&mut greeting).await.unwrap();
            to_canary += u32::from(greeting == *b"v2 ready");
            stream.write_all(b"\x00\xff bytes").await.unwrap();
            let mut echo = [0; 8];
            stream.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, *b"\x00\xff bytes");
        }
        assert_eq!(to_canary, 2);
        assert_eq!(counts(&mesh.arm("v2").connections), [2, 0, 0, 0]);
    }
}

#[tokio::test]
async fn an_opaque_connection_to_a_dead_canary_goes_to_stable() {
    let mesh = Mesh::with(&Service {
        protocol: Protocol::Opaque,
        ..Service::new(opaque("v1").await, nobody().await, 100)
    })
    .await;
    let mut greeting = [0; 2];
    TcpStream::connect(mesh.outbound)
        .await
        .unwrap()
        .read_exact(&mut greeting)
        .await
        .unwrap();
    assert_eq!(greeting, *b"v1");
    assert_eq!(counts(&mesh.arm("v2").connections), [0, 0, 0, 1]);
    assert_eq!(counts(&mesh.arm("v1").connections), [1, 0, 0, 0]);
}

#[tokio::test]
async fn bytes_for_a_server_that_is_not_there_end_with_a_reset() {
    let nobody = nobody().await;
    for protocol in [Protocol::Detect, Protocol::Http] {
        let mesh = Mesh::with(&Service {
            protocol,
            ..Service::new(nobody, nobody, 0)
        })
        .await;
        let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
        stream.write_all(b"\x00\xff bytes").await.unwrap();
        let ended = stream.read(&mut [0]).await;
        assert_eq!(
            ended.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
    }
}

#[tokio::test]
async fn the_case_of_headers_and_the_host_survive_both_ways() {
    let seen = Arc::new(Mutex::new(String::new()));
    let record = seen.clone();
    let server = raw(move |mut stream, request| {
        *record.lock().unwrap() = String::from_utf8(request).unwrap();
        async move {
            let answer = "HTTP/1.1 200 OK\r\nX-MixedCase: Yes\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let mesh = Mesh::with(&Service::new(server, server, 0)).await;
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    let request = "GET /a?b=c HTTP/1.1\r\nHost: Shop.Example:8080\r\nX-Request-ID: 7\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
        "{answer}"
    );
    assert!(answer.contains("X-MixedCase: Yes\r\n"), "{answer}");
    let seen = seen.lock().unwrap();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    assert!(
        seen.contains("Host: Shop.Example:8080\r\n") && seen.contains("X-Request-ID: 7\r\n"),
        "{seen}"
    );
    assert!(!seen.to_lowercase().contains("connection"), "{seen}");
}

#[tokio::test]
async fn a_first_line_in_pieces_is_still_http() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service {
        protocol: Protocol::Http,
        ..Service::new(server.address, server.address, 0)
    })
    .await;
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in [
        "P",
        "OST /echo HTTP/1.1\r\nHost: web\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    ] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hi"), "{answer}");
    assert_eq!(counts(&mesh.arm("v1").requests), [1, 0, 0, 0]);
}

#[tokio::test]
async fn connections_to_endpoints_are_reused() {
    let server = Server::start("v1").await;
    let mesh = Mesh::with(&Service::new(server.address, server.address, 0)).await;
    let begun = Instant::now();
    for _ in 0..10 {
        for client in &mut Client::both(mesh.outbound).await {
            client.get("/").await;
            client.post("/echo", "x").await;
        }
    }
    let connections = server.connections();
    // However long this took.
    let most = 2 + idle_times(begun);
    assert!((2..=most).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_closed_idle_connection_costs_no_request() {
    let server = raw(|mut stream, _request| async move {
        // Closes after each answer without having said so.
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let mesh = Mesh::with(&Service::new(server, server, 0)).await;
    let mut client = Client::http1(mesh.outbound).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text, "ok");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn more_streams_than_one_connection_allows_open_another() {
    let server = Server::start("v1").await;
    let mesh = Mesh::start(Given::default());
    mesh.install(&Service::new(server.address, server.address, 0))
        .await;
    let mut requests = Vec::new();
    // hyper's server allows 200 streams on a connection.
    for _ in 0..450 {
        let Client::Http2(sender) = Client::http2(mesh.outbound).await else {
            unreachable!()
        };
        requests.push(tokio::spawn(async move {
            Client::Http2(sender).get("/held").await.status
        }));
    }
    eventually("all of them arrive", || server.requests() == 450).await;
    server.state.held.add_permits(450);
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert!(
        (3..10).contains(&server.connections()),
        "{}",
        server.connections()
    );
}

#[tokio::test]
async fn the_answer_to_head_keeps_its_length() {
    let server = raw(|mut stream, _request| async move {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let mesh = Mesh::with(&Service::new(server, server, 0)).await;
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    let request = "HEAD / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("Content-Length: 1234\r\n"), "{answer}");
}
