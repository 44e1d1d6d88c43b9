//! What becomes of the long streams that are open to a canary when its weight goes to 0. How long they have, and how fast they end, the crate's own tests say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aviary_proxy::control::Install;
use aviary_proxy::limits::Limits;
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use traffic_core::config::{Protocol, Revocation, Split};
use traffic_core::split::sticky::Key;
use traffic_core::withdrawal::Grace;

use crate::client::{Client, eventually, upgraded};
use crate::control_plane::wall;
use crate::mesh::{Given, Mesh, Service, counts};
use crate::server::{Server, accepting, opaque, raw};
use crate::streams::{caller, endpoint};

const PATIENCE: Duration = Duration::from_secs(10);

/// Hardly any time.
pub(crate) fn quick() -> Limits {
    let moment = Duration::from_millis(20);
    Limits {
        grace: Grace {
            least: moment,
            spread: moment,
        },
        ..Limits::default()
    }
}

async fn mesh(service: &Service) -> Mesh {
    let mesh = Mesh::start(Given {
        limits: quick(),
        ..Given::default()
    });
    mesh.install(service).await;
    mesh
}

/// How many streams to `revision` were ended.
fn ended(mesh: &Mesh, revision: &str) -> u64 {
    mesh.arm(revision).ended.load(Ordering::Relaxed)
}

/// A server of gRPC that says its name on each stream and then whatever it hears. To `/silent` it says nothing, `/held` it answers when it is told to, and
/// v2 refuses `/refused`.
pub(crate) struct Grpc {
    pub(crate) address: SocketAddr,
    /// Streams that were reset.
    resets: mpsc::UnboundedReceiver<Reason>,
    answer: watch::Sender<bool>,
}

