//! Both ends of a stream, with messages in flight, worlds that change, installs that take their time and streams that are lost,
//! in every order that chance finds. What must hold at each step, and what must have come about when it is quiet.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aviary_xds::client::{Generation, Output};
use aviary_xds::resources::{INBOUND, alias, destination};
use aviary_xds::server::{Urgency, Verdict};
use aviary_xds::{DeltaClient, DeltaServer, Kind, Node, Request, Resources, Response};
use proptest::prelude::*;
use traffic_core::bounds::Bounds;
use traffic_core::config::{
    Arm, CanaryArm, Cluster, Endpoint, Health, Inbound, Protocol, Route, Snapshot, Split, Weight,
};
use traffic_core::inbound::Mtls;
use traffic_core::lease::{LEASE, Lease};

const SERVICES: [&str; 2] = ["web", "api"];

#[derive(Clone, Debug)]
enum Event {
    /// The control plane has a new world, with these rules for what comes in, if it knows the pod.
    World(Vec<Option<Service>>, Option<Mtls>),
    ServerSends,
    ClientReads,
    ServerReads,
    Installed,
    Calls(usize),
    /// So many seconds pass.
    Passes(u64),
    StreamLost,
}

/// What the world says about one Service.
#[derive(Clone, Debug)]
struct Service {
    /// Revision and percent.
    canary: Option<(u8, u32)>,
    /// Tells one set of endpoints from another.
    endpoints: u8,
}

const POD: &str = "shop/web-1";

fn rules(mtls: Mtls) -> Inbound {
    Inbound {
        mtls,
        ..Inbound::default()
    }
}

fn address(service: usize) -> SocketAddr {
    SocketAddr::from(([10, 96, 0, u8::try_from(service).unwrap()], 80))
}

impl Service {
    fn route(&self, name: &str) -> Route {
        let arm = |revision: String| Arm {
            cluster: format!("shop/{name}/80/{revision}"),
            revision,
        };
        Route {
            name: format!("shop/{name}/80"),
            namespace: "shop".to_owned(),
            service: name.to_owned(),
            port: 80,
            protocol: Protocol::Detect,
            rollout: format!("shop/{name}"),
            split: Split {
                stable: arm("v1".to_owned()),
                canary: self.canary.map(|(revision, percent)| CanaryArm {
                    arm: arm(format!("v{revision}")),
                    weight: Weight::percent(percent).unwrap(),
                    run: 1,
                    lease: Lease::for_weight(Weight::percent(percent).unwrap()),
                    fuse: None,
                    sticky: None,
                }),
            },
            bounds: Bounds::default(),
            revoked: Vec::new(),
        }
    }

    /// Never empty, so that a cluster that is known can be told from one that is not.
    fn cluster(&self, name: &str) -> Cluster {
        let address = SocketAddr::from(([10, 1, self.endpoints, 1], 8080));
        Cluster {
            name: name.to_owned(),
            endpoints: vec![Endpoint {
                address,
                health: Health::Healthy,
                identity: None,
                workload: None,
            }],
        }
    }
}

fn arms(route: &Route) -> impl Iterator<Item = (&Arm, Weight)> {
    let canary = route
        .split
        .canary
        .iter()
        .map(|canary| (&canary.arm, canary.weight));
    std::iter::once((&route.split.stable, Weight::ALL)).chain(canary)
}

struct Conversation {
    client: DeltaClient,
    server: DeltaServer,
    to_client: VecDeque<Response>,
    to_server: VecDeque<Request>,
    routes: BTreeMap<SocketAddr, Route>,
    clusters: BTreeMap<String, Cluster>,
    resources: Resources,
    rules: Option<Inbound>,
    shown: (Generation, Arc<Snapshot>),
    now: Instant,
    /// When the proxy last heard anything of the control plane.
    heard: Instant,
    installed: Arc<Snapshot>,
}

impl Conversation {
    fn start() -> Conversation {
        let now = Instant::now();
        let mut conversation = Conversation {
            client: DeltaClient::new(0.5),
            server: DeltaServer::of(POD.to_owned()),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            routes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            resources: Resources::default(),
            rules: None,
            shown: (Generation::default(), Arc::default()),
            now,
            heard: now,
            installed: Arc::default(),
        };
        conversation.connect();
        conversation
    }

