//! What the sidecar and the operator really expose: the text of their `/metrics`, with everything in it that can be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aviary_operator::admin::Health;
use aviary_operator::admission;
use aviary_operator::ads::{Ads, RevocationKey};
use aviary_operator::certificates::Expiries;
use aviary_operator::certificates::workload::{LIFETIME, Terms, Workloads};
use aviary_operator::key::Key;
use aviary_operator::metrics::{Metrics, Shown};
use aviary_operator::rollout::views::Views;
use aviary_operator::rollout::watch::Changes;
use aviary_operator::strict::{Demanded, Keeper, Kept};
use aviary_proxy::metrics as sidecar;
use aviary_proxy::metrics::istio::{Istio, Labels, Measures, Party, Reporter};
use kube::{Client, Config};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use traffic_core::retry::budget;
use traffic_core::retry::conditions::Condition;
use traffic_core::retry::methods::Methods;
use traffic_core::retry::policy::{Retries, Times};
use traffic_core::spiffe::TrustDomain;

/// One family of series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Family {
    /// `counter`, `gauge`, `histogram` or `info`.
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Of its series, without `le`; empty as well for one that has none yet.
    pub(crate) labels: BTreeSet<String>,
    /// The names of its samples.
    pub(crate) samples: BTreeSet<String>,
}

/// Families by the name that a query asks for: that of their samples, a histogram's without its suffix.
pub(crate) type Families = BTreeMap<String, Family>;

pub(crate) fn of_sidecar() -> Families {
    let pod = super::pod("web");
    let istio = Arc::new(Istio::of(&pod));
    let metrics = Arc::new(sidecar::Metrics::of(pod).with_istio(Some(istio.clone())));
    let mut route = super::route();
    // Whose Service asks for what is counted only then.
    route.bounds.retries = Some(Retries {
        on: [Condition::Reset].into_iter().collect(),
        times: Times::ONCE,
        each: None,
        methods: Methods::default(),
        budget: budget::Terms::default(),
    });
    let _kept = [
        metrics.arm(&route, super::REVISION),
        metrics.arm_of(&route, super::REVISION, sidecar::Source::Outside),
    ];
    metrics.port(8080);
    metrics.denied(sidecar::Refusal::Plaintext, "", "");
    metrics.identity.issued(2, 1);
    let labels = Labels {
        reporter: Reporter::Source,
        source: Party::default(),
        destination: Party::default(),
        service: None,
        grpc: None,
        code: 200,
        flags: "-".into(),
    };
    let measures = Measures {
        duration: Duration::ZERO,
        received: 0,
        sent: 0,
    };
    istio.count(labels, &measures, Instant::now());
    families(&metrics.render().unwrap())
}

pub(crate) async fn of_operator() -> Families {
    // Refused only if it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (mut registry, metrics) = (Registry::default(), Metrics::default());
    let ads = Ads::new(RevocationKey::new(&[1; 32]));
    let expiries = || Expiries {
        serving: 0,
        root: 0,
        workloads: Some(0),
    };
    metrics.register(&mut registry, &ads, expiries);
    let shown = Shown {
        phase: "Soaking",
        stalled: Some("Refused".to_owned()),
        ..Shown::default()
    };
    metrics.show(&Key::new("shop", "web"), Some(shown));
    let terms = Terms {
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        lifetime: LIFETIME,
    };
    Workloads::new(terms).register(&mut registry);
    Health::default().register(&mut registry);
    admission::Metrics::register(&mut registry);
    // Nobody is asked anything.
    let nobody = Config::new("https://127.0.0.1:1".parse().unwrap());
    let client = Client::try_from(nobody).unwrap();
    let keeper = Keeper::new(
        (client.clone(), client.clone()),
        Views::new().0,
        ads,
        Demanded::default(),
        Changes::new().0,
        Kept::new(client.clone(), client, "aviary-system"),
    );
    keeper.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    families(&text)
}

/// Takes OpenMetrics text apart.
fn families(text: &str) -> Families {
    let mut families = Families::new();
    let mut last = (String::new(), Family::default());
    for line in text.lines().chain(["# HELP end"]) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            let (before, family) = std::mem::take(&mut last);
            if !before.is_empty() {
                families.insert(asked(&before, &family.kind), family);
            }
            last.0 = name.to_owned();
            last.1.help = help.trim_end_matches('.').to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            last.1.kind = kind.split_once(' ').unwrap().1.to_owned();
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            last.1.samples.insert(name.to_owned());
            last.1.labels.extend(labels(line));
        }
    }
    families
}

/// The name that a query asks for.
fn asked(family: &str, kind: &str) -> String {
    match kind {
        "counter" => format!("{family}_total"),
        "info" => format!("{family}_info"),
        _ => family.to_owned(),
    }
}

/// The names of the labels in a line; none of their values has a quote in it here.
fn labels(line: &str) -> impl Iterator<Item = String> {
    let labels = line.split_once('{').map_or("", |(_, rest)| rest);
    let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
    let names = labels
        .split('"')
        .step_by(2)
        .map(|name| name.trim_matches([',', '=']).to_owned());
    let names: Vec<String> = names
        .filter(|name| !name.is_empty() && name != "le")
        .collect();
    names.into_iter()
}
