//! Who is believed, and who is not.

use aviary_proxy::control::Identify;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType};

use super::authority::{self, Authority};
use super::{Chosen, Pair, SECRET, handshakes};
use crate::client::{Client, eventually};
use crate::mesh::counts;
use crate::server::Server;

/// A request to `web` by `pair` fails before it is sent, in both versions of HTTP.
async fn assert_unreachable(pair: &Pair, app: &Server) {
    for mut client in Client::both(pair.calling.outbound).await {
        let answer = client.post("/echo", SECRET).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
    }
    let unsent = counts(&pair.calling.arm("v1").requests);
    assert_eq!(unsent, [0, 0, 0, 2], "as if nobody listened");
    assert_eq!(app.requests(), 0);
    assert!(!pair.tap.has_seen(SECRET), "and nothing was sent");
    assert!(handshakes(&pair.calling, "outbound", "failure") >= 2);
    assert_eq!(handshakes(&pair.calling, "outbound", "success"), 0);
}

#[tokio::test]
async fn another_service_account_of_the_same_mesh_is_not_the_one_that_was_called() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, Chosen::default()).await;
    let root = Authority::new("root");
    let other = root.identity(1, "db", &[&root]);
    pair.called.data.identify(other).await;
    let calling = root.identity(1, "api", &[&root]);
    pair.calling.data.identify(calling).await;
    pair.calling.install(&pair.service).await;
    assert_unreachable(&pair, &app).await;
    let mut client = Client::http1(pair.calling.outbound).await;
    let answer = client.get("/").await;
    let error = answer.headers["x-aviary-error"].to_str().unwrap();
    assert!(error.contains(&authority::id("db")), "{error}");
    assert!(error.contains(&authority::id("web")), "{error}");
    super::assert_documented(error, pair.tap.address);
}

#[tokio::test]
async fn the_right_name_under_another_root_is_nobody() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, Chosen::default()).await;
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let forged = other.identity(1, "web", &[&root, &other]);
    pair.called.data.identify(forged).await;
    let calling = root.identity(1, "api", &[&root]);
    pair.calling.data.identify(calling).await;
    pair.calling.install(&pair.service).await;
    assert_unreachable(&pair, &app).await;
}

#[tokio::test]
async fn a_caller_of_another_root_reaches_no_application() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, Chosen::default()).await;
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let called = root.identity(1, "web", &[&root]);
    pair.called.data.identify(called).await;
    let stranger = other.identity(1, "api", &[&root]);
    pair.calling.data.identify(stranger).await;
    pair.calling.install(&pair.service).await;
    for mut client in Client::both(pair.calling.outbound).await {
        let answer = client.post("/echo", SECRET).await;
        assert!(answer.status.is_server_error(), "{}", answer.text);
    }
    assert_eq!(app.requests(), 0);
    assert_eq!(app.connections(), 0);
    assert_eq!(handshakes(&pair.called, "inbound", "success"), 0);
    eventually("both are counted", || {
        handshakes(&pair.called, "inbound", "failure") >= 2
    })
    .await;
    pair.assert_secret();
}

#[tokio::test]
async fn what_is_not_for_this_use_or_time_or_for_one_name_is_refused() {
    type Change = fn(&mut CertificateParams);
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    let web = uri(&authority::id("web"));
    let root = Authority::new("root");
    let changes: [(&str, Change); 3] = [
        ("for clients only", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        ("over", |params| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }),
        ("not yet valid", |params| {
            params.not_before = rcgen::date_time_ymd(4000, 1, 1);
        }),
    ];
    for (what, change) in changes {
        let app = Server::start("web").await;
        let pair = Pair::before(app.address, Chosen::default()).await;
        let (leaf, key) = root.leaf(|params| {
            params.subject_alt_names = vec![web.clone()];
            change(params);
        });
        let id = authority::id("web");
        let roots = vec![root.root()];
        let wrong = aviary_proxy::identity::Generation::new(1, &id, vec![leaf], key, roots);
        pair.called.data.identify(wrong.unwrap().into()).await;
        let calling = root.identity(1, "api", &[&root]);
        pair.calling.data.identify(calling).await;
        pair.calling.install(&pair.service).await;
        println!("{what}");
        assert_unreachable(&pair, &app).await;
    }
}

