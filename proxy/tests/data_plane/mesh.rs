//! A proxy in this process, on ports of its own, with the control plane played by the test.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aviary_proxy::control::{Demand, Install};
use aviary_proxy::data::Data;
use aviary_proxy::limits::Limits;
use aviary_proxy::metrics::{ArmMetrics, ByClass, Metrics, Workload};
use aviary_proxy::net::origin::{OriginalDestination, Side};
use aviary_proxy::run::{Options, Proxy, loopback};
use aviary_proxy::telemetry::{Output, Wanted};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use traffic_core::bounds::Bounds;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Expected, Health, Inbound, Protocol, Revocation, Route,
    Snapshot, Split, Weight,
};
use traffic_core::fuse::Tolerance;
use traffic_core::lease::Lease;
use traffic_core::outcome::Class;
use traffic_core::split::sticky::Key;

/// Where every outbound connection of the tests was going: the Service's address.
pub(crate) const SERVICE: &str = "10.96.0.7:80";

/// As a destination: the listener that took the connection.
pub(crate) const ITSELF: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

pub(crate) struct Mesh {
    pub outbound: SocketAddr,
    pub inbound: SocketAddr,
    pub admin: SocketAddr,
    pub data: Arc<Data>,
    pub metrics: Arc<Metrics>,
    pub demands: mpsc::Receiver<Demand>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a test may choose.
pub(crate) struct Given {
    pub outbound: SocketAddr,
    pub inbound: SocketAddr,
    pub workers: usize,
    pub limits: Limits,
    pub drain_delay: Duration,
    pub drain_deadline: Duration,
    /// Ports that may be tried by `/probe/tcp/<port>`.
    pub tcp_probes: Vec<u16>,
    /// Ports and paths that may be asked for by `/probe/https/<port>/<path>`.
    pub https_probes: Vec<&'static str>,
    /// Ports and paths of probes that are asked under another name.
    pub probe_paths: Vec<&'static str>,
    pub until_told: Inbound,
    pub telemetry: Wanted,
    /// Where the access log goes.
    pub output: Output,
}

impl Default for Given {
    fn default() -> Given {
        Given {
            outbound: SERVICE.parse().unwrap(),
            inbound: "127.0.0.1:1".parse().unwrap(),
            workers: 1,
            limits: Limits::default(),
            drain_delay: Duration::ZERO,
            drain_deadline: Duration::from_secs(20),
            tcp_probes: vec![],
            https_probes: vec![],
            probe_paths: vec![],
            until_told: Inbound::default(),
            telemetry: Wanted::default(),
            output: Box::new(std::io::sink()),
        }
    }
}

struct Fixed {
    outbound: SocketAddr,
    inbound: SocketAddr,
}

impl OriginalDestination for Fixed {
    fn of(&self, connection: &TcpStream, side: Side) -> std::io::Result<SocketAddr> {
        let address = match side {
            Side::Outbound => self.outbound,
            Side::Inbound => self.inbound,
        };
        if address == ITSELF {
            connection.local_addr()
        } else {
            Ok(address)
        }
    }
}

impl Mesh {
    pub(crate) fn start(given: Given) -> Mesh {
        let mut proxy = Proxy::start(Options {
            outbound: loopback(),
            inbound: loopback(),
            admin: loopback(),
            workers: given.workers,
            limits: given.limits,
            drain_delay: given.drain_delay,
            drain_deadline: given.drain_deadline,
            origin: Arc::new(Fixed {
                outbound: given.outbound,
                inbound: given.inbound,
            }),
            workload: Workload {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
            },
            probes_elsewhere: given
                .probe_paths
                .into_iter()
                .map(|path| path.parse().unwrap())
                .collect(),
            tcp_probes: given.tcp_probes.into_iter().collect(),
            https_probes: given
                .https_probes
                .into_iter()
                .map(|probe| probe.parse().unwrap())
                .collect(),
            until_told: given.until_told,
            telemetry: given.telemetry,
            output: given.output,
        })
        .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (outbound, inbound, admin) = (proxy.outbound[0], proxy.inbound[0], proxy.admin[0]);
        let (data, metrics) = (proxy.data.clone(), proxy.metrics.clone());
        let demands = proxy.demands().unwrap();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(Default::default())
                .unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            runtime.block_on(proxy.serve(stopped)).unwrap();
        });
        Mesh {
            outbound,
            inbound,
            admin,
            data,
            metrics,
            demands,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A proxy that already knows the Service.
    pub(crate) async fn with(service: &Service) -> Mesh {
        let mesh = Mesh::start(Given::default());
        mesh.install(service).await;
        mesh
    }

    pub(crate) async fn install(&self, service: &Service) {
        self.data.install(Arc::new(service.snapshot())).await;
    }

    /// As SIGTERM does.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn arm(&self, revision: &str) -> Arc<ArmMetrics> {
        self.metrics.arm(&Service::default().route(), revision)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop();
    }
}

