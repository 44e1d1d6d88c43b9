//! Two sidecars and mutual TLS between them, with what lies between them written down.

mod authority;
mod detection;
mod ends;
mod names;
mod peers;
mod policies;
mod rates;
mod renewal;
mod sent_once;
mod strict;
mod tap;
mod told;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aviary_proxy::control::Identify;
use aviary_proxy::limits::Limits;
use aviary_proxy::telemetry::Wanted;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use traffic_core::config::{Expected, Protocol};
use traffic_core::rate::Rates;

use crate::client::{Client, eventually, upgraded};
use crate::control_plane::{ControlPlane, Loads};
use crate::mesh::{Given, Mesh, Service, counts};
use crate::server::{Server, opaque};
use authority::Authority;
use tap::{Manner, Tap};

const PATIENCE: Duration = Duration::from_secs(10);
const SECRET: &str = "nobody may read this";

/// The sidecar of `api` that calls, the one of `web` that is called, and what lies between them.
pub(crate) struct Pair {
    pub(crate) calling: Mesh,
    called: Mesh,
    pub(crate) tap: Tap,
    service: Service,
}

/// What a test may choose.
pub(crate) struct Chosen {
    /// As [`Service::protocol`].
    protocol: Protocol,
    expects: Option<Expected>,
    manner: Manner,
    workers: usize,
    /// Of the calling sidecar.
    limits: Limits,
    telemetry: Wanted,
    /// Of the called sidecar.
    rates: Rates,
}

impl Default for Chosen {
    fn default() -> Chosen {
        Chosen {
            protocol: Protocol::Http,
            expects: authority::accepting("web"),
            manner: Manner::default(),
            workers: 1,
            limits: Limits::default(),
            telemetry: Wanted::default(),
            rates: Rates::default(),
        }
    }
}

impl Chosen {
    pub(crate) fn speaking(protocol: Protocol) -> Chosen {
        Chosen {
            protocol,
            ..Chosen::default()
        }
    }
}

impl Pair {
    /// Before the application at `app`. Without identities.
    async fn before(app: SocketAddr, chosen: Chosen) -> Pair {
        let called = Mesh::start(Given {
            inbound: app,
            workers: chosen.workers,
            limits: Limits {
                rates: chosen.rates,
                ..Limits::default()
            },
            telemetry: chosen.telemetry,
            ..Given::default()
        });
        let tap = Tap::before(called.inbound, chosen.manner).await;
        let calling = Mesh::start(Given {
            workers: chosen.workers,
            limits: chosen.limits,
            telemetry: chosen.telemetry,
            ..Given::default()
        });
        let service = Service {
            protocol: chosen.protocol,
            identity: chosen.expects,
            ..Service::new(tap.address, tap.address, 0)
        };
        Pair {
            calling,
            called,
            tap,
            service,
        }
    }

    /// Both have identities of one authority.
    pub(crate) async fn of_one_mesh(app: SocketAddr, chosen: Chosen) -> Pair {
        let pair = Pair::before(app, chosen).await;
        let root = Authority::new("root");
        let called = root.identity(1, "web", &[&root]);
        pair.called.data.identify(called).await;
        let calling = root.identity(1, "api", &[&root]);
        pair.calling.data.identify(calling).await;
        pair.calling.install(&pair.service).await;
        pair
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.calling.outbound).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A connection that has left HTTP.
    async fn upgraded(&self) -> TcpStream {
        upgraded(self.calling.outbound).await
    }

    fn assert_secret(&self) {
        assert!(self.tap.bytes() > 0, "nothing passed at all");
        for text in [SECRET, "HTTP/", "x-aviary"] {
            assert!(!self.tap.has_seen(text), "{text} could be read");
        }
    }
}

/// How many handshakes there were, by this side and result.
fn handshakes(mesh: &Mesh, side: &str, result: &str) -> u64 {
    let text = mesh.metrics.render().unwrap();
    let series = format!("aviary_tls_handshakes_total{{side=\"{side}\",result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.expect("every result has its series").parse().unwrap()
}

/// What is said, as `docs/security.md` has it, where the application is at `10.1.0.7:8080`.
fn assert_documented(said: &str, app: SocketAddr) {
    let documented = include_str!("../../../docs/security.md");
    let said = said.replace(&app.to_string(), "10.1.0.7:8080");
    let said = said.replace(&format!("port {}", app.port()), "port 8080");
    assert!(
        documented.contains(&said),
        "not in docs/security.md: {said}"
    );
}

#[tokio::test]
async fn both_versions_of_http_and_grpc_cross_and_nobody_can_read_along() {
    let app = Server::start("web").await;
    for is_on in [true, false] {
        let expects = is_on.then(|| authority::accepting("web").unwrap());
        let chosen = Chosen {
            expects,
            ..Chosen::default()
        };
        let pair = Pair::of_one_mesh(app.address, chosen).await;
        for mut client in Client::both(pair.calling.outbound).await {
            assert_eq!(client.get("/").await.text, "web");
            assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
            let large = "x".repeat(300_000);
            assert_eq!(client.post("/echo", large.clone()).await.text, large);
        }
        let mut client = Client::http2(pair.calling.outbound).await;
        let answer = client.grpc(7).await;
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "7");
        assert_eq!(answer.text, "message");
        assert_eq!(counts(&pair.calling.arm("v1").requests), [7, 0, 0, 0]);
        if is_on {
            pair.assert_secret();
            let connections = u64::try_from(pair.tap.connections()).unwrap();
            for (mesh, side) in [(&pair.calling, "outbound"), (&pair.called, "inbound")] {
                assert_eq!(handshakes(mesh, side, "success"), connections);
                assert_eq!(handshakes(mesh, side, "failure"), 0);
            }
            assert!(connections < 5, "connections are kept: {connections}");
        } else {
            assert!(pair.tap.has_seen(SECRET), "this is what can be seen");
            assert_eq!(handshakes(&pair.calling, "outbound", "success"), 0);
        }
    }
}

