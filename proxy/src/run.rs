//! The whole program, put together: bind -> start workers -> accept -> serve until asked to stop -> drain.
//!
//! ```text
//!   control thread (the caller's)               worker threads
//!   ads::run, admin, signals, acceptor (N > 1)  connections, pools, endpoint load
//!        | Install(Table), Serve(connection) -->|
//!        |<------------------------- Demand ----|
//!        | Outcomes(now) ---------------------->|
//! ```

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use futures::future::select_all;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use traffic_core::config::Inbound;
use traffic_core::inbound::Probe;

use crate::admin::https::HttpsProbes;
use crate::admin::probe::TcpProbes;
use crate::admin::{self, Admin};
use crate::clock::WallClock;
use crate::command::Command;
use crate::control::{DEMANDS, Demand};
use crate::data::Data;
use crate::drain::{Phase, Phases};
use crate::limits::Limits;
use crate::link::LinkState;
use crate::metrics::{Metrics, Workload};
use crate::net::listen::{self, BindError};
use crate::net::origin::{OriginalDestination, OwnListeners, Side};
use crate::net::untaken;
use crate::plaintext::PlainCallers;
use crate::state::{Common, rate};
use crate::telemetry::log::Writer;
use crate::telemetry::{self, Telemetry};
use crate::worker;

/// What a proxy needs to know to start.
pub struct Options {
    pub outbound: Vec<SocketAddr>,
    pub inbound: Vec<SocketAddr>,
    pub admin: Vec<SocketAddr>,
    pub workers: usize,
    pub limits: Limits,
    pub drain_delay: Duration,
    pub drain_deadline: Duration,
    pub origin: Arc<dyn OriginalDestination>,
    pub workload: Workload,
    /// Ports of the application that anybody may have tried.
    pub tcp_probes: TcpProbes,
    pub https_probes: HttpsProbes,
    /// Those that are asked under another name than the pod's address.
    pub probes_elsewhere: Vec<Probe>,
    /// What to do with what comes in, until the control plane has said it.
    pub until_told: Inbound,
    /// What to say of single requests, and where lines of the access log go.
    pub telemetry: telemetry::Wanted,
    pub output: telemetry::Output,
}

