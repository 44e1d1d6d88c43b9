//! Open-loop load: requests become due at a fixed rate, whatever becomes of the ones before, and a latency counts from the moment
//! when the request was due. And a holder of idle connections.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use aviary_bench::{CONNECTION_WINDOW, STREAM_WINDOW, ThisThread, run};
use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, stdin};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::timeout;

const HOST_NAME: &str = "svc.bench";
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Parser)]
struct Options {
    protocol: Protocol,
    port: u16,
    #[arg(long)]
    connections: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    H1,
    H2,
    Grpc,
}

#[derive(Subcommand)]
enum Command {
    /// Send requests at a rate, then say how long they took.
    Rate {
        #[arg(long)]
        rate: u32,
        #[arg(long)]
        seconds: f64,
        /// Where to write one line a request: when it was sent, in nanoseconds of the monotonic clock, and who answered.
        #[arg(long)]
        answers: Option<PathBuf>,
    },
    /// One request on each connection; then hold them until standard input ends.
    Idle,
}

type Body = Full<Bytes>;

enum Connection {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    /// A client sends such a request again by itself.
    #[error("the connection was closing, and the request never left")]
    Unsent,
    #[error("{0}")]
    Other(String),
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Failure {
        match error.is_canceled() {
            true => Failure::Unsent,
            false => Failure::Other(error.to_string()),
        }
    }
}

fn other(error: impl ToString) -> Failure {
    Failure::Other(error.to_string())
}

impl Connection {
    async fn open(protocol: Protocol, port: u16) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .map_err(other)?;
        stream.set_nodelay(true).map_err(other)?;
        let stream = TokioIo::new(stream);
        match protocol {
            Protocol::H1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                spawn_local(connection);
                Ok(Connection::H1(sender))
            }
            Protocol::H2 | Protocol::Grpc => {
                let (sender, connection) = http2::Builder::new(ThisThread)
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .handshake(stream)
                    .await?;
                spawn_local(connection);
                Ok(Connection::H2(sender))
            }
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Connection::H1(sender) => !sender.is_closed(),
            Connection::H2(sender) => !sender.is_closed(),
        }
    }

    /// The name of the backend that answered.
    async fn send(&mut self, protocol: Protocol) -> Result<String, Failure> {
        let request = request(protocol);
        let response = match self {
            Connection::H1(sender) => {
                sender.ready().await.map_err(|_| Failure::Unsent)?;
                sender.send_request(request).await?
            }
            Connection::H2(sender) => {
                sender.ready().await.map_err(|_| Failure::Unsent)?;
                sender.send_request(request).await?
            }
        };
        let (head, mut body) = response.into_parts();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            if let Ok(last) = frame.map_err(other)?.into_trailers() {
                trailers = last;
            }
        }
        let grpc = trailers
            .get("grpc-status")
            .or(head.headers.get("grpc-status"));
        match head.headers.get("x-backend") {
            _ if !head.status.is_success() => Err(other(head.status)),
            _ if protocol == Protocol::Grpc && grpc.is_none_or(|status| status != "0") => {
                Err(other(format!("grpc-status {grpc:?}")))
            }
            None => Err(other("no x-backend")),
            Some(name) => Ok(String::from_utf8_lossy(name.as_bytes()).into_owned()),
        }
    }
}

fn request(protocol: Protocol) -> Request<Body> {
    let (request, body) = match protocol {
        Protocol::H1 => (Request::get("/1024").header(HOST, HOST_NAME), Bytes::new()),
        Protocol::H2 => (
            Request::get(format!("http://{HOST_NAME}/1024")),
            Bytes::new(),
        ),
        Protocol::Grpc => (
            Request::post(format!("http://{HOST_NAME}/bench.Echo/Unary"))
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers"),
            Bytes::from_static(&[0, 0, 0, 0, 8, 10, 6, b'a', b'v', b'i', b'a', b'r', b'y']),
        ),
    };
    request.body(Full::new(body)).expect("a good request")
}

/// Connections that requests share: one at a time on HTTP/1.1, in turn on HTTP/2.
struct Pool {
    protocol: Protocol,
    port: u16,
    free: RefCell<Vec<Option<Connection>>>,
    turns: Semaphore,
}

impl Pool {
    async fn open(protocol: Protocol, port: u16, connections: usize) -> Result<Pool, Failure> {
        let mut free = Vec::new();
        for _ in 0..connections {
            free.push(Some(Connection::open(protocol, port).await?));
        }
        Ok(Pool {
            protocol,
            port,
            free: RefCell::new(free),
            turns: Semaphore::new(connections),
        })
    }

    async fn send(&self) -> Result<String, Failure> {
        match self.try_send().await {
            Err(Failure::Unsent) => self.try_send().await,
            answered => answered,
        }
    }

