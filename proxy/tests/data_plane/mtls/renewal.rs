//! Certificates are renewed, and roots are, while requests are under way: nobody notices.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aviary_proxy::control::Identify;
use aviary_proxy::identity::Generation;
use futures::future::join_all;
use rcgen::SanType;
use tokio::time::sleep;

use super::authority::{self, Authority};
use super::{Chosen, Pair, SECRET, handshakes};
use crate::client::Client;
use crate::mesh::counts;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_and_a_change_of_roots_cost_no_request() {
    let app = Server::start("web").await;
    let chosen = Chosen {
        workers: 2,
        ..Chosen::default()
    };
    let pair = Pair::before(app.address, chosen).await;
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = [&old, &new];
    // New leaves of the old root, then both roots are believed, then the new one signs, then the old one is forgotten.
    let steps = [
        (&old, &both[..1]),
        (&old, &both[..1]),
        (&old, &both[..]),
        (&new, &both[..]),
        (&new, &both[1..]),
    ];
    let identify = async |number: usize| {
        let (authority, roots) = steps[number];
        let number = number as u64;
        for (mesh, name) in [(&pair.called, "web"), (&pair.calling, "api")] {
            let identity = authority.identity(number, name, roots);
            mesh.data.identify(identity).await;
        }
    };
    identify(0).await;
    pair.calling.install(&pair.service).await;
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let callers = join_all((0..8).map(|number| {
        let (pair, is_over, asked) = (&pair, &is_over, &asked);
        async move {
            let mut clients = Client::both(pair.calling.outbound).await;
            while !is_over.load(Ordering::SeqCst) {
                let answer = clients[number % 2].post("/echo", SECRET).await;
                assert_eq!((answer.status.as_u16(), &*answer.text), (200, SECRET));
                asked.fetch_add(1, Ordering::SeqCst);
            }
        }
    }));
    let progress = async || {
        let before = asked.load(Ordering::SeqCst);
        while asked.load(Ordering::SeqCst) < before + 100 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let renewals = async {
        progress().await;
        let mut connections = vec![handshakes(&pair.calling, "outbound", "success")];
        for number in 1..steps.len() {
            identify(number).await;
            progress().await;
            connections.push(handshakes(&pair.calling, "outbound", "success"));
        }
        is_over.store(true, Ordering::SeqCst);
        connections
    };
    let (_, connections) = tokio::join!(callers, renewals);
    let asked = asked.load(Ordering::SeqCst) as u64;
    assert_eq!(counts(&pair.calling.arm("v1").requests), [asked, 0, 0, 0]);
    println!("{asked} requests, connections so far: {connections:?}");
    // A renewal under the same roots keeps connections, a change of roots makes new ones.
    assert!(connections[2] > connections[1] && connections[4] > connections[3]);
    pair.assert_secret();
}

/// The pool of an endpoint outlives a certificate: its next connection shows the new one.
#[tokio::test]
async fn a_connection_that_is_made_after_a_renewal_shows_the_new_certificate() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, Chosen::default()).await;
    let root = Authority::new("root");
    let called = root.identity(1, "web", &[&root]);
    pair.called.data.identify(called).await;
    // Nobody believes the first one any more.
    let id = authority::id("api");
    let (leaf, key) = root.leaf(|params| {
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let old = Generation::new(1, &id, vec![leaf], key, vec![root.root()]).unwrap();
    pair.calling.data.identify(old.into()).await;
    pair.calling.install(&pair.service).await;
    for mut client in Client::both(pair.calling.outbound).await {
        let status = client.post("/echo", SECRET).await.status;
        assert!(status.is_server_error(), "{status}");
    }
    let renewed = root.identity(2, "api", &[&root]);
    pair.calling.data.identify(renewed).await;
    for mut client in Client::both(pair.calling.outbound).await {
        assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    }
    assert_eq!(app.requests(), 2);
}