#[tokio::test]
async fn opaque_bytes_cross_whoever_speaks_first() {
    let app = opaque("hello from web\n").await;
    for protocol in [Protocol::Opaque, Protocol::Detect] {
        let chosen = Chosen {
            protocol,
            ..Chosen::default()
        };
        let pair = Pair::of_one_mesh(app, chosen).await;
        // At once, and after the server has spoken.
        for is_late in [false, true] {
            let mut stream = pair.connect().await;
            let mut greeting = [0; 15];
            if is_late {
                let read = stream.read_exact(&mut greeting);
                timeout(PATIENCE, read).await.unwrap().unwrap();
            }
            stream.write_all(SECRET.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = String::new();
            let read = stream.read_to_string(&mut rest);
            timeout(PATIENCE, read).await.unwrap().unwrap();
            assert!(rest.ends_with(SECRET), "{rest}");
        }
        pair.assert_secret();
        assert_eq!(counts(&pair.calling.arm("v1").connections), [2, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_caller_that_was_silent_at_first_may_still_speak_http() {
    let app = Server::start("web").await;
    let pair = Pair::of_one_mesh(app.address, Chosen::speaking(Protocol::Detect)).await;
    for mut client in Client::both(pair.calling.outbound).await {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    }
    pair.assert_secret();
}

#[tokio::test]
async fn an_upgraded_connection_stays_secret() {
    let app = Server::start("web").await;
    let pair = Pair::of_one_mesh(app.address, Chosen::default()).await;
    let mut stream = pair.upgraded().await;
    stream.write_all(SECRET.as_bytes()).await.unwrap();
    let mut echo = vec![0; SECRET.len()];
    let read = stream.read_exact(&mut echo);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(echo, SECRET.as_bytes());
    pair.assert_secret();
}

#[tokio::test]
async fn without_an_identity_of_its_own_a_caller_speaks_as_ever() {
    let app = Server::start("web").await;
    let pair = Pair::before(app.address, Chosen::default()).await;
    pair.calling.install(&pair.service).await;
    let mut client = Client::http1(pair.calling.outbound).await;
    assert_eq!(client.post("/echo", SECRET).await.text, SECRET);
    assert!(pair.tap.has_seen(SECRET));
    // And whoever has one accepts such a caller.
    let root = Authority::new("root");
    let identity = root.identity(1, "web", &[&root]);
    pair.called.data.identify(identity).await;
    for mut client in Client::both(pair.calling.outbound).await {
        assert_eq!(client.get("/").await.text, "web");
    }
    eventually("all is counted", || {
        counts(&pair.calling.arm("v1").requests) == [3, 0, 0, 0]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_of_every_stream_is_told_that_tls_is_accepted_and_not_before_it_is() {
    let mut control = ControlPlane::start(Loads::Unserved);
    let mut mesh = Mesh::start(Given {
        workers: 2,
        ..Given::default()
    });
    let address = crate::server::nobody().await;
    let service = Service::new(address, address, 0);
    control.rules(&mut mesh, &service).await;
    let root = Authority::new("root");
    let identify = |number| mesh.data.identify(root.identity(number, "web", &[&root]));
    assert_eq!(control.accepting_streams(), 0);
    identify(1).await;
    eventually("it is told", || control.accepting_streams() == 1).await;
    // A control plane that does not know what this means takes no harm, nor does the proxy.
    control.shifts(&service, &service.at(10).route()).await;
    identify(2).await;
    control.hangs_up();
    eventually("the next one is told", || control.accepting_streams() == 2).await;
    control.shifts(&service, &service.at(20).route()).await;
}

/// The whole of it over the wire: a certificate is asked for, TLS is accepted and that is told, callers hear of it, and from then on nobody can read along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_get_certificates_and_turn_to_tls_when_the_called_one_accepts_it() {
    let app = Server::start("web").await;
    let mut pair = Pair::before(app.address, Chosen::default()).await;
    let root = Arc::new(Authority::new("root"));
    let [mut of_called, mut of_calling] = [Loads::Unserved; 2].map(ControlPlane::start);
    of_calling.signs(root.signer("api"));
    pair.service.identity.as_mut().unwrap().accepts = false;
    of_calling.rules(&mut pair.calling, &pair.service).await;
    let outbound = pair.calling.outbound;
    let post = async || Client::http1(outbound).await.post("/echo", SECRET).await;
    assert_eq!(post().await.text, SECRET);
    assert!(pair.tap.has_seen(SECRET), "nobody accepts TLS yet");
    eventually("the caller accepts it itself", || {
        of_calling.accepting_streams() == 1
    })
    .await;
    pair.tap.forget();
    of_called.signs(root.signer("web"));
    let nobody = Service::new(app.address, app.address, 0);
    of_called.rules(&mut pair.called, &nobody).await;
    eventually("it is accepted", || of_called.accepting_streams() == 1).await;
    pair.service.identity.as_mut().unwrap().accepts = true;
    let service = pair.service.at(10);
    of_calling.shifts(&service, &service.route()).await;
    for _ in 0..3 {
        assert_eq!(post().await.text, SECRET);
    }
    pair.assert_secret();
    assert!(handshakes(&pair.called, "inbound", "success") > 0);
    assert_eq!(handshakes(&pair.called, "inbound", "failure"), 0);
}