    async fn try_send(&self) -> Result<String, Failure> {
        let turn = self.turns.acquire().await.map_err(other)?;
        let free = self.free.borrow_mut().pop().flatten();
        let mut connection = match free.filter(Connection::is_open) {
            Some(connection) => connection,
            None => {
                let opened = Connection::open(self.protocol, self.port).await;
                if opened.is_err() {
                    self.free.borrow_mut().push(None);
                }
                opened?
            }
        };
        // An HTTP/2 connection is free again as soon as the request is on its way: behind all others.
        if let Connection::H2(sender) = &connection {
            let again = Connection::H2(sender.clone());
            self.free.borrow_mut().insert(0, Some(again));
            drop(turn);
            return connection.send(self.protocol).await;
        }
        let answered = connection.send(self.protocol).await;
        let kept = answered.is_ok().then_some(connection);
        self.free.borrow_mut().push(kept);
        answered
    }
}

/// tokio's own clock ticks in milliseconds.
struct Clock(AsyncFd<OwnedFd>);

impl Clock {
    fn new() -> anyhow::Result<Clock> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        // SAFETY: the timer is owned, and so open for as long as it is registered.
        #[expect(unsafe_code)]
        let timer = unsafe { AsyncFd::register(timer) }?;
        Ok(Clock(timer))
    }

    async fn sleep_until(&self, at: Instant) -> anyhow::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(left)?,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.0.readable().await?;
        ready.clear_ready();
        Ok(())
    }
}

struct Sent {
    due: Instant,
    sent: Instant,
    answered: Instant,
    result: Result<String, Failure>,
}

async fn load(pool: Pool, rate: u32, seconds: f64) -> anyhow::Result<Vec<Sent>> {
    let (pool, clock) = (Rc::new(pool), Clock::new()?);
    let (start, mut requests, mut done) = (Instant::now(), JoinSet::new(), Vec::new());
    for number in 0..(f64::from(rate) * seconds) as u32 {
        let due = start + Duration::from_secs(1) * number / rate;
        clock.sleep_until(due).await?;
        let pool = pool.clone();
        requests.spawn_local(async move {
            let sent = Instant::now();
            let result = timeout(PATIENCE, pool.send()).await;
            Sent {
                due,
                sent,
                answered: Instant::now(),
                result: result.unwrap_or_else(|_| Err(other("no answer in time"))),
            }
        });
        while let Some(answered) = requests.try_join_next() {
            done.push(answered?);
        }
        tokio::task::yield_now().await;
    }
    while let Some(answered) = requests.join_next().await {
        done.push(answered?);
    }
    Ok(done)
}

fn report(requests: &[Sent]) -> serde_json::Value {
    let mut latencies: Vec<u128> = Vec::new();
    let (mut answers, mut failures) = (BTreeMap::new(), BTreeMap::new());
    for request in requests {
        match &request.result {
            Ok(backend) => {
                latencies.push((request.answered - request.due).as_nanos());
                *answers.entry(backend).or_insert(0) += 1;
            }
            Err(failure) => *failures.entry(failure.to_string()).or_insert(0) += 1,
        }
    }
    latencies.sort_unstable();
    let microseconds = |hundredths: usize| {
        let at = (latencies.len() * hundredths / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).map(|&latency| latency as f64 / 1e3)
    };
    json!({
        "requests": requests.len(), "answers": answers, "failures": failures,
        "p50_us": microseconds(50), "p99_us": microseconds(99),
    })
}

fn write_answers(requests: &[Sent], path: &PathBuf) -> anyhow::Result<()> {
    let (now, clock) = (Instant::now(), clock_gettime(ClockId::Monotonic));
    let now_ns = clock.tv_sec as u128 * 1_000_000_000 + clock.tv_nsec as u128;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for request in requests {
        if let Ok(backend) = &request.result {
            writeln!(
                file,
                "{} {backend}",
                now_ns - (now - request.sent).as_nanos()
            )?;
        }
    }
    Ok(file.flush()?)
}

/// Every connection has carried one request, so that all of them are HTTP in the proxy's eyes.
async fn idle(protocol: Protocol, port: u16, connections: usize) -> Result<usize, Failure> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(protocol, port).await?;
        connection.send(protocol).await?;
        held.push(connection);
    }
    println!("held");
    let _ = stdin().read(&mut [0]).await;
    Ok(held
        .iter()
        .filter(|connection| connection.is_open())
        .count())
}

async fn work(options: Options) -> anyhow::Result<()> {
    let Options {
        protocol,
        port,
        connections,
        command,
    } = options;
    match command {
        Command::Idle => {
            let open = idle(protocol, port, connections).await?;
            println!("{open}");
        }
        Command::Rate {
            rate,
            seconds,
            answers,
        } => {
            let pool = Pool::open(protocol, port, connections).await;
            let pool = pool.context("cannot connect")?;
            let requests = load(pool, rate, seconds).await?;
            println!("{}", report(&requests));
            if let Some(path) = answers {
                write_answers(&requests, &path)?;
            }
        }
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    run(work(Options::parse()))?
}
