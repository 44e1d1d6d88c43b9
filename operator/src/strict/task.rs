//! The task that follows the labels of namespaces.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use aviary_crds::FIELD_MANAGER;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use kube_runtime::events::{Event, EventType, Recorder, Reporter};
use kube_runtime::{WatchStreamExt, watcher};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::{self, Obstacle, Plain, PodFacts};
use super::{Demanded, Kept, QUIET};
use crate::ads::Ads;
use crate::key::Key;
use crate::names::{MTLS_LABEL, MTLS_PERMISSIVE, MTLS_STRICT};
use crate::reason::Reason;
use crate::rollout::changes::Change;
use crate::rollout::views::{By, PodSeen, Sidecar, Views};
use crate::rollout::watch::Changes;
use crate::scope::Scope;
use crate::tenure::Tenure;
use crate::text::cut;

/// How often is looked while somebody waits.
const LOOK: Duration = Duration::from_secs(1);
/// How soon something else is said of a namespace, and how often the same.
const SAY: Duration = Duration::from_secs(10);
const SAY_AGAIN: Duration = Duration::from_secs(10 * 60);
/// The API refuses notes above 1024 bytes.
const NOTE: usize = 1000;

/// Takes namespaces from permissive to strict, and back.
pub struct Keeper {
    views: Views,
    ads: Ads,
    demanded: Demanded,
    changes: Changes,
    kept: Kept,
    namespaces: Api<PartialObjectMeta<Namespace>>,
    client: Client,
    recorder: Recorder,
    scope: Scope,
    quiet: Duration,
    tenure: Tenure,
    states: Family<State, Gauge>,
    /// Those with the label, by name.
    labelled: BTreeMap<String, Labelled>,
    /// Nothing was in the way when it was looked last.
    clear: BTreeSet<String>,
    said: HashMap<String, Said>,
    /// What is written down is something else than what is in force.
    is_unkept: bool,
}

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Labelled {
    uid: Option<String>,
    mtls: String,
}

struct Said {
    reason: Reason,
    text: String,
    at: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

const WAITING: State = State { state: "waiting" };
const STRICT: State = State { state: "strict" };

impl Keeper {
    /// `watching` may be silent for minutes.
    pub fn new(
        (client, watching): (Client, Client),
        views: Views,
        ads: Ads,
        demanded: Demanded,
        changes: Changes,
        kept: Kept,
    ) -> Keeper {
        Keeper {
            views,
            ads,
            demanded,
            changes,
            kept,
            namespaces: Api::all(watching),
            recorder: recorder(client.clone(), None),
            client,
            scope: Scope::Cluster,
            quiet: QUIET,
            tenure: Tenure::unlimited(),
            states: Family::default(),
            labelled: BTreeMap::new(),
            clear: BTreeSet::new(),
            said: HashMap::new(),
            is_unkept: false,
        }
    }

    /// Only what holds during this time is written.
    #[must_use]
    pub fn during(self, tenure: Tenure) -> Keeper {
        Keeper { tenure, ..self }
    }

    /// What this process is called in Events.
    #[must_use]
    pub fn named(self, instance: String) -> Keeper {
        Keeper {
            recorder: recorder(self.client.clone(), Some(instance)),
            ..self
        }
    }

    /// Looks at no other namespaces than these.
    #[must_use]
    pub fn within(self, scope: Scope) -> Keeper {
        Keeper { scope, ..self }
    }

    /// For how long nobody may have called without an identity.
    #[must_use]
    pub fn after(self, quiet: Duration) -> Keeper {
        Keeper { quiet, ..self }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "aviary_operator_mtls_namespaces",
            "Namespaces that ask to refuse plaintext: those that wait for it, and those that do",
            self.states.clone(),
        );
        for state in [WAITING, STRICT] {
            self.states.get_or_create(&state).set(0);
        }
    }

