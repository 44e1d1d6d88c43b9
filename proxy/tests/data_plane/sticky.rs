//! Users that stay with one revision.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use http::header::COOKIE;
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use traffic_core::config::{Protocol, Revocation};
use traffic_core::fuse::{LEAST, TOLERANCE};
use traffic_core::split::sticky::Key;

use crate::client::{Client, eventually, get, whole};
use crate::fuse::tried;
use crate::mesh::{Given, Mesh, Service, counts};
use crate::server::{Server, nobody, opaque};

const USERS: usize = 100;
/// As a caller writes it.
const HEADER: HeaderName = HeaderName::from_static("x-user-id");

async fn two() -> (Server, Server) {
    (Server::start("v1").await, Server::start("v2").await)
}

fn by_header(service: Service) -> Service {
    Service {
        sticky: Key::header("X-User-Id").ok(),
        ..service
    }
}

fn by_cookie(service: Service) -> Service {
    Service {
        sticky: Key::cookie("uid").ok(),
        ..service
    }
}

/// Who answers a request with these fields.
async fn answers(client: &mut Client, fields: &[(HeaderName, &str)]) -> String {
    answers_at(client, "/", fields).await
}

async fn answers_at(client: &mut Client, path: &str, fields: &[(HeaderName, &str)]) -> String {
    let mut request = get(path);
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(name, value);
    }
    whole(client.send(request).await.unwrap())
        .await
        .unwrap()
        .text
}

/// Which revision each user gets, by requests over both versions of HTTP, which agree.
async fn revisions(mesh: &Mesh) -> BTreeMap<usize, String> {
    let mut clients = Client::both(mesh.outbound).await;
    let mut revisions = BTreeMap::new();
    for user in 0..USERS {
        let name = format!("user-{user}");
        for client in &mut clients {
            let revision = answers(client, &[(HEADER, &name)]).await;
            let known = revisions.entry(user).or_insert_with(|| revision.clone());
            assert_eq!(*known, revision, "{name}");
        }
    }
    revisions
}

fn canaries(revisions: &BTreeMap<usize, String>) -> usize {
    revisions
        .values()
        .filter(|revision| *revision == "v2")
        .count()
}

#[tokio::test]
async fn nobody_flaps_from_the_first_step_to_a_rollback_whichever_sidecar_is_asked() {
    let (stable, canary) = two().await;
    let service = by_header(Service::new(stable.address, canary.address, 0));
    let mesh = Mesh::with(&service).await;
    let other = Mesh::start(Given {
        workers: 3,
        ..Given::default()
    });
    let mut before = revisions(&mesh).await;
    assert_eq!(canaries(&before), 0);
    for percent in [1, 10, 50, 100] {
        for mesh in [&mesh, &other] {
            mesh.install(&service.at(percent)).await;
        }
        let now = revisions(&mesh).await;
        assert_eq!(now, revisions(&other).await, "every sidecar agrees");
        for user in 0..USERS {
            let (was, is) = (&before[&user], &now[&user]);
            assert!(
                was <= is,
                "user {user} went from {was} to {is} at {percent} %"
            );
        }
        let far = 2 * (percent * (100 - percent)).isqrt();
        assert!(
            canaries(&now).abs_diff(percent as usize) <= far as usize,
            "{}",
            canaries(&now)
        );
        before = now;
    }
    // One that was restarted has nothing but its configuration.
    let fresh = Mesh::with(&service.at(50)).await;
    mesh.install(&service.at(50)).await;
    assert_eq!(revisions(&fresh).await, revisions(&mesh).await);

    let revocation = Revocation {
        rollout: "shop/web".into(),
        revision: "v2".into(),
        run: 1,
    };
    let rolled_back = Service {
        revoked: vec![revocation],
        ..service.at(0)
    };
    mesh.install(&rolled_back).await;
    mesh.install(&service.at(50)).await;
    assert_eq!(
        canaries(&revisions(&mesh).await),
        0,
        "and nobody comes back"
    );
    // Another release begins with others.
    let next = Service {
        run: 2,
        ..service.at(50)
    };
    mesh.install(&next).await;
    assert_ne!(revisions(&mesh).await, revisions(&fresh).await);
}

#[tokio::test]
async fn who_does_not_say_is_interleaved_exactly_whoever_comes_between() {
    let (stable, canary) = two().await;
    let mesh = Mesh::with(&by_header(Service::new(stable.address, canary.address, 10))).await;
    let mut clients = Client::both(mesh.outbound).await;
    let mut picked = 0;
    for number in 0..400 {
        let client = &mut clients[number % 2];
        let user = format!("user-{number}");
        answers(client, &[(HEADER, &user)]).await;
        let silent: &[_] = match number % 3 {
            0 => &[],
            1 => &[(HEADER, "")],
            _ => &[(HEADER, " "), (COOKIE, "uid=anna")],
        };
        picked += usize::from(answers(client, silent).await == "v2");
    }
    assert_eq!(picked, 40);
}