    fn connect(&mut self) {
        self.server = DeltaServer::of(POD.to_owned());
        self.to_client.clear();
        self.to_server.clear();
        let output = self.client.connected(&Node::default());
        self.take(output);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::World(services, mtls) => self.set_world(&services, mtls),
            Event::ServerSends => self
                .to_client
                .extend(self.server.next(&self.resources, self.now)),
            Event::ClientReads => {
                if let Some(response) = self.to_client.pop_front() {
                    self.heard = self.now;
                    let output = self.client.received(response, self.now);
                    self.take(output);
                }
            }
            Event::ServerReads => {
                if let Some(request) = self.to_server.pop_front() {
                    self.server.on_request(request).unwrap();
                    self.check_acknowledged();
                }
            }
            Event::Installed => self.install(),
            Event::Calls(service) => {
                let output = self.client.demand([address(service)]);
                self.take(output);
            }
            Event::Passes(seconds) => self.pass(Duration::from_secs(seconds)),
            Event::StreamLost => {
                self.client.disconnected();
                // As the shell does: what is claimed at the next connect is installed.
                self.install();
                self.connect();
            }
        }
    }

    fn set_world(&mut self, services: &[Option<Service>], mtls: Option<Mtls>) {
        self.routes.clear();
        self.clusters.clear();
        for (number, (name, service)) in SERVICES.iter().zip(services).enumerate() {
            let Some(service) = service else { continue };
            let route = service.route(name);
            for (arm, _) in arms(&route) {
                self.clusters
                    .insert(arm.cluster.clone(), service.cluster(&arm.cluster));
            }
            self.routes.insert(address(number), route);
        }
        self.resources = Resources::default();
        self.rules = mtls.map(rules);
        if let Some(rules) = &self.rules {
            self.resources.insert_inbound(POD, rules);
        }
        for (destination, route) in &self.routes {
            self.resources.insert_route(route, &[*destination]);
        }
        for cluster in self.clusters.values() {
            self.resources.insert_cluster(cluster);
        }
    }

    fn take(&mut self, output: Output) {
        assert_eq!(output.rejected, None);
        self.to_server.extend(output.requests);
        if let Some((generation, snapshot)) = output.snapshot {
            for (arm, weight) in snapshot
                .routes
                .values()
                .flatten()
                .flat_map(|route| arms(route))
            {
                let known = &snapshot.clusters[&arm.cluster].endpoints;
                assert!(
                    weight == Weight::ZERO || !known.is_empty(),
                    "{} is shown and unknown",
                    arm.cluster
                );
            }
            self.shown = (generation, snapshot);
        }
    }

    fn install(&mut self) {
        let (generation, snapshot) = self.shown.clone();
        self.installed = snapshot;
        let output = self.client.installed(generation);
        self.take(output);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.client.lapses_at().is_some_and(|at| at <= self.now) {
            let output = self.client.lapse(self.now);
            self.take(output);
        }
        if self.now >= self.heard + LEASE {
            for (arm, weight) in self
                .shown
                .1
                .routes
                .values()
                .flatten()
                .flat_map(|route| arms(route))
            {
                assert!(
                    arm.revision == "v1" || weight == Weight::ZERO,
                    "nobody renewed it: {arm:?}"
                );
            }
        }
    }

    /// The proxy has given up a canary's weight, and the control plane will read that it asks for it again.
    fn asked_again(&self, name: &String) -> bool {
        let mut requests = self.to_server.iter();
        requests.any(|request| request.resource_names_subscribe.contains(name))
    }

    /// What counts as acknowledged is what requests are routed by.
    fn check_acknowledged(&mut self) {
        // Settles what the proxy brought along.
        self.server.urgency(&self.resources, self.now);
        for (name, state) in self.server.routes() {
            let Some(sent) = state.sent.filter(|sent| sent.verdict == Verdict::Accepted) else {
                continue;
            };
            let Some(current) = self.resources.resolve(Kind::Route, &name) else {
                continue;
            };
            if sent.version == current.version && !self.asked_again(&name) {
                let destination = destination(&name).unwrap();
                let installed = self
                    .installed
                    .routes
                    .get(&destination)
                    .and_then(Option::as_deref);
                assert_eq!(
                    installed,
                    Some(&self.routes[&destination]),
                    "acknowledged and not installed"
                );
            }
        }
    }

    fn run_until_quiet(&mut self) {
        for _ in 0..1_000 {
            let before = (self.to_client.len(), self.to_server.len());
            let urgency = self.server.urgency(&self.resources, self.now);
            for event in [
                Event::ServerSends,
                Event::ClientReads,
                Event::Installed,
                Event::ServerReads,
            ] {
                self.happen(event);
            }
            if before == (0, 0) && urgency == Urgency::Nothing && self.to_server.is_empty() {
                return;
            }
        }
        panic!("the two ends never stop talking");
    }

    /// The proxy has the world, as far as it calls there, and the control plane knows that.
    fn check_settled(&mut self, called: &[SocketAddr]) {
        let mut clusters = BTreeMap::new();
        assert_eq!(self.installed.routes.len(), called.len());
        for destination in called {
            let expected = self.routes.get(destination);
            assert_eq!(self.installed.routes[destination].as_deref(), expected);
            for (arm, _) in expected.into_iter().flat_map(arms) {
                clusters.insert(arm.cluster.clone(), &self.clusters[&arm.cluster]);
            }
            let sent = self.server.routes()[&alias(*destination)].sent.clone();
            assert_eq!(
                sent.map(|sent| sent.verdict),
                expected.map(|_| Verdict::Accepted)
            );
        }
        let shown: BTreeMap<_, _> = self
            .installed
            .clusters
            .iter()
            .map(|(name, cluster)| (name.clone(), &**cluster))
            .collect();
        assert_eq!(shown, clusters);
        // What was told last stays when it is told no more.
        if let Some(rules) = &self.rules {
            assert_eq!(self.installed.inbound.as_deref(), Some(rules));
            assert_eq!(self.server.inbound(), Some(&Verdict::Accepted));
        }
    }
}