    /// Until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let config = watcher::Config::default().labels(MTLS_LABEL);
        let config = self.scope.of_namespaces(config);
        let stream = watcher(self.namespaces.clone(), config).default_backoff();
        let mut stream = pin!(stream);
        let mut list: Option<BTreeMap<String, Labelled>> = None;
        // Before the first list nobody knows who asks for what.
        let mut is_listed = false;
        loop {
            let busy = is_listed && (self.waits() || self.is_unkept);
            tokio::select! {
                () = stop.cancelled() => return,
                event = stream.next() => match event {
                    Some(Ok(watcher::Event::Init)) => list = Some(BTreeMap::new()),
                    Some(Ok(watcher::Event::InitApply(each))) => {
                        list.get_or_insert_default().extend([named(&each)]);
                    }
                    Some(Ok(watcher::Event::InitDone)) => {
                        self.labelled = list.take().unwrap_or_default();
                        is_listed = true;
                    }
                    Some(Ok(watcher::Event::Apply(each))) => self.labelled.extend([named(&each)]),
                    Some(Ok(watcher::Event::Delete(each))) => {
                        self.labelled.remove(&each.name_any());
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of namespaces broke; it is taken up again");
                        continue;
                    }
                    None => return,
                },
                () = tokio::time::sleep(LOOK), if busy => {}
            }
            if is_listed {
                self.look().await;
            }
        }
    }

    fn waits(&self) -> bool {
        let mut asking = self.asking();
        asking.any(|namespace| !self.demanded.is_demanded(namespace))
    }

    fn asking(&self) -> impl Iterator<Item = &String> {
        let strict = |labelled: &Labelled| labelled.mtls == MTLS_STRICT;
        let asking = self.labelled.iter().filter(move |(_, it)| strict(it));
        asking.map(|(name, _)| name)
    }

    async fn look(&mut self) {
        let asking: BTreeSet<String> = self.asking().cloned().collect();
        let force = self.demanded.all();
        for namespace in force.difference(&asking) {
            self.relax(namespace).await;
        }
        let waiting: Vec<String> = asking.difference(&force).cloned().collect();
        for namespace in &waiting {
            self.weigh(namespace).await;
        }
        self.clear.retain(|namespace| asking.contains(namespace));
        self.misspelt().await;
        if self.is_unkept {
            self.keep(self.demanded.all()).await;
        }
        let force = self.demanded.all();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.states.get_or_create(&STRICT).set(count(force.len()));
        let waiting = asking.difference(&force).count();
        self.states.get_or_create(&WAITING).set(count(waiting));
    }

    /// Plaintext is accepted again: at once, and written down afterwards.
    async fn relax(&mut self, namespace: &str) {
        let mut force = self.demanded.all();
        force.remove(namespace);
        self.demanded.set(force);
        self.is_unkept = true;
        self.changes.tell(Change::Demand(namespace.to_owned()));
        let text = format!(
            "namespace {namespace} accepts plaintext again: its label {MTLS_LABEL} is not {MTLS_STRICT} any more"
        );
        self.say(
            namespace,
            EventType::Normal,
            Reason::PlaintextAccepted,
            text,
        )
        .await;
    }

    /// Whether it may have what it asks for. Twice, since what the last acknowledgement was about may be on its way.
    async fn weigh(&mut self, namespace: &str) {
        let obstacles = self.obstacles(namespace);
        if !obstacles.is_empty() {
            self.clear.remove(namespace);
            let text = waits(namespace, &obstacles);
            return self
                .say(namespace, EventType::Warning, Reason::StrictWaits, text)
                .await;
        }
        if self.clear.insert(namespace.to_owned()) {
            return;
        }
        let mut force = self.demanded.all();
        force.insert(namespace.to_owned());
        // Only what is written down is in force: a new operator has to know it.
        if self.keep(force.clone()).await {
            self.demanded.set(force);
            self.changes.tell(Change::Demand(namespace.to_owned()));
            let text = format!(
                "namespace {namespace} refuses plaintext from now on: every caller must show an identity of the mesh, but for the kubelet's probes"
            );
            self.say(namespace, EventType::Normal, Reason::PlaintextRefused, text)
                .await;
        }
    }

    async fn keep(&mut self, namespaces: BTreeSet<String>) -> bool {
        if !self.tenure.holds() {
            return false;
        }
        let kept = self.kept.write(&namespaces).await;
        match &kept {
            Ok(()) => self.is_unkept = false,
            Err(error) => {
                let source = error.source().map(ToString::to_string);
                tracing::warn!(%error, source, "it is not written down which namespaces refuse plaintext; trying again");
            }
        }
        kept.is_ok()
    }

    fn obstacles(&self, namespace: &str) -> Vec<Obstacle> {
        let pods = self.views.pods.by(By::Namespace, &Key::new(namespace, ""));
        let meshed = pods
            .iter()
            .filter(|pod| pod.sidecar == Sidecar::Runs && !pod.leaves);
        let mut facts: Vec<PodFacts> = meshed.map(|pod| self.facts(pod)).collect();
        name_callers(&mut facts, &self.views);
        gate::obstacles(&facts, self.quiet, || {
            let behind = self.ads.behind(namespace).into_iter();
            behind.map(|pod| pod.to_string()).collect()
        })
    }

    fn facts(&self, pod: &PodSeen) -> PodFacts {
        let accepts = self.ads.accepting(&pod.key);
        let callers = self.ads.unidentified(&pod.key);
        let plain = |(caller, ago): (traffic_core::inbound::Unidentified, Duration)| Plain {
            caller: caller.address.to_string(),
            port: caller.port,
            ago,
        };
        PodFacts {
            name: pod.key.name.clone(),
            accepts: accepts.is_some_and(|(uid, _)| uid == pod.uid),
            skipped: pod.skipped.to_vec(),
            callers: callers.map(|all| all.into_iter().map(plain).collect()),
        }
    }

    /// A label with a value that means nothing is told of, and is none.
    async fn misspelt(&mut self) {
        let known = [MTLS_STRICT, MTLS_PERMISSIVE];
        let misspelt = |it: &Labelled| !known.contains(&it.mtls.as_str());
        let named: Vec<(String, String)> = self
            .labelled
            .iter()
            .filter(|(_, it)| misspelt(it))
            .map(|(name, it)| (name.clone(), it.mtls.clone()))
            .collect();
        for (namespace, mtls) in named {
            let text = format!(
                "the label {MTLS_LABEL} of namespace {namespace} is `{mtls}`, which means nothing: write {MTLS_STRICT} or {MTLS_PERMISSIVE}"
            );
            self.say(&namespace, EventType::Warning, Reason::UnknownMode, text)
                .await;
        }
    }

    /// In the log, and as an Event of the namespace: `kubectl events -n NAMESPACE`.
    async fn say(&mut self, namespace: &str, type_: EventType, reason: Reason, text: String) {
        let now = Instant::now();
        // What it waits for may be something else each second; anything else is news.
        let is_said = self.said.get(namespace).is_some_and(|said| {
            let quiet = if said.text == text { SAY_AGAIN } else { SAY };
            said.reason == reason && now.duration_since(said.at) < quiet
        });
        if is_said {
            return;
        }
        match type_ {
            EventType::Normal => tracing::info!(namespace, reason = reason.name(), "{text}"),
            EventType::Warning => tracing::warn!(namespace, reason = reason.name(), "{text}"),
        }
        let uid = self.labelled.get(namespace).and_then(|it| it.uid.clone());
        let said = Said {
            reason,
            text: text.clone(),
            at: now,
        };
        self.said.insert(namespace.to_owned(), said);
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(namespace.to_owned()),
            // In the namespace itself, where somebody looks who wonders about it.
            namespace: Some(namespace.to_owned()),
            uid,
            ..ObjectReference::default()
        };
        let event = Event {
            type_,
            reason: reason.name().to_owned(),
            action: action(&text),
            note: Some(cut(text, NOTE)),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::warn!(namespace, %error, "no Event of the namespace could be made");
        }
    }
}

