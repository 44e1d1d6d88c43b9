//! A control plane in this process: delta ADS as the operator serves it, and a load reporting service that writes down what it hears and
//! does as the test says.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aviary_proxy::control::Identify;
use aviary_proxy::{ads, control};
use aviary_xds::grpc::{DiscoveryRequest, DiscoveryResponse, Server as AdsServer, Service as Ads};
use aviary_xds::identity::{self, SignRequest, SignResponse};
use aviary_xds::load::{self, Report};
use aviary_xds::node;
use aviary_xds::resources::INBOUND;
use aviary_xds::server::Verdict;
use aviary_xds::{DeltaServer, Kind, Request as XdsRequest, Resources, Response as XdsResponse};
use rcgen::CertifiedKey;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use traffic_core::config::{Inbound, Route};
use traffic_core::outcome::{Counts, Second};

use crate::client::eventually;
use crate::mesh::{Mesh, SERVICE, Service};

const TOKEN: &str = "of-this-pod";
const POD: (&str, &str) = ("shop", "web-1");
/// Generous: the machine may be busy. A test that passes never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the load reporting service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loads {
    /// As an operator of a version that does not know it.
    Unserved,
    Served,
    /// Ends each stream with an error as soon as it has heard a report.
    Broken,
    /// Reads who speaks, and nothing after that.
    Deaf,
}

pub(crate) struct ControlPlane {
    address: SocketAddr,
    root_pem: String,
    shared: Arc<Shared>,
    servers: JoinHandle<()>,
    client: Option<JoinHandle<()>>,
    token_file: Option<PathBuf>,
}

struct Shared {
    resources: Mutex<Resources>,
    changes: watch::Sender<()>,
    loads: watch::Sender<Loads>,
    /// With when it was heard.
    heard: Mutex<Vec<(Second, Report)>>,
    /// The version of the route that the proxy has installed.
    acknowledged: watch::Sender<String>,
    /// What the proxy says of what it is to do with what comes in.
    inbound: watch::Sender<Option<Verdict>>,
    /// Who calls the proxy's pod without an identity, as it said last.
    reported: Mutex<Option<node::Report>>,
    /// Whether what is sent of that is no message.
    is_garbling: AtomicBool,
    ads_streams: AtomicUsize,
    load_streams: AtomicUsize,
    /// Streams of configuration on which the proxy has said that it accepts TLS.
    accepting_streams: AtomicUsize,
    /// What signs for the pod; without one there is no such service.
    signer: Mutex<Option<Signer>>,
    /// Ends the streams of configuration when it changes.
    hang_up: watch::Sender<()>,
}

/// Makes of a request (PKCS #10, DER) what the pod gets.
pub(crate) type Signer = Box<dyn Fn(Vec<u8>) -> SignResponse + Send>;

impl ControlPlane {
    pub(crate) fn start(loads: Loads) -> ControlPlane {
        // Refused only if it is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let root_pem = cert.pem();
        let own = Identity::from_pem(&root_pem, signing_key.serialize_pem());
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = incoming.local_addr().unwrap();
        let shared = Arc::new(Shared {
            resources: Mutex::default(),
            changes: watch::Sender::default(),
            loads: watch::Sender::new(loads),
            heard: Mutex::default(),
            acknowledged: watch::Sender::default(),
            inbound: watch::Sender::default(),
            reported: Mutex::default(),
            is_garbling: AtomicBool::default(),
            ads_streams: AtomicUsize::default(),
            load_streams: AtomicUsize::default(),
            accepting_streams: AtomicUsize::default(),
            signer: Mutex::default(),
            hang_up: watch::Sender::default(),
        });
        // A small window: a stream that is not read is full at once, and the others of its connection are not.
        let serving = Server::builder()
            .initial_stream_window_size(1024)
            .tls_config(ServerTlsConfig::new().identity(own))
            .unwrap()
            .add_service(AdsServer::new(Services(shared.clone())))
            .add_service(load::grpc::Server::new(Services(shared.clone())))
            .add_service(identity::grpc::Server::new(Services(shared.clone())))
            .serve_with_incoming(incoming);
        ControlPlane {
            address,
            root_pem,
            shared,
            servers: tokio::spawn(async move { serving.await.unwrap() }),
            client: None,
            token_file: None,
        }
    }