#[tokio::test]
async fn a_cookie_among_several_names_the_user() {
    let (stable, canary) = two().await;
    let mesh = Mesh::with(&by_cookie(Service::new(stable.address, canary.address, 50))).await;
    for client in &mut Client::both(mesh.outbound).await {
        let mut seen = BTreeMap::new();
        for user in 0..20 {
            let plain = format!("uid=user-{user}");
            let revision = answers(client, &[(COOKIE, &plain)]).await;
            let among = format!("a=1; uid=\"user-{user}\"; b={user}");
            assert_eq!(answers(client, &[(COOKIE, &among)]).await, revision);
            let later = [(COOKIE, "a=uid"), (COOKIE, &*plain), (COOKIE, "uid=other")];
            assert_eq!(answers(client, &later).await, revision);
            *seen.entry(revision).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
    }
}

#[tokio::test]
async fn the_first_of_several_headers_counts_in_whatever_case() {
    let (stable, canary) = two().await;
    let mesh = Mesh::with(&by_header(Service::new(stable.address, canary.address, 50))).await;
    let [mut http1, mut http2] = Client::both(mesh.outbound).await;
    for user in 0..20 {
        let (one, other) = (format!("user-{user}"), format!("user-{}", user + 1));
        let revision = answers(&mut http1, &[(HEADER, &one)]).await;
        for client in [&mut http1, &mut http2] {
            let both = [(HEADER, &*one), (HEADER, &*other)];
            assert_eq!(answers(client, &both).await, revision);
        }
        let mut raw = TcpStream::connect(mesh.outbound).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: web\r\nX-USER-ID:   {one} \r\nConnection: close\r\n\r\n"
        );
        raw.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        raw.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&revision), "{answer}");
    }
}

/// A user of the canary's.
async fn somebody(mesh: &Mesh) -> String {
    let revisions = revisions(mesh).await;
    let of_canary = revisions.iter().find(|(_, revision)| *revision == "v2");
    format!("user-{}", of_canary.unwrap().0)
}

#[tokio::test]
async fn a_canary_that_cannot_be_reached_has_its_user_answered_by_stable_and_counts_it() {
    let (stable, canary) = two().await;
    let service = by_header(Service::new(stable.address, canary.address, 50));
    let mesh = Mesh::with(&service).await;
    let user = somebody(&mesh).await;
    let gone = Service {
        canary: vec![nobody().await],
        ..service
    };
    mesh.install(&gone).await;
    let before = counts(&mesh.arm("v2").first_attempts)[3];
    for client in &mut Client::both(mesh.outbound).await {
        assert_eq!(answers(client, &[(HEADER, &user)]).await, "v1");
    }
    let unsent = || counts(&mesh.arm("v2").first_attempts)[3] - before;
    eventually("it speaks against the canary", || unsent() == 2).await;
}

#[tokio::test]
async fn an_open_fuse_sends_the_canarys_users_to_stable() {
    let (stable, canary) = two().await;
    let service = Service {
        fuse: Some(TOLERANCE),
        ..by_header(Service::new(stable.address, canary.address, 50))
    };
    let mesh = Mesh::with(&service).await;
    let user = somebody(&mesh).await;
    let withheld = || mesh.arm("v2").withheld.load(Ordering::Relaxed);
    assert_eq!(withheld(), 0);
    let mut clients = Client::both(mesh.outbound).await;
    let (mut failed, mut served, begun) = (0, 0, Instant::now());
    for number in 0..100 {
        let client = &mut clients[number % 2];
        match answers_at(client, "/fails-at/v2", &[(HEADER, &user)])
            .await
            .as_str()
        {
            "v1" => served += 1,
            _ => failed += 1,
        }
    }
    // More than opens it, since its users were served before, and few after that.
    let most = 3 * LEAST + tried(begun.elapsed());
    assert!(
        (1..=most).contains(&failed),
        "{failed} failed and {served} were served"
    );
    assert_eq!(withheld(), served);
}

#[tokio::test]
async fn connections_that_are_no_http_are_interleaved() {
    let service = by_header(Service::new(opaque("v1").await, opaque("v2").await, 50));
    let mesh = Mesh::with(&Service {
        protocol: Protocol::Opaque,
        ..service
    })
    .await;
    let mut picked = 0;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
        stream.write_all(b"x-user-id: user-1\r\n").await.unwrap();
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.unwrap();
        picked += usize::from(&greeting == b"v2");
    }
    assert_eq!(picked, 10);
}
