//! A control plane and sidecars' clients in one process: a test CA, tokens that are the pod's name, a data plane that records
//! snapshots and installs them when it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aviary_operator::ads::{
    Ads, AuthError, Authenticated, Authenticator, PodIdentity, RevocationKey,
};
use aviary_operator::certificates::workload::Workloads;
use aviary_operator::mesh::{RouteEntry, World};
use aviary_operator::serve::TlsListener;
use aviary_proxy::ads;
use aviary_proxy::control::{
    ControlPlane, Demand, Identify, Install, Installed, Link, Outcomes, Renewal, Reporting,
};
use aviary_proxy::identity::Generation;
use aviary_xds::grpc::Client;
use aviary_xds::resources::alias;
use aviary_xds::{Kind, Request, Response};
use jiff::Timestamp;
use rollout_core::time::Time;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint as ChannelEndpoint};
use traffic_core::bounds::Bounds;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Health, Protocol, Revocation, Route, SignedRevocation,
    Snapshot, Split, Wanted, Weight,
};
use traffic_core::lease::Lease;
use traffic_core::revoked::RevocationMemory;

/// Generous: the machine may be busy. A test that passes never waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the control planes of these tests sign revocations with.
pub(crate) fn key() -> RevocationKey {
    RevocationKey::new(&[7; 32])
}

pub(crate) fn now() -> Time {
    Time(Timestamp::now().as_millisecond())
}

pub(crate) fn percent(percent: u32) -> Weight {
    Weight::percent(percent).unwrap()
}

pub(crate) fn weight(route: &Route) -> Weight {
    route
        .split
        .canary
        .as_ref()
        .map_or(Weight::ZERO, |canary| canary.weight)
}

/// Where the pod behind the Service is called itself.
pub(crate) fn application(service: &str) -> SocketAddr {
    SocketAddr::new([10, 1, 0, 1].into(), destination(service).port())
}

pub(crate) fn destination(service: &str) -> SocketAddr {
    let last = if service == "web" { 1 } else { 2 };
    SocketAddr::from(([10, 96, 0, last], 80))
}

/// Services with a stable v1 and a canary v2 at so many percent.
pub(crate) fn world(services: &[(&str, u32)]) -> Arc<World> {
    let mut world = World::default();
    for (service, percent) in services {
        add(&mut world, service, "v2", *percent);
    }
    Arc::new(world)
}

/// The Service `web` with a canary at 10 %, which is lent for this long.
pub(crate) fn world_lent(ttl: Duration) -> Arc<World> {
    let mut world = World::default();
    add(&mut world, "web", "v2", 10);
    let web = world.routes.get_mut("shop/web/80").unwrap();
    web.route.split.canary.as_mut().unwrap().lease = Lease::Ttl(ttl);
    Arc::new(world)
}

/// The Service `web` with a canary that was rolled back.
pub(crate) fn world_revoking(revocation: Revocation) -> Arc<World> {
    let mut world = World::default();
    add(&mut world, "web", &revocation.revision, 0);
    let web = world.routes.get_mut("shop/web/80").unwrap();
    web.route.revoked = vec![revocation.into()];
    Arc::new(world)
}

/// The Service `web` with a canary of this revision.
pub(crate) fn world_with_canary(revision: &str, percent: u32) -> Arc<World> {
    let mut world = World::default();
    add(&mut world, "web", revision, percent);
    Arc::new(world)
}

fn add(world: &mut World, service: &str, canary: &str, percent: u32) {
    let name = format!("shop/{service}/80");
    let arm = |revision: &str| Arm {
        cluster: format!("{name}/{revision}"),
        revision: revision.to_owned(),
    };
    let split = Split {
        stable: arm("v1"),
        canary: Some(CanaryArm {
            arm: arm(canary),
            weight: self::percent(percent),
            run: 1,
            lease: Lease::for_weight(self::percent(percent)),
            fuse: None,
            sticky: None,
        }),
    };
    for (last, revision) in [(1, "v1"), (2, canary)] {
        let address = SocketAddr::from(([10, 1, 0, last], 8080));
        let endpoints = vec![Endpoint {
            address,
            health: Health::Healthy,
            identity: None,
            workload: None,
        }];
        let cluster = Cluster {
            name: format!("{name}/{revision}"),
            endpoints,
        };
        world.clusters.insert(cluster.name.clone(), cluster);
    }
    let route = Route {
        name: name.clone(),
        namespace: "shop".to_owned(),
        service: service.to_owned(),
        port: 80,
        protocol: Protocol::Http,
        rollout: format!("shop/{service}"),
        split,
        bounds: Bounds::default(),
        revoked: Vec::new(),
    };
    world.routes.insert(
        name,
        RouteEntry {
            route,
            destinations: vec![destination(service)],
            applications: vec![application(service)],
        },
    );
}