    /// From now on `mesh` does what this control plane says, and tells it the outcomes.
    pub(crate) async fn rules(&mut self, mesh: &mut Mesh, route: &Service) {
        self.publishes(route, &route.route());
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let token_file =
            std::env::temp_dir().join(format!("aviary-loads-{}-{number}", std::process::id()));
        std::fs::write(&token_file, TOKEN).unwrap();
        let me = control::ControlPlane {
            address: format!("https://{}", self.address),
            root_certs: Some(self.root_pem.clone()),
            token_file,
            pod_name: POD.1.to_owned(),
            pod_namespace: POD.0.to_owned(),
            pod_ip: None,
        };
        self.token_file = Some(me.token_file.clone());
        let (_, none) = mpsc::channel(1);
        let demands = std::mem::replace(&mut mesh.demands, none);
        let data = mesh.data.clone();
        let is_signing = self.shared.signer.lock().unwrap().is_some();
        self.client = Some(tokio::spawn(async move {
            let identify: Option<Arc<dyn Identify>> = match is_signing {
                true => Some(data.clone()),
                false => None,
            };
            ads::run(me, data, identify, demands).await.unwrap();
        }));
        let connected = || mesh.metrics.connected.load(Ordering::Relaxed) == 1;
        eventually("the proxy is connected", connected).await;
        let _asks = TcpStream::connect(mesh.outbound).await.unwrap();
        self.is_obeyed().await;
    }

    /// The pod that it [`rules`](ControlPlane::rules) from now on gets certificates.
    pub(crate) fn signs(&self, signer: Signer) {
        *self.shared.signer.lock().unwrap() = Some(signer);
    }

    /// The proxy gets this route, and has installed it.
    pub(crate) async fn shifts(&self, service: &Service, route: &Route) {
        self.publishes(service, route);
        self.is_obeyed().await;
    }

    /// What the proxy is to do with what comes in; says what it says of it.
    pub(crate) async fn commands(&self, inbound: &Inbound) -> Verdict {
        let pod = format!("{}/{}", POD.0, POD.1);
        {
            let mut resources = self.shared.resources.lock().unwrap();
            resources.insert_inbound(&pod, inbound);
            // What is said from here on is said of these.
            self.shared.inbound.send_replace(None);
        }
        self.shared.changes.send_replace(());
        let mut said = self.shared.inbound.subscribe();
        let said = said.wait_for(Option::is_some);
        let said = timeout(PATIENCE, said)
            .await
            .expect("the proxy says nothing");
        said.unwrap().clone().unwrap()
    }

    /// Who calls the proxy's pod without an identity, as it said last.
    pub(crate) fn reported(&self) -> Option<node::Report> {
        self.shared.reported.lock().unwrap().clone()
    }

    pub(crate) fn forgets_reports(&self) {
        *self.shared.reported.lock().unwrap() = None;
    }

    /// Whether [`commands`](ControlPlane::commands) arrive as nonsense.
    pub(crate) fn garbles(&self, is_garbling: bool) {
        self.shared.is_garbling.store(is_garbling, Ordering::SeqCst);
    }

    fn publishes(&self, service: &Service, route: &Route) {
        let mut resources = self.shared.resources.lock().unwrap();
        for cluster in service.snapshot().clusters.values() {
            resources.insert_cluster(cluster);
        }
        resources.insert_route(route, &[SERVICE.parse().unwrap()]);
        drop(resources);
        self.shared.acknowledged.send_replace(String::new());
        self.shared.changes.send_replace(());
    }