/// The addresses to listen on for these ports: outbound on loopback only, or any pod that reaches it could borrow this pod's way out.
pub fn addresses(outbound: u16, inbound: u16, admin: u16) -> [Vec<SocketAddr>; 3] {
    let mut all = [
        vec![SocketAddr::from((Ipv4Addr::LOCALHOST, outbound))],
        vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, inbound))],
        vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, admin))],
    ];
    if listen::has_ipv6() {
        all[0].push((Ipv6Addr::LOCALHOST, outbound).into());
        all[1].push((Ipv6Addr::UNSPECIFIED, inbound).into());
        all[2].push((Ipv6Addr::UNSPECIFIED, admin).into());
    }
    all
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot start a worker: {0}")]
    Worker(#[source] io::Error),
    #[error("cannot start the access log: {0}")]
    Log(#[source] io::Error),
}

/// A proxy that lost a worker serves only some of its connections, or none; it has to be started anew.
#[derive(Debug, thiserror::Error)]
#[error("a worker ended on its own; what it said is in the log")]
pub struct WorkerDied;

/// A proxy that listens, with its workers running.
pub struct Proxy {
    pub data: Arc<Data>,
    pub metrics: Arc<Metrics>,
    pub outbound: Vec<SocketAddr>,
    pub inbound: Vec<SocketAddr>,
    pub admin: Vec<SocketAddr>,
    demands: Option<mpsc::Receiver<Demand>>,
    listeners: Vec<(StdListener, Side)>,
    admin_listeners: Vec<StdListener>,
    workers: Vec<WorkerThread>,
    link: Arc<LinkState>,
    phase: watch::Sender<Phase>,
    phases: Phases,
    drain_delay: Duration,
    drain_deadline: Duration,
    tcp_probes: TcpProbes,
    https_probes: HttpsProbes,
    /// What writes the access log.
    writer: Option<Writer>,
}

struct WorkerThread {
    commands: mpsc::UnboundedSender<Command>,
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
    /// Resolves when the thread ends, for whatever reason.
    ended: oneshot::Receiver<()>,
}

impl Proxy {
    /// Binds every address, then starts the workers. Nothing is accepted before [`Proxy::serve`].
    pub fn start(options: Options) -> Result<Proxy, StartError> {
        let (outbound, inbound, admin) = (
            bind(&options.outbound)?,
            bind(&options.inbound)?,
            bind(&options.admin)?,
        );
        let own = [&outbound, &inbound, &admin]
            .into_iter()
            .flatten()
            .map(|(_, address)| *address);
        let metrics = Metrics::of(options.workload.clone());
        let (wanted, output) = (options.telemetry, options.output);
        let telemetry = Telemetry::start(wanted, &options.workload, output, &metrics.lines);
        let (telemetry, writer) = telemetry.map_err(StartError::Log)?.unzip();
        let istio = telemetry.as_ref().and_then(|it| it.istio().cloned());
        let metrics = Arc::new(metrics.with_istio(istio));
        let link = Arc::new(LinkState::new());
        let clock = Arc::new(WallClock::new(std::time::Instant::now(), SystemTime::now()));
        let plaintext = Arc::<PlainCallers>::default();
        let (phase, phases) = Phases::new();
        let (demand, demands) = mpsc::channel(DEMANDS);
        let common = Common {
            metrics: metrics.clone(),
            clock: clock.clone(),
            link: link.clone(),
            origin: options.origin,
            own: Arc::new(OwnListeners(own.collect())),
            demands: demand,
            phases: phases.clone(),
            token: format!("{:016x}", fastrand::u64(..)).into(),
            limits: options.limits,
            probes_elsewhere: options.probes_elsewhere.into(),
            until_told: Arc::new(options.until_told),
            limiter: rate::shared(options.limits.rates),
            plaintext: plaintext.clone(),
            telemetry: telemetry.clone(),
        };
        let workers: Vec<WorkerThread> = (0..options.workers.max(1))
            .map(|number| WorkerThread::start(number, common.clone()))
            .collect::<Result<_, _>>()
            .map_err(StartError::Worker)?;
        let senders = workers
            .iter()
            .map(|worker| worker.commands.clone())
            .collect();
        let named = |name, bound: &[(StdListener, SocketAddr)]| -> Vec<_> {
            bound.iter().map(|(_, address)| (name, *address)).collect()
        };
        let listeners = [
            named("outbound", &outbound),
            named("inbound", &inbound),
            named("admin", &admin),
        ]
        .concat();
        let addresses = |bound: &[(StdListener, SocketAddr)]| {
            bound.iter().map(|(_, address)| *address).collect()
        };
        Ok(Proxy {
            data: Arc::new(
                Data::new(senders, metrics.clone(), link.clone(), clock)
                    .knowing(plaintext)
                    .telling(telemetry)
                    .limited(options.limits)
                    .listening(listeners),
            ),
            metrics,
            outbound: addresses(&outbound),
            inbound: addresses(&inbound),
            admin: addresses(&admin),
            demands: Some(demands),
            listeners: (outbound
                .into_iter()
                .map(|(listener, _)| (listener, Side::Outbound)))
            .chain(
                inbound
                    .into_iter()
                    .map(|(listener, _)| (listener, Side::Inbound)),
            )
            .collect(),
            admin_listeners: admin.into_iter().map(|(listener, _)| listener).collect(),
            workers,
            link,
            phase,
            phases,
            drain_delay: options.drain_delay,
            drain_deadline: options.drain_deadline,
            tcp_probes: options.tcp_probes,
            https_probes: options.https_probes,
            writer: writer.flatten(),
        })
    }

    /// The destinations that the workers ask for. `None` after the first call.
    pub fn demands(&mut self) -> Option<mpsc::Receiver<Demand>> {
        self.demands.take()
    }

    /// Serves until `stop`, then drains; or until a worker dies. Call it on the control thread's `LocalRuntime`.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) -> Result<(), WorkerDied> {
        let admin = Arc::new(Admin {
            data: self.data.clone(),
            metrics: self.metrics.clone(),
            link: self.link.clone(),
            phase: self.phase.clone(),
            tcp_probes: self.tcp_probes,
            https_probes: self.https_probes,
        });
        for listener in self.admin_listeners {
            spawn_local(admin::serve(listener, admin.clone()));
        }
        distribute(self.listeners, &self.workers, &self.phases);
        let workers: Vec<_> = { self.workers.iter() }
            .map(|worker| worker.commands.clone())
            .collect();
        let callers = [&self.outbound[..], &self.inbound].concat();
        let left = async || match self.metrics.streams.load(Ordering::Relaxed) {
            0 => match unwritten(&workers).await {
                0 => Left::Untaken(untaken::bytes(&callers)),
                connections => Left::Unwritten(connections),
            },
            streams => Left::Streams(streams),
        };
        let drained = async {
            stop.await;
            drain(&self.phase, left, self.drain_delay, self.drain_deadline).await;
        };
        let died = select_all(self.workers.iter_mut().map(|worker| &mut worker.ended));
        tokio::select! {
            () = drained => {}
            _ = died => return Err(WorkerDied),
        }
        for worker in self.workers {
            worker.stop();
        }
        if let Some(writer) = self.writer {
            writer.finish();
        }
        Ok(())
    }
}