#[tokio::test]
async fn whoever_was_spoken_to_by_tls_is_never_spoken_to_in_the_clear_again() {
    let app = Server::start("web").await;
    let mut pair = Pair::of_one_mesh(app.address, Chosen::default()).await;
    let outbound = pair.calling.outbound;
    let mut client = Client::http1(outbound).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    // A control plane that has just started has not heard of it. By another version of HTTP it takes another connection.
    pair.service.identity.as_mut().unwrap().accepts = false;
    pair.calling.install(&pair.service).await;
    let before = pair.tap.connections();
    let mut client = Client::http2(outbound).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    assert!(pair.tap.connections() > before);
    pair.assert_secret();
    // Another pod gets the address: what holds for the one does not for the other.
    pair.service.identity = authority::accepting("other").map(|mut other| {
        other.accepts = false;
        other
    });
    pair.calling.install(&pair.service).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    assert!(pair.tap.has_seen(SECRET));
}

#[tokio::test]
async fn an_address_that_another_identity_has_got_is_not_taken_for_the_one_before() {
    let app = Server::start("web").await;
    let mut pair = Pair::before(app.address, Chosen::default()).await;
    let root = Authority::new("root");
    let identity = |number, name| root.identity(number, name, &[&root]);
    pair.called.data.identify(identity(1, "web")).await;
    pair.calling.data.identify(identity(1, "api")).await;
    pair.calling.install(&pair.service).await;
    let outbound = pair.calling.outbound;
    let mut client = Client::http1(outbound).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    // Before the control plane has said so: whoever is connected to now is somebody else.
    pair.called.data.identify(identity(2, "db")).await;
    let mut client = Client::http2(outbound).await;
    let answer = client.post("/echo", SECRET).await;
    assert_eq!((answer.status.as_u16(), app.requests()), (503, 1));
    // And when it has said so, what is open to the one before is for nobody else.
    pair.service.identity = authority::accepting("db");
    pair.calling.install(&pair.service).await;
    let before = pair.tap.connections();
    let mut client = Client::http1(outbound).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    assert!(pair.tap.connections() > before);
    pair.assert_secret();
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_tls_is_not_asked_in_the_clear() {
    let app = Server::start("web").await;
    // No sidecar is there.
    let pair = Pair::before(app.address, Chosen::default()).await;
    let bare = super::tap::Tap::before(app.address, Default::default()).await;
    let root = Authority::new("root");
    let calling = root.identity(1, "api", &[&root]);
    pair.calling.data.identify(calling).await;
    let service = crate::mesh::Service {
        stable: vec![bare.address],
        canary: vec![bare.address],
        ..pair.service.clone()
    };
    pair.calling.install(&service).await;
    for mut client in Client::both(pair.calling.outbound).await {
        assert_eq!(client.post("/echo", SECRET).await.status, 503);
    }
    assert_eq!(app.requests(), 0);
    assert!(bare.bytes() > 0 && !bare.has_seen(SECRET));
    // Nor one that says nothing at all.
    let silent = crate::server::accepting(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let service = crate::mesh::Service {
        stable: vec![silent],
        canary: vec![silent],
        ..service
    };
    pair.calling.install(&service).await;
    let mut client = Client::http1(pair.calling.outbound).await;
    let answer = client.post("/echo", SECRET).await;
    assert_eq!(answer.status, 503);
    let error = answer.headers["x-aviary-error"].to_str().unwrap();
    assert!(error.contains("took longer than 2 s"), "{error}");
    eventually("all is counted", || {
        counts(&pair.calling.arm("v1").requests) == [0, 0, 0, 3]
    })
    .await;
}

#[tokio::test]
async fn a_request_goes_to_stable_when_the_canary_cannot_prove_who_it_is() {
    let (stable, canary) = (Server::start("web").await, Server::start("canary").await);
    let pair = Pair::of_one_mesh(stable.address, Chosen::default()).await;
    // Its connections are taken by somebody who has no identity.
    let service = crate::mesh::Service {
        canary: vec![canary.address],
        ..pair.service.at(100)
    };
    pair.calling.install(&service).await;
    for mut client in Client::both(pair.calling.outbound).await {
        assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    }
    assert_eq!((stable.requests(), canary.requests()), (2, 0));
    assert_eq!(counts(&pair.calling.arm("v2").first_attempts), [0, 0, 0, 2]);
}