/// [success, failure, client_closed, unsent]
pub(crate) fn counts(by: &ByClass) -> [u64; 4] {
    Class::ALL.map(|class| by.get(class))
}

/// How much was refused for this reason.
pub(crate) fn refused(mesh: &Mesh, reason: &str) -> u64 {
    let text = mesh.metrics.render().unwrap();
    let series = format!("aviary_refused_total{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.expect("every reason has its series").parse().unwrap()
}

/// The Service `shop/web`, port 80, as the control plane describes it.
#[derive(Clone)]
pub(crate) struct Service {
    pub stable: Vec<SocketAddr>,
    pub canary: Vec<SocketAddr>,
    pub weight: Weight,
    pub run: u64,
    pub revoked: Vec<Revocation>,
    /// HTTP where a test says nothing: a caller's task that has to wait for its turn before it speaks is not taken for a caller that is silent.
    pub protocol: Protocol,
    pub fuse: Option<Tolerance>,
    pub sticky: Option<Key>,
    pub bounds: Bounds,
    /// Of every endpoint.
    pub identity: Option<Expected>,
    /// Where the application of the pod that gets this is called, if it is one of the endpoints.
    pub application: Option<SocketAddr>,
    /// Whether endpoints let it be known what they are of: `web-v1`, `web-v2`.
    pub workloads: bool,
}

impl Default for Service {
    fn default() -> Service {
        Service {
            stable: vec![],
            canary: vec![],
            weight: Weight::ZERO,
            run: 1,
            revoked: vec![],
            protocol: Protocol::Http,
            fuse: None,
            sticky: None,
            bounds: Bounds::default(),
            identity: None,
            application: None,
            workloads: false,
        }
    }
}

impl Service {
    pub(crate) fn new(stable: SocketAddr, canary: SocketAddr, percent: u32) -> Service {
        Service {
            stable: vec![stable],
            canary: vec![canary],
            ..Service::default()
        }
        .at(percent)
    }

    pub(crate) fn at(&self, percent: u32) -> Service {
        Service {
            weight: Weight::percent(percent).unwrap(),
            ..self.clone()
        }
    }

    pub(crate) fn route(&self) -> Route {
        let arm = |revision: &str| Arm {
            cluster: format!("shop/web/80/{revision}"),
            revision: revision.into(),
        };
        Route {
            name: "shop/web/80".into(),
            namespace: "shop".into(),
            service: "web".into(),
            port: 80,
            protocol: self.protocol,
            rollout: "shop/web".into(),
            split: Split {
                stable: arm("v1"),
                canary: Some(CanaryArm {
                    arm: arm("v2"),
                    weight: self.weight,
                    run: self.run,
                    lease: Lease::for_weight(self.weight),
                    fuse: self.fuse,
                    sticky: self.sticky.clone(),
                }),
            },
            bounds: self.bounds.clone(),
            revoked: self.revoked.iter().cloned().map(Into::into).collect(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let cluster = |revision: &str, addresses: &[SocketAddr]| {
            let name = format!("shop/web/80/{revision}");
            let endpoints = addresses.iter().map(|&address| Endpoint {
                address,
                health: Health::Healthy,
                identity: self.identity.clone(),
                workload: self.workloads.then(|| format!("web-{revision}").into()),
            });
            (
                name.clone(),
                Arc::new(Cluster {
                    name,
                    endpoints: endpoints.collect(),
                }),
            )
        };
        let route = Some(Arc::new(self.route()));
        let applications = self.application.map(|address| (address, route.clone()));
        Snapshot {
            applications: applications.into_iter().collect(),
            routes: HashMap::from([(SERVICE.parse().unwrap(), route)]),
            clusters: HashMap::from([cluster("v1", &self.stable), cluster("v2", &self.canary)]),
            ..Snapshot::default()
        }
    }
}