/// One worker accepts for itself; among several, an acceptor hands each connection to the least loaded.
fn distribute(listeners: Vec<(StdListener, Side)>, workers: &[WorkerThread], phases: &Phases) {
    for (listener, side) in listeners {
        if let [only] = workers {
            let _ = only.commands.send(Command::Listen(listener, side));
            continue;
        }
        let workers: Vec<_> = workers
            .iter()
            .map(|worker| (worker.commands.clone(), worker.load.clone()))
            .collect();
        let phases = phases.clone();
        spawn_local(async move {
            listen::accept(listener, side, phases, |stream| {
                let least = workers
                    .iter()
                    .min_by_key(|(_, load)| load.load(Ordering::Relaxed));
                if let (Some((commands, _)), Ok(stream)) = (least, stream.into_std()) {
                    let _ = commands.send(Command::Serve(stream, side));
                }
            })
            .await;
        });
    }
}

/// Callers that take nothing for so long are gone, as those of a node that was lost, or as good as gone.
const TAKES_NOTHING: Duration = Duration::from_secs(5);

/// What a drain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Streams(i64),
    /// Connections that have still to write what streams have left to them.
    Unwritten(usize),
    /// Bytes that are written and their callers' kernels have not taken.
    Untaken(u64),
}

/// On how many connections not even the kernel has it all.
async fn unwritten(workers: &[mpsc::UnboundedSender<Command>]) -> usize {
    let mut sum = 0;
    for worker in workers {
        let (told, connections) = oneshot::channel();
        let _ = worker.send(Command::Unwritten(told));
        // One that does not answer has ended.
        sum += connections.await.unwrap_or(0);
    }
    sum
}

/// Says that the proxy is leaving, goes on serving for `delay`, then waits until nothing is left, `deadline` at most.
async fn drain(
    phase: &watch::Sender<Phase>,
    left: impl AsyncFn() -> Left,
    delay: Duration,
    deadline: Duration,
) {
    let end = Instant::now() + deadline;
    phase.send_replace(Phase::Draining);
    tracing::info!(
        delay_s = delay.as_secs_f64(),
        deadline_s = deadline.as_secs_f64(),
        "draining"
    );
    sleep_until(end.min(Instant::now() + delay)).await;
    phase.send_replace(Phase::Closing);
    let (mut last, mut since) = (None, Instant::now());
    loop {
        // A worker that is busy until then is not waited for either.
        let left = timeout_at(end, left()).await.ok();
        let now = Instant::now();
        if left != last {
            (last, since) = (left, now);
        }
        let is_over = match left {
            Some(Left::Untaken(0)) => return tracing::info!("drained"),
            Some(Left::Untaken(_)) => now >= end || now.duration_since(since) >= TAKES_NOTHING,
            Some(Left::Streams(_) | Left::Unwritten(_)) | None => now >= end,
        };
        if is_over {
            return left_behind(left);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn left_behind(left: Option<Left>) {
    match left {
        Some(Left::Streams(streams)) => {
            tracing::warn!(streams, "leaving at the deadline with streams in progress");
        }
        Some(Left::Unwritten(connections)) => tracing::warn!(
            connections,
            "leaving at the deadline with answers that their callers do not take"
        ),
        Some(Left::Untaken(bytes)) => {
            tracing::warn!(bytes, "leaving with answers that their callers do not take");
        }
        None => tracing::warn!("leaving at the deadline"),
    }
}

impl WorkerThread {
    fn start(number: usize, common: Common) -> io::Result<WorkerThread> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        let counted = load.clone();
        let runtime = Builder::new_current_thread();
        let (alive, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let _alive = alive;
                let runtime = { runtime }
                    .enable_all()
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => runtime.block_on(worker::run(common, counted, receiver)),
                    Err(error) => tracing::error!(%error, number, "a worker cannot start"),
                }
            })?;
        Ok(WorkerThread {
            commands,
            load,
            thread,
            ended,
        })
    }

    fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

fn bind(addresses: &[SocketAddr]) -> Result<Vec<(StdListener, SocketAddr)>, BindError> {
    addresses
        .iter()
        .map(|&address| {
            let listener = listen::bind(address)?;
            let bound = listener
                .local_addr()
                .map_err(|source| BindError { address, source })?;
            Ok((listener, bound))
        })
        .collect()
}

/// Addresses on loopback with ports that the kernel chooses, for tests.
pub fn loopback() -> Vec<SocketAddr> {
    vec![SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 0))]
}