impl Grpc {
    pub(crate) async fn start(name: &'static str) -> Grpc {
        let (tell, resets) = mpsc::unbounded_channel();
        let (answer, told) = watch::channel(false);
        let address = endpoint(move |request, mut respond| {
            let (tell, mut told) = (tell.clone(), told.clone());
            async move {
                match request.uri().path() {
                    "/silent" => {
                        let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                        let _ = tell.send(reset.unwrap());
                        return;
                    }
                    "/held" => drop(told.wait_for(|told| *told).await),
                    "/refused" if name == "v2" => {
                        return respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    _ => {}
                }
                let head = Response::builder().header("content-type", "application/grpc");
                let head = head.body(()).unwrap();
                let mut to_caller = respond.send_response(head, false).unwrap();
                to_caller.send_data(name.into(), false).unwrap();
                let mut from_caller = request.into_body();
                let echo = echo(&mut from_caller, &mut to_caller);
                if let Err(reason) = echo.await {
                    let _ = tell.send(reason);
                }
            }
        })
        .await;
        Grpc {
            address,
            resets,
            answer,
        }
    }
}

async fn echo(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<(), Reason> {
    while let Some(data) = from.data().await {
        let data = data.map_err(|error| error.reason().unwrap_or(Reason::NO_ERROR))?;
        let _ = from.flow_control().release_capacity(data.len());
        to.send_data(data, false).unwrap();
    }
    let status = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    to.send_trailers(status).unwrap();
    Ok(())
}

/// A stream that an application has opened.
pub(crate) struct Opened {
    name: Bytes,
    sender: SendStream<Bytes>,
    body: RecvStream,
}

fn grpc(path: &str) -> Request<()> {
    let request = Request::post(format!("http://web{path}"));
    let request = request.header("content-type", "application/grpc");
    request.header("x-user-id", "somebody").body(()).unwrap()
}

/// Opens one by `sender`, which says who has it.
pub(crate) async fn open(sender: &mut h2::client::SendRequest<Bytes>) -> Opened {
    open_at(sender, "/chat").await
}

async fn open_at(sender: &mut h2::client::SendRequest<Bytes>, path: &str) -> Opened {
    let (answer, sender) = sender.send_request(grpc(path), false).unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    let mut body = answer.into_body();
    let name = timeout(PATIENCE, body.data()).await.unwrap();
    let name = name.unwrap().unwrap();
    Opened { name, sender, body }
}

impl Opened {
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// What is said comes back.
    pub(crate) async fn goes_on(&mut self) {
        self.sender.send_data("still here".into(), false).unwrap();
        let echo = timeout(PATIENCE, self.body.data()).await.unwrap();
        assert_eq!(echo.unwrap().unwrap(), "still here");
    }

    /// It ends, with this status of gRPC.
    pub(crate) async fn ends_with(&mut self, status: &str) {
        let rest = timeout(PATIENCE, self.body.data()).await.expect("an end");
        assert!(rest.is_none(), "{rest:?}");
        let trailers = timeout(PATIENCE, self.body.trailers()).await.unwrap();
        let trailers = trailers.unwrap().expect("trailers");
        assert_eq!(trailers["grpc-status"], status);
    }
}

#[tokio::test]
async fn a_raise_moves_nobody_and_a_rollback_ends_the_canary_s_streams_as_unavailable() {
    let (v1, mut v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let service = Service::new(v1.address, v2.address, 0);
    let mesh = mesh(&service).await;
    let mut sender = caller(&mesh).await;
    let mut stable = open(&mut sender).await;
    assert_eq!(stable.name(), b"v1");
    mesh.install(&service.at(100)).await;
    let mut canary = open(&mut sender).await;
    assert_eq!(canary.name(), b"v2");
    stable.goes_on().await;
    canary.goes_on().await;
    mesh.install(&service.at(0)).await;
    canary.ends_with("14").await;
    let reset = timeout(PATIENCE, v2.resets.recv()).await.unwrap();
    assert_eq!(reset, Some(Reason::CANCEL), "nobody works for it any more");
    stable.goes_on().await;
    // On the same connection, as a client does when it hears that.
    assert_eq!(open(&mut sender).await.name(), b"v1");
    assert_eq!((ended(&mesh, "v2"), ended(&mesh, "v1")), (1, 0));
    // It says nothing about the revision.
    assert_eq!(counts(&mesh.arm("v2").requests), [0, 0, 1, 0]);
}

#[tokio::test]
async fn a_stream_without_an_answer_is_ended_and_a_call_that_waits_for_its_own_is_not() {
    let (v1, mut v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let service = Service::new(v1.address, v2.address, 100);
    let mesh = mesh(&service).await;
    let mut sender = caller(&mesh).await;
    let (silent, _upload) = sender.send_request(grpc("/silent"), false).unwrap();
    let (held, _) = sender.send_request(grpc("/held"), true).unwrap();
    // They have arrived, as what was sent after them has.
    let mut last = open(&mut sender).await;
    assert_eq!(last.name(), b"v2");
    mesh.install(&service.at(0)).await;
    // The oldest are ended first.
    last.ends_with("14").await;
    let answer = timeout(PATIENCE, silent).await.expect("an end").unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "14");
    for _ in ["silent", "last"] {
        let reset = timeout(PATIENCE, v2.resets.recv()).await.unwrap();
        assert_eq!(reset, Some(Reason::CANCEL));
    }
    // That it was ended says nothing about the revision.
    assert_eq!(counts(&mesh.arm("v2").first_attempts), [0, 0, 2, 0]);
    v2.answer.send_replace(true);
    let answer = timeout(PATIENCE, held).await.unwrap().unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "v2");
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn a_stream_that_the_canary_has_refused_is_stable_s() {
    let (v1, v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let service = Service::new(v1.address, v2.address, 100);
    let mesh = mesh(&service).await;
    let mut sender = caller(&mesh).await;
    let mut refused = open_at(&mut sender, "/refused").await;
    let mut canary = open(&mut sender).await;
    assert_eq!((refused.name(), canary.name()), (&b"v1"[..], &b"v2"[..]));
    mesh.install(&service.at(0)).await;
    // The oldest are ended first.
    canary.ends_with("14").await;
    refused.goes_on().await;
    assert_eq!(ended(&mesh, "v2"), 1);
}

#[tokio::test]
async fn it_is_ended_whatever_takes_the_weight_away() {
    let (v1, v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let service = Service::new(v1.address, v2.address, 100);
    let revoked = Service {
        revoked: vec![Revocation {
            rollout: "shop/web".into(),
            revision: "v2".into(),
            run: 1,
        }],
        ..service.clone()
    };
    for change in ["no canary", "another canary", "revoked"] {
        let mesh = mesh(&service).await;
        let mut stream = open(&mut caller(&mesh).await).await;
        assert_eq!(stream.name(), b"v2");
        match change {
            "revoked" => mesh.install(&revoked).await,
            _ => {
                let changed = |split: &mut Split| match change {
                    "no canary" => split.canary = None,
                    _ => {
                        let canary = split.canary.as_mut().unwrap();
                        canary.arm.revision = "v3".to_owned();
                        canary.arm.cluster = "shop/web/80/v3".to_owned();
                    }
                };
                with_split(&mesh, &service, changed).await;
            }
        }
        stream.ends_with("14").await;
    }
}

/// Installs the Service with another split.
async fn with_split(mesh: &Mesh, service: &Service, change: impl FnOnce(&mut Split)) {
    let mut snapshot = service.snapshot();
    let route = snapshot.routes.values_mut().flatten().next().unwrap();
    change(&mut Arc::make_mut(route).split);
    mesh.data.install(Arc::new(snapshot)).await;
}

#[tokio::test]
async fn a_promotion_ends_neither_s_streams() {
    let (v1, v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let service = Service::new(v1.address, v2.address, 0);
    let mesh = mesh(&service).await;
    let mut sender = caller(&mesh).await;
    let mut old = open(&mut sender).await;
    mesh.install(&service.at(100)).await;
    let mut new = open(&mut sender).await;
    assert_eq!((old.name(), new.name()), (&b"v1"[..], &b"v2"[..]));
    with_split(&mesh, &service, |split| {
        split.stable = split.canary.take().unwrap().arm;
    })
    .await;
    // What is ended would be by now: the same happens to another release.
    let (next, next_canary) = (Grpc::start("v2").await, Grpc::start("v3").await);
    let release = Service::new(next.address, next_canary.address, 100);
    let other = self::mesh(&release).await;
    let mut gone = open(&mut caller(&other).await).await;
    other.install(&release.at(0)).await;
    gone.ends_with("14").await;
    old.goes_on().await;
    new.goes_on().await;
    assert_eq!((ended(&mesh, "v1"), ended(&mesh, "v2")), (0, 0));
}

#[tokio::test]
async fn a_user_who_stays_with_the_canary_is_given_back_too() {
    let (v1, v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let service = Service {
        sticky: Key::header("X-User-Id").ok(),
        ..Service::new(v1.address, v2.address, 100)
    };
    let mesh = mesh(&service).await;
    let mut sender = caller(&mesh).await;
    let mut stream = open(&mut sender).await;
    assert_eq!(stream.name(), b"v2");
    mesh.install(&service.at(0)).await;
    stream.ends_with("14").await;
    assert_eq!(open(&mut sender).await.name(), b"v1");
}

/// Server-sent events in HTTP/1.1, and in HTTP/2.
async fn events() -> [SocketAddr; 2] {
    let one = raw(|mut stream, _| async move {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked";
        let answer = format!("{head}\r\n\r\n9\r\ndata: 1\n\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let two = endpoint(|_request, mut respond| async move {
        let head = Response::builder().header("content-type", "text/event-stream");
        let head = head.body(()).unwrap();
        let mut sender = respond.send_response(head, false).unwrap();
        sender.send_data("data: 1\n\n".into(), false).unwrap();
        let _ = std::future::poll_fn(|cx| sender.poll_reset(cx)).await;
    });
    [one.await, two.await]
}

#[tokio::test]
async fn events_end_and_any_other_answer_goes_on_to_its_own_end() {
    let [one, two] = events().await;
    let service = Service::new(one, one, 100);
    let mesh = mesh(&service).await;
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    let request = b"GET /events HTTP/1.1\r\nHost: web\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: 1\n\n\r\n") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
    }
    mesh.install(&service.at(0)).await;
    ends(&mut stream).await;

    let server = Server::start("v2").await;
    let both = Service {
        canary: vec![two],
        ..Service::new(server.address, two, 100)
    };
    let mesh = self::mesh(&both).await;
    let request = Request::get("http://web/events").body(()).unwrap();
    let (answer, _) = caller(&mesh).await.send_request(request, true).unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "data: 1\n\n");
    // An answer of the canary's that takes longer than the stream.
    mesh.install(&Service::new(two, server.address, 100)).await;
    let mut client = Client::http1(mesh.outbound).await;
    let held = tokio::spawn(async move { client.get("/held").await.text });
    eventually("it has arrived", || server.requests() == 1).await;
    mesh.install(&both.at(0)).await;
    let rest = async {
        while let Some(data) = body.data().await {
            assert!(data.expect("an end that is no reset").is_empty());
        }
    };
    timeout(PATIENCE, rest).await.expect("an end");
    server.state.held.add_permits(1);
    assert_eq!(held.await.unwrap(), "v2");
    assert_eq!(ended(&mesh, "v2"), 1);
}

/// What an application does with a connection that has become a WebSocket.
pub(crate) async fn websocket<F>(
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let serve = Arc::new(serve);
    raw(move |mut stream, _| {
        let serve = serve.clone();
        async move {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
            let answer = format!("{head}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            serve(stream).await;
        }
    })
    .await
}

pub(crate) const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];
/// Close 1001 of a client: masked, by zeros.
pub(crate) const GOODBYE: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

pub(crate) async fn reads(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    let read = timeout(PATIENCE, stream.read_exact(&mut bytes)).await;
    read.expect("bytes").expect("no end before them");
    assert_eq!(bytes, expected);
}

pub(crate) async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    end.expect("an end").expect("an end that is no reset");
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_websocket_hears_1001_between_two_frames_and_its_own_goodbye_arrives() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (go_on, may_go_on) = watch::channel(false);
    let address = websocket(move |mut stream| {
        let (tell, mut may_go_on) = (tell.clone(), may_go_on.clone());
        async move {
            // A frame of ten bytes, in two parts, and another one.
            stream.write_all(b"\x82\x0abegi").await.unwrap();
            may_go_on.wait_for(|may| *may).await.unwrap();
            stream.write_all(b"n..end\x82\x02xx").await.unwrap();
            let mut heard = [0; 64];
            let mut all = Vec::new();
            while all.len() < GOODBYE.len() {
                match stream.read(&mut heard).await.unwrap() {
                    0 => break,
                    read => all.extend_from_slice(&heard[..read]),
                }
            }
            tell.send(all).unwrap();
            // As a server answers it (RFC 6455, 5.5.1).
            stream.write_all(GOING_AWAY).await.unwrap();
        }
    })
    .await;
    let service = Service::new(address, address, 100);
    let mesh = mesh(&service).await;
    let mut stream = upgraded(mesh.outbound).await;
    reads(&mut stream, b"\x82\x0abegi").await;
    mesh.install(&service.at(0)).await;
    eventually("its time is over", || ended(&mesh, "v2") == 1).await;
    go_on.send_replace(true);
    reads(&mut stream, b"n..end").await;
    reads(&mut stream, GOING_AWAY).await;
    stream.write_all(GOODBYE).await.unwrap();
    let heard = timeout(PATIENCE, told.recv()).await.unwrap();
    assert_eq!(heard.as_deref(), Some(GOODBYE));
    ends(&mut stream).await;
}

/// An application that speaks first and tells how its connection ends.
async fn telling(name: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = accepting(move |mut stream| {
        let tell = tell.clone();
        async move {
            stream.write_all(name.as_bytes()).await.unwrap();
            let mut bytes = [0; 64];
            loop {
                match stream.read(&mut bytes).await {
                    Ok(0) => return tell.send("an end").unwrap(),
                    Ok(_) => {}
                    Err(_) => return tell.send("a reset").unwrap(),
                }
            }
        }
    })
    .await;
    (address, told)
}

#[tokio::test]
async fn bytes_that_nobody_reads_end_with_a_fin_on_both_sides() {
    for protocol in [Protocol::Opaque, Protocol::Detect] {
        let (canary, mut told) = telling("v2").await;
        let service = Service {
            protocol,
            ..Service::new(opaque("v1").await, canary, 100)
        };
        let mesh = mesh(&service).await;
        let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
        reads(&mut stream, b"v2").await;
        mesh.install(&service.at(0)).await;
        ends(&mut stream).await;
        let end = timeout(PATIENCE, told.recv()).await.unwrap();
        assert_eq!(end, Some("an end"), "{protocol:?}");
        assert_eq!(ended(&mesh, "v2"), 1);
        let mut again = TcpStream::connect(mesh.outbound).await.unwrap();
        reads(&mut again, b"v1").await;
    }
}

/// What is said after the end is read all the same: left unread it would turn the end into a reset.
#[tokio::test]
async fn an_end_reaches_a_caller_that_is_still_speaking() {
    let (canary, _told) = telling("v2").await;
    let service = Service {
        protocol: Protocol::Opaque,
        ..Service::new(opaque("v1").await, canary, 100)
    };
    let mesh = mesh(&service).await;
    let mut stream = TcpStream::connect(mesh.outbound).await.unwrap();
    reads(&mut stream, b"v2").await;
    mesh.install(&service.at(0)).await;
    eventually("its time is over", || ended(&mesh, "v2") == 1).await;
    for _ in 0..10 {
        stream.write_all(&[0; 10_000]).await.unwrap();
    }
    ends(&mut stream).await;
}

#[tokio::test]
async fn the_control_plane_hears_each_second_what_is_still_open() {
    let (v1, v2) = (Grpc::start("v1").await, Grpc::start("v2").await);
    let service = Service::new(v1.address, v2.address, 100);
    let mesh = Mesh::with(&service).await;
    let mut sender = caller(&mesh).await;
    let streams = [open(&mut sender).await, open(&mut sender).await];
    assert!(streams.iter().all(|stream| stream.name() == b"v2"));
    let open = async || {
        let told = mesh.data.outcomes(wall().as_secs()).await;
        let of_v2 = told.iter().filter(|it| it.cluster == "shop/web/80/v2");
        of_v2.map(|it| it.counts.open).sum::<u64>()
    };
    assert_eq!(open().await, 0, "nothing of it has to end");
    mesh.install(&service.at(0)).await;
    for _ in 0..2 {
        assert_eq!(open().await, 2);
    }
    drop(streams);
    let deadline = Instant::now() + PATIENCE;
    while open().await > 0 {
        assert!(Instant::now() < deadline, "they are never over");
    }
}