/// The recorder takes events of one reason and action for repetitions of the first, whatever their notes say, and these begin alike.
fn action(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{} #{:016x}", cut(text.to_owned(), 100), hasher.finish())
}

fn recorder(client: Client, instance: Option<String>) -> Recorder {
    let reporter = Reporter {
        controller: FIELD_MANAGER.to_owned(),
        instance,
    };
    Recorder::new(client, reporter)
}

fn named(namespace: &PartialObjectMeta<Namespace>) -> (String, Labelled) {
    let mtls = namespace.labels().get(MTLS_LABEL);
    let labelled = Labelled {
        uid: namespace.uid(),
        mtls: mtls.cloned().unwrap_or_default(),
    };
    (namespace.name_any(), labelled)
}

/// Puts the names of pods in the place of their addresses.
fn name_callers(facts: &mut [PodFacts], views: &Views) {
    let calls = facts.iter_mut().flat_map(|pod| pod.callers.iter_mut());
    let calls: Vec<&mut Plain> = calls.flatten().collect();
    if calls.is_empty() {
        return;
    }
    let mut names: HashMap<IpAddr, String> = HashMap::new();
    for pod in views.pods.state() {
        for address in &pod.addresses {
            names.insert(*address, format!("pod {}", pod.key));
        }
    }
    for call in calls {
        let name = call.caller.parse().ok();
        if let Some(name) = name.and_then(|address: IpAddr| names.get(&address)) {
            call.caller.clone_from(name);
        }
    }
}

/// What keeps the namespace from what it asks for.
pub(super) fn waits(namespace: &str, obstacles: &[Obstacle]) -> String {
    format!(
        "{MTLS_LABEL}: {MTLS_STRICT} is not in force in namespace {namespace}, which goes on to accept plaintext: {}",
        gate::sentence(obstacles)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_anew_is_no_repetition_though_it_begins_alike() {
        let begin = "of a namespace ".repeat(20);
        let [one, other] = ["one", "other"].map(|end| action(&format!("{begin}{end}")));
        assert_ne!(one, other);
        // The API refuses longer ones.
        assert!(one.len() <= 128, "{one}");
        assert_eq!(one, action(&format!("{begin}one")));
    }
}