fn service() -> impl Strategy<Value = Service> {
    let canary = proptest::option::of((2u8..4, prop_oneof![Just(0), Just(10), Just(50)]));
    (canary, 0u8..3).prop_map(|(canary, endpoints)| Service { canary, endpoints })
}

fn world() -> impl Strategy<Value = Event> {
    let services = proptest::collection::vec(proptest::option::weighted(0.8, service()), 2);
    let mtls = proptest::sample::select(vec![Mtls::Permissive, Mtls::Strict]);
    let mtls = proptest::option::weighted(0.8, mtls);
    (services, mtls).prop_map(|(services, mtls)| Event::World(services, mtls))
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => world(),
        6 => Just(Event::ServerSends),
        6 => Just(Event::ClientReads),
        6 => Just(Event::ServerReads),
        3 => Just(Event::Installed),
        2 => (0..SERVICES.len()).prop_map(Event::Calls),
        1 => Just(Event::StreamLost),
        2 => prop_oneof![Just(15), Just(50), Just(200)].prop_map(Event::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_proxy_ends_up_with_the_world_and_acknowledges_only_what_it_has(
        events in proptest::collection::vec(event(), 0..80)
    ) {
        let mut conversation = Conversation::start();
        let mut called: Vec<SocketAddr> = Vec::new();
        for event in events {
            if let Event::Calls(service) = event {
                called.push(address(service));
            }
            conversation.happen(event);
        }
        called.sort_unstable();
        called.dedup();
        conversation.run_until_quiet();
        conversation.check_settled(&called);

        // A proxy that comes back to the same world is sent nothing but that there is nothing.
        conversation.happen(Event::StreamLost);
        while let Some(request) = conversation.to_server.pop_front() {
            conversation.server.on_request(request).unwrap();
        }
        while let Some(response) = conversation.server.next(&conversation.resources, conversation.now) {
            // Leases are renewed.
            let mut bodies = response.resources.iter().filter_map(|each| each.resource.as_ref());
            prop_assert!(bodies.next().is_none(), "sent again: {:?}", response.resources);
            prop_assert!(response.removed_resources.iter().all(|name| name.starts_with("dst/") || name == INBOUND));
        }
    }
}