pub(crate) struct Mesh {
    pub ads: Ads,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    root_pem: String,
    /// Who gives certificates; `None`: the control plane knows of no certificates.
    pub workloads: Option<Workloads>,
    stop: CancellationToken,
    /// `None`: it was stopped.
    server: Option<JoinHandle<()>>,
}

impl Mesh {
    pub(crate) async fn serving(world: Arc<World>) -> Mesh {
        let mesh = Mesh::without_world().await;
        mesh.ads.set_world(world);
        mesh
    }

    /// One that gives certificates.
    pub(crate) async fn certifying(workloads: Workloads) -> Mesh {
        let mesh = Mesh::start(Some(workloads)).await;
        mesh.ads.set_world(world(&[("web", 1)]));
        mesh
    }

    pub(crate) async fn without_world() -> Mesh {
        Mesh::start(None).await
    }

    async fn start(workloads: Option<Workloads>) -> Mesh {
        let (tls, root_pem) = authority();
        let ads = Ads::new(key());
        let stop = CancellationToken::new();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, server) = serve(&ads, any, &tls, workloads.clone(), &stop).await;
        Mesh {
            ads,
            address,
            tls,
            root_pem,
            workloads,
            stop,
            server: Some(server),
        }
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            server.await.unwrap();
        }
    }

    /// Another process at the same address: it has seen nothing and has no world yet.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        (self.ads, self.stop) = (Ads::new(key()), CancellationToken::new());
        let (_, server) = serve(
            &self.ads,
            self.address,
            &self.tls,
            self.workloads.clone(),
            &self.stop,
        )
        .await;
        self.server = Some(server);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    pub(crate) async fn proxy(&self, pod: &str) -> Proxy {
        self.proxy_remembering(pod, Vec::new()).await
    }

    pub(crate) async fn proxy_remembering(
        &self,
        pod: &str,
        revocations: Vec<SignedRevocation>,
    ) -> Proxy {
        let proxy = Proxy::start(pod, self.address, &self.root_pem, revocations);
        proxy.is(Link::Connected).await;
        proxy
    }

    /// A plain gRPC client.
    pub(crate) async fn channel(&self) -> Channel {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.root_pem));
        let endpoint = ChannelEndpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    /// A stream of this pod that calls `web` and acknowledges nothing.
    pub(crate) async fn silent_stream(&self, token: &str) -> Streaming<Response> {
        let web = Request {
            type_url: Kind::Route.type_url().to_owned(),
            resource_names_subscribe: vec![alias(destination("web"))],
            ..Request::default()
        };
        self.stream(
            token,
            tokio_stream::once(web).chain(tokio_stream::pending()),
        )
        .await
    }

    /// A stream of this pod with these requests.
    pub(crate) async fn stream(
        &self,
        token: &str,
        requests: impl tokio_stream::Stream<Item = Request> + Send + 'static,
    ) -> Streaming<Response> {
        let mut request = tonic::Request::new(requests);
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
        let mut client = Client::new(self.channel().await);
        client
            .delta_aggregated_resources(request)
            .await
            .unwrap()
            .into_inner()
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Ads) -> bool) {
        let mut changes = self.ads.changes();
        let reached = async {
            while !condition(&self.ads) {
                // Counters change without a notice.
                tokio::time::timeout(Duration::from_millis(100), changes.changed())
                    .await
                    .ok();
            }
        };
        let state = || {
            (
                self.ads.rollout_acks("shop/web", now()),
                self.ads.connected(),
                self.ads.counts(),
            )
        };
        tokio::time::timeout(DEADLINE, reached)
            .await
            .unwrap_or_else(|_| panic!("not {what}: {:?}", state()));
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(
    ads: &Ads,
    address: SocketAddr,
    tls: &Arc<ServerConfig>,
    workloads: Option<Workloads>,
    stop: &CancellationToken,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TlsListener::bind(address, Arc::clone(tls)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = ads
        .clone()
        .serve(listener, Arc::new(Names), workloads, stop.clone());
    (address, tokio::spawn(async move { serving.await.unwrap() }))
}

/// A certificate for 127.0.0.1, and its root.
fn authority() -> (Arc<ServerConfig>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = rcgen::CertifiedIssuer::self_signed(root, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(config), root.pem())
}

/// Takes `<namespace>/<pod>` for a token.
struct Names;

impl Authenticator for Names {
    fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a> {
        Box::pin(async move {
            match (token.split_once('/'), token) {
                (Some((namespace, pod)), _) => Ok(PodIdentity {
                    namespace: namespace.to_owned(),
                    pod: pod.to_owned(),
                    uid: format!("uid-of-{pod}"),
                    service_account: format!("account-of-{pod}"),
                }),
                (None, "unreachable") => {
                    Err(AuthError::Unavailable("the API server is away".to_owned()))
                }
                (None, stranger) => Err(AuthError::Refused(format!("`{stranger}` is of no pod"))),
            }
        })
    }
}

/// A sidecar's client and a data plane that records.
pub(crate) struct Proxy {
    plane: Arc<DataPlane>,
    demands: mpsc::Sender<Demand>,
    client: JoinHandle<()>,
    token_file: std::path::PathBuf,
}

struct DataPlane {
    memory: Mutex<RevocationMemory>,
    all: Mutex<Vec<Arc<Snapshot>>>,
    newest: watch::Sender<Arc<Snapshot>>,
    /// Installs resolve while this is true.
    open: watch::Sender<bool>,
    link: watch::Sender<Option<Link>>,
    /// Numbers and names of identities, and what was said of them.
    identities: watch::Sender<Vec<(u64, String)>>,
    renewals: watch::Sender<Vec<Renewal>>,
}

impl Install for DataPlane {
    fn install(&self, snapshot: Arc<Snapshot>) -> Installed {
        for route in snapshot.routes.values().flatten() {
            self.memory.lock().unwrap().learn(&route.revoked);
        }
        self.all.lock().unwrap().push(Arc::clone(&snapshot));
        self.newest.send_replace(snapshot);
        let mut open = self.open.subscribe();
        Box::pin(async move {
            open.wait_for(|open| *open).await.ok();
        })
    }

    fn revocations(&self) -> Vec<SignedRevocation> {
        self.memory.lock().unwrap().report()
    }

    fn link(&self, link: Link) {
        self.link.send_replace(Some(link));
    }

    /// Nobody calls anybody here.
    fn outcomes(&self, _now: u64) -> Outcomes {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn reporting(&self, _news: Reporting) {}
}

impl Identify for DataPlane {
    fn identify(&self, generation: Arc<Generation>) -> Installed {
        let identity = (generation.number, generation.id.to_string());
        self.identities.send_modify(|all| all.push(identity));
        Box::pin(std::future::ready(()))
    }

    fn renewal(&self, news: Renewal) {
        self.renewals.send_modify(|all| all.push(news));
    }
}

impl Proxy {
    /// The identities that it has had, once they are as wanted.
    pub(crate) async fn identified(
        &self,
        wanted: impl Fn(&[(u64, String)]) -> bool,
    ) -> Vec<(u64, String)> {
        let mut all = self.plane.identities.subscribe();
        let found = tokio::time::timeout(DEADLINE, all.wait_for(|all| wanted(all))).await;
        let had = || self.plane.identities.borrow().clone();
        found
            .unwrap_or_else(|_| panic!("not as wanted: {:?}", had()))
            .unwrap()
            .clone()
    }

    /// Waits until this was said of its certificate.
    pub(crate) async fn said(&self, wanted: impl Fn(&Renewal) -> bool) {
        let mut all = self.plane.renewals.subscribe();
        let found = all.wait_for(|all| all.iter().any(&wanted));
        let found = tokio::time::timeout(DEADLINE, found).await;
        let said = || self.plane.renewals.borrow().clone();
        drop(found.unwrap_or_else(|_| panic!("only {:?}", said())));
    }

    /// Does not wait for the connection.
    pub(crate) fn start(
        pod: &str,
        address: SocketAddr,
        root_pem: &str,
        revocations: Vec<SignedRevocation>,
    ) -> Proxy {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let token_file =
            std::env::temp_dir().join(format!("aviary-token-{}-{number}", std::process::id()));
        std::fs::write(&token_file, format!("shop/{pod}\n")).unwrap();
        let mut memory = RevocationMemory::default();
        memory.learn(&revocations);
        let plane = Arc::new(DataPlane {
            memory: Mutex::new(memory),
            all: Mutex::default(),
            newest: watch::Sender::default(),
            open: watch::Sender::new(true),
            link: watch::Sender::new(None),
            identities: watch::Sender::default(),
            renewals: watch::Sender::default(),
        });
        let control_plane = ControlPlane {
            address: format!("https://{address}"),
            root_certs: Some(root_pem.to_owned()),
            token_file: token_file.clone(),
            pod_name: pod.to_owned(),
            pod_namespace: "shop".to_owned(),
            pod_ip: None,
        };
        let (demands, demanded) = mpsc::channel(16);
        let install: Arc<dyn Install> = Arc::<DataPlane>::clone(&plane);
        let identify: Option<Arc<dyn Identify>> = Some(Arc::<DataPlane>::clone(&plane));
        let client = tokio::spawn(async move {
            ads::run(control_plane, install, identify, demanded)
                .await
                .unwrap()
        });
        Proxy {
            plane,
            demands,
            client,
            token_file,
        }
    }

    pub(crate) async fn call(&mut self, service: &str) {
        let wanted = Wanted::Destination(destination(service));
        self.demands.send(wanted).await.unwrap();
    }

    /// Callers without a sidecar call the pod behind the Service, which this is.
    pub(crate) async fn is_called(&mut self, service: &str) {
        let wanted = Wanted::Application(application(service));
        self.demands.send(wanted).await.unwrap();
    }

    /// The first snapshot whose route for the service is as wanted.
    pub(crate) async fn shows(
        &self,
        service: &str,
        wanted: impl Fn(&Route) -> bool,
    ) -> Arc<Snapshot> {
        let address = destination(service);
        self.until(service, |snapshot| {
            snapshot
                .routes
                .get(&address)
                .and_then(Option::as_deref)
                .is_some_and(&wanted)
        })
        .await
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Arc<Snapshot> {
        let mut newest = self.plane.newest.subscribe();
        let found =
            tokio::time::timeout(DEADLINE, newest.wait_for(|snapshot| wanted(snapshot))).await;
        let shown = || self.plane.newest.borrow().clone();
        found
            .unwrap_or_else(|_| panic!("{what} is not shown: {:#?}", shown()))
            .unwrap()
            .clone()
    }

    pub(crate) async fn is(&self, link: Link) {
        let mut links = self.plane.link.subscribe();
        let found = tokio::time::timeout(DEADLINE, links.wait_for(|now| *now == Some(link))).await;
        found.unwrap_or_else(|_| panic!("never {link:?}")).unwrap();
    }

    pub(crate) fn snapshots(&self) -> usize {
        self.plane.all.lock().unwrap().len()
    }

    /// No snapshot ever had a route without its clusters.
    pub(crate) fn every_snapshot_is_whole(&self) -> bool {
        self.plane.all.lock().unwrap().iter().all(|snapshot| {
            snapshot.routes.values().flatten().all(|route| {
                let canary = route
                    .split
                    .canary
                    .as_ref()
                    .map(|canary| &canary.arm.cluster);
                std::iter::once(&route.split.stable.cluster)
                    .chain(canary)
                    .all(|name| {
                        snapshot
                            .clusters
                            .get(name)
                            .is_some_and(|cluster| !cluster.endpoints.is_empty())
                    })
            })
        })
    }

    pub(crate) fn hold_installs(&self) {
        self.plane.open.send_replace(false);
    }

    pub(crate) fn release_installs(&self) {
        self.plane.open.send_replace(true);
    }

    /// The process is gone.
    pub(crate) async fn stop(mut self) {
        self.client.abort();
        (&mut self.client).await.unwrap_err();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.client.abort();
        std::fs::remove_file(&self.token_file).ok();
    }
}