    async fn is_obeyed(&self) {
        let wanted = {
            let resources = self.shared.resources.lock().unwrap();
            let route = resources.resolve(Kind::Route, "shop/web/80").unwrap();
            route.version.clone()
        };
        let mut acknowledged = self.shared.acknowledged.subscribe();
        let obeyed = acknowledged.wait_for(|version| *version == wanted);
        timeout(PATIENCE, obeyed)
            .await
            .expect("the proxy does not acknowledge")
            .unwrap();
    }

    pub(crate) fn loads_are(&self, loads: Loads) {
        self.shared.loads.send_replace(loads);
    }

    /// Ends the streams of configuration.
    pub(crate) fn hangs_up(&self) {
        self.shared.hang_up.send_replace(());
    }

    pub(crate) fn ads_streams(&self) -> usize {
        self.shared.ads_streams.load(Ordering::SeqCst)
    }

    /// On how many of those the proxy has said that it accepts TLS.
    pub(crate) fn accepting_streams(&self) -> usize {
        self.shared.accepting_streams.load(Ordering::SeqCst)
    }

    /// How often the load reporting service was asked for.
    pub(crate) fn load_streams(&self) -> usize {
        self.shared.load_streams.load(Ordering::SeqCst)
    }

    /// All that was told, added up by cluster and second.
    pub(crate) fn told(&self) -> BTreeMap<(String, Second), Counts> {
        let mut sums: BTreeMap<(String, Second), Counts> = BTreeMap::new();
        for (heard, report) in self.shared.heard.lock().unwrap().iter() {
            assert!(*heard > report.second, "before it was over: {report:?}");
            let key = (report.cluster.clone(), report.second);
            sums.entry(key).or_default().merge(&report.counts);
        }
        sums
    }

    /// How many reports there were.
    pub(crate) fn reports(&self) -> usize {
        self.shared.heard.lock().unwrap().len()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.servers.abort();
        if let Some(client) = &self.client {
            client.abort();
        }
        if let Some(file) = &self.token_file {
            std::fs::remove_file(file).ok();
        }
    }
}

/// Whether the proxy has installed the endpoints that it was sent last.
fn has_endpoints(server: &DeltaServer, resources: &Resources) -> bool {
    server.accepted_clusters().iter().all(|(name, accepted)| {
        let current = resources.resolve(Kind::Endpoints, name);
        accepted.endpoints.as_deref() == current.map(|current| &*current.version)
    })
}

/// Since the Unix epoch.
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn authorize<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get("authorization") {
        Some(bearer) if bearer == &format!("Bearer {TOKEN}") => Ok(()),
        _ => Err(Status::unauthenticated("whose request is it?")),
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Shared {
    async fn configure(
        &self,
        mut requests: Streaming<XdsRequest>,
        responses: mpsc::UnboundedSender<Result<XdsResponse, Status>>,
    ) -> Option<()> {
        let mut server = DeltaServer::of(format!("{}/{}", POD.0, POD.1));
        let mut accepts = false;
        let (mut changes, mut hang_up) = (self.changes.subscribe(), self.hang_up.subscribe());
        loop {
            let heartbeat = self.tells(&mut server, &mut accepts, &responses)?;
            tokio::select! {
                request = requests.message() => {
                    let received = server.on_request(request.ok()??).unwrap();
                    if received.report.is_some() {
                        *self.reported.lock().unwrap() = received.report;
                    }
                }
                changed = changes.changed() => changed.ok()?,
                _ = hang_up.changed() => return None,
                () = sleep_until(heartbeat.unwrap_or_else(Instant::now).into()), if heartbeat.is_some() => {}
            }
        }
    }

    /// Sends what is due, and notes what the proxy has said, of what it was sent last: nothing is published meanwhile. Says when to send it a sign of life.
    fn tells(
        &self,
        server: &mut DeltaServer,
        accepts: &mut bool,
        responses: &mpsc::UnboundedSender<Result<XdsResponse, Status>>,
    ) -> Option<Option<Instant>> {
        let resources = self.resources.lock().unwrap();
        while let Some(mut response) = server.next(&resources, Instant::now()) {
            let is_listener = response.type_url == Kind::Listener.type_url();
            if is_listener && self.is_garbling.load(Ordering::SeqCst) {
                let bodies = response.resources.iter_mut();
                bodies
                    .flat_map(|each| &mut each.resource)
                    .for_each(|body| body.value = vec![0xff]);
            }
            responses.send(Ok(response)).ok()?;
        }
        if !*accepts && server.routes().contains_key(INBOUND) {
            *accepts = true;
            self.accepting_streams.fetch_add(1, Ordering::SeqCst);
        }
        let has_endpoints = has_endpoints(server, &resources);
        for sent in server.routes().into_values().filter_map(|route| route.sent) {
            match sent.verdict {
                Verdict::Accepted if !has_endpoints => {}
                Verdict::Accepted => drop(self.acknowledged.send_replace(sent.version)),
                Verdict::Rejected(text) => panic!("the proxy says: {text}"),
                Verdict::Pending => {}
            }
        }
        let said = server.inbound().filter(|said| **said != Verdict::Pending);
        if let Some(said) = said {
            let said = Some(said.clone());
            self.inbound
                .send_if_modified(|known| std::mem::replace(known, said.clone()) != said);
        }
        Some(server.heartbeat_at(&resources))
    }

    /// Hears out a proxy that tells outcomes.
    async fn listen(
        &self,
        mut requests: Streaming<load::Request>,
        responses: &mpsc::UnboundedSender<Result<load::Response, Status>>,
    ) -> Result<(), Status> {
        let hello = requests.message().await?;
        assert_eq!(hello, Some(load::hello("web-1.shop")));
        responses.send(Ok(load::wanted())).ok();
        let mut loads = self.loads.subscribe();
        loop {
            // A deaf one hears again when it is told to.
            let ears = loads.wait_for(|loads| *loads != Loads::Deaf);
            let now = *ears
                .await
                .map_err(|_| Status::cancelled("the test is over"))?;
            let Some(message) = requests.message().await? else {
                return Ok(());
            };
            let (heard, reports) = (wall().as_secs(), load::decode(&message).unwrap());
            let reports = reports.into_iter().map(|report| (heard, report));
            self.heard.lock().unwrap().extend(reports);
            if now == Loads::Broken {
                return Err(Status::internal("broken, as the test wants it"));
            }
        }
    }
}

struct Services(Arc<Shared>);

#[tonic::async_trait]
impl Ads for Services {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<XdsResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<XdsRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        authorize(&request)?;
        self.0.ads_streams.fetch_add(1, Ordering::SeqCst);
        let (sender, responses) = mpsc::unbounded_channel();
        let shared = self.0.clone();
        tokio::spawn(async move { shared.configure(request.into_inner(), sender).await });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            responses,
        ))))
    }
}

#[tonic::async_trait]
impl load::grpc::Service for Services {
    type StreamLoadStatsStream = Responses<load::Response>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<load::Request>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        authorize(&request)?;
        self.0.load_streams.fetch_add(1, Ordering::SeqCst);
        if *self.0.loads.borrow() == Loads::Unserved {
            return Err(Status::unimplemented(""));
        }
        let (sender, responses) = mpsc::unbounded_channel();
        let shared = self.0.clone();
        tokio::spawn(async move {
            if let Err(status) = shared.listen(request.into_inner(), &sender).await {
                sender.send(Err(status)).ok();
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            responses,
        ))))
    }
}

#[tonic::async_trait]
impl identity::grpc::Service for Services {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        authorize(&request)?;
        let signer = self.0.signer.lock().unwrap();
        let signer = signer.as_ref().ok_or_else(|| Status::unimplemented(""))?;
        Ok(Response::new(signer(request.into_inner().csr)))
    }
}
