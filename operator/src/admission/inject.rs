//! Gives a pod its sidecar: pod in, JSON patch out, nothing else looked at.
//!
//! Two containers go in front of the pod's own init containers: `aviary-init`, which sets the redirect rules, and the
//! native sidecar `aviary-proxy`, so that the pod's other init containers already speak through the mesh. Calling it
//! again on its own result changes nothing (the API server may: `reinvocationPolicy: IfNeeded`).
//!
//! Probes go on to say what they said ([`probes`]); annotations of the pod have their say ([`wishes`]).
//!
//! A pod that comes with the sidecar of another injector than this one (its template was made by `aviary-operator inject`, or it is a copy
//! of an old pod) gets a new one. Which pods come here at all is decided by the selectors of the webhook.

mod containers;
mod limits;
mod ports;
mod probes;
mod quantity;
mod telemetry;
mod until_told;
mod wishes;
mod workload;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use json_patch::{Patch, PatchOperation};
use serde_json::{Value, json};

use super::Admission;
use super::review::{Answer, Review, add, remove};
use crate::key::Key;
use crate::names;
use crate::options::PullPolicy;
use crate::rollout::views::{Allowing, By, NamespaceSeen, Store};
use crate::strict::Demanded;
pub use limits::LimitError;
pub use ports::PortsError;
use probes::Probes;
pub use quantity::InvalidQuantity;
pub use telemetry::TelemetryError;
use until_told::UntilTold;
pub use wishes::InvalidWish;
use wishes::Wishes;

/// What sidecars are made from.
#[derive(Clone)]
pub struct Injector {
    pub image: String,
    pub pull_policy: PullPolicy,
    /// The operator's namespace, where proxies find the xDS Service.
    pub namespace: String,
    /// The certificate authority that proxies trust.
    pub root_pem: String,
    /// What injects, in the annotation of each pod: [`VERSION`] at admission.
    pub mark: String,
    /// Where plaintext is refused.
    pub demanded: Demanded,
    /// Who may call whom; `None`: whoever likes.
    pub policies: Option<Store<Allowing>>,
    /// What namespaces say for all their pods; `None`: nobody looks.
    pub namespaces: Option<Store<NamespaceSeen>>,
}

/// The mark of the webhook.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What to do with a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Injection {
    Inject { patch: Patch, warnings: Vec<String> },
    LeftAlone { warnings: Vec<String> },
}

/// Why a pod is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPod {
    #[error(transparent)]
    Wish(#[from] InvalidWish),
    #[error(
        "annotation {annotation}: namespace {namespace} refuses plaintext ({label}: strict), and whatever comes to these ports would bypass the sidecar that refuses it: take the annotation out of the pod, or label the namespace {label}=permissive",
        annotation = names::SKIP_INBOUND_ANNOTATION,
        label = names::MTLS_LABEL
    )]
    Bypass { namespace: String },
    #[error(
        "container {container} has a name that is the sidecar's, but its {differs} is not what the injector makes: give it another name; if the pod is a copy of an injected one, take {init} and {proxy} out of it, and it gets new ones; if another webhook changes every container, exempt these two from it",
        init = names::INIT_CONTAINER,
        proxy = names::PROXY_CONTAINER
    )]
    Reserved {
        container: String,
        differs: &'static str,
    },
    #[error("its init containers or volumes cannot be read as Kubernetes writes them")]
    Misshapen,
    #[error(
        "container {0} runs as user {uid}, which is the sidecar's: its connections would bypass the mesh; give it another runAsUser",
        uid = names::PROXY_UID
    )]
    User(String),
}

impl Injector {
    pub fn inject(&self, namespace: &str, pod: &Value) -> Result<Injection, InvalidPod> {
        let spec = &pod["spec"];
        check_users(spec)?;
        if !reserved(spec) {
            return self.first(namespace, pod);
        }
        let mark = &pod["metadata"]["annotations"][names::INJECTED_ANNOTATION];
        if mark.is_null() || *mark == json!(self.mark) || !is_injected(spec) {
            return self.again(pod);
        }
        self.anew(namespace, pod)
    }

    /// The same, and of a pod with a sidecar that an injector put there one with this injector's.
    pub fn inject_anew(&self, namespace: &str, pod: &Value) -> Result<Injection, InvalidPod> {
        let spec = &pod["spec"];
        check_users(spec)?;
        if is_injected(spec) {
            self.anew(namespace, pod)
        } else {
            self.inject(namespace, pod)
        }
    }

    /// A pod without anything of ours.
    fn first(&self, namespace: &str, pod: &Value) -> Result<Injection, InvalidPod> {
        if let Some(reason) = cannot_be_meshed(&pod["spec"]) {
            let warning = format!("pod {}: no sidecar, since {reason}", pod_name(pod));
            return Ok(Injection::LeftAlone {
                warnings: vec![warning],
            });
        }
        let had_annotations = pod["metadata"]["annotations"].is_object();
        let (inherited, mistakes) = self.inherited(namespace, pod);
        let pod = &with_annotations(pod, &inherited);
        let spec = &pod["spec"];
        let wishes = Wishes::of(pod)?;
        let strict = self.demanded.is_demanded(namespace);
        if strict && !wishes.inbound.is_empty() {
            let namespace = namespace.to_owned();
            return Err(InvalidPod::Bypass { namespace });
        }
        let until_told = if strict || self.may_be_selected(namespace, pod) {
            UntilTold::closed(spec)
        } else {
            UntilTold::Open
        };
        let mut probes = Probes::of(spec, &wishes.inbound);
        if strict {
            probes.warnings.extend(probes::refused_in_the_clear(spec));
        }
        probes.warnings.extend(mistakes);
        // Before the indices of containers change.
        let mut patch = probes.rewritten.clone();
        if !spec["initContainers"].is_array() {
            patch.push(add(["spec", "initContainers"], json!([])));
        }
        let ours = self.ours(pod, &wishes, &probes, &until_told);
        for (index, container) in ["0", "1"].into_iter().zip(ours) {
            patch.push(add(["spec", "initContainers", index], container));
        }
        if !spec["volumes"].is_array() {
            patch.push(add(["spec", "volumes"], json!([])));
        }
        patch.push(add(["spec", "volumes", "-"], containers::token_volume()));
        if !had_annotations {
            patch.push(add(["metadata", "annotations"], json!({})));
        }
        // So that whoever looks at the pod again, or asks it, finds what its sidecar goes by.
        for (name, value) in self.annotations(pod).into_iter().chain(inherited) {
            patch.push(add(["metadata", "annotations", name], json!(value)));
        }
        Ok(Injection::Inject {
            patch: Patch(patch),
            warnings: probes.warnings,
        })
    }

    /// A pod that this injector has seen before. Its containers must be as we make them; defaults of the API server, and what other webhooks
    /// add to every container, may have come to them since. Probes that another webhook has added are rewritten like the first.
    fn again(&self, pod: &Value) -> Result<Injection, InvalidPod> {
        let wishes = Wishes::of(pod)?;
        let probes = Probes::of(&pod["spec"], &wishes.inbound);
        let mut patch = probes.rewritten.clone();
        for our in self.ours(pod, &wishes, &probes, &UntilTold::found_in(pod)) {
            let name = name_of(&our);
            let not_ours = |differs| InvalidPod::Reserved {
                container: name.to_owned(),
                differs,
            };
            let (index, theirs) =
                init_container(&pod["spec"], name).ok_or_else(|| not_ours("existence"))?;
            if let Some(differs) = difference(&our, theirs) {
                return Err(not_ours(differs));
            }
            if our["args"] != theirs["args"] {
                let index = index.to_string();
                patch.push(add(
                    ["spec", "initContainers", &index, "args"],
                    our["args"].clone(),
                ));
            }
        }
        if patch.is_empty() {
            return Ok(Injection::LeftAlone {
                warnings: Vec::new(),
            });
        }
        Ok(Injection::Inject {
            patch: Patch(patch),
            warnings: probes.warnings,
        })
    }

    /// A pod that another injector has seen: without what that one made, it is one that nobody has.
    fn anew(&self, namespace: &str, pod: &Value) -> Result<Injection, InvalidPod> {
        let spec = &pod["spec"];
        let ours = [names::PROXY_CONTAINER, names::INIT_CONTAINER];
        let mut patch = without(spec, "initContainers", &ours);
        patch.extend(without(spec, "volumes", &[containers::TOKEN_VOLUME]));
        let mut bare = pod.clone();
        json_patch::patch(&mut bare, &patch).map_err(|_| InvalidPod::Misshapen)?;
        match self.first(namespace, &bare)? {
            Injection::Inject {
                patch: Patch(more),
                warnings,
            } => {
                patch.extend(more);
                Ok(Injection::Inject {
                    patch: Patch(patch),
                    warnings,
                })
            }
            left_alone @ Injection::LeftAlone { .. } => Ok(left_alone),
        }
    }

    /// What the namespace says for all its pods, and this one has nothing to say about; and, in words, what of it makes no sense: that keeps no pod from being made.
    fn inherited(
        &self,
        namespace: &str,
        pod: &Value,
    ) -> (Vec<(&'static str, String)>, Vec<String>) {
        let (mut inherited, mut mistakes) = (Vec::new(), Vec::new());
        let namespaces = self.namespaces.as_ref();
        let seen = namespaces.and_then(|all| all.get(&NamespaceSeen::key_of(namespace)));
        for (name, value) in seen.iter().flat_map(|seen| &seen.wishes) {
            if !pod["metadata"]["annotations"][*name].is_null() {
                continue;
            }
            match telemetry::flag_of(name, value) {
                Ok(_) => inherited.push((*name, value.to_string())),
                Err(error) => mistakes.push(format!(
                    "namespace {namespace}, {error}; until then its pods are made as if it were not there"
                )),
            }
        }
        (inherited, mistakes)
    }

    /// Whether a CallerPolicy selects the pod, as far as they are known yet.
    fn may_be_selected(&self, namespace: &str, pod: &Value) -> bool {
        let Some(policies) = &self.policies else {
            return false;
        };
        let labels = &pod["metadata"]["labels"];
        let selects = |policy: &Allowing| {
            let mut selector = policy.selector.iter();
            selector.all(|(name, value)| labels[name] == *value.as_str())
        };
        let known = policies.by(By::Namespace, &Key::new(namespace, ""));
        !policies.is_listed() || known.iter().any(|policy| selects(policy))
    }

    /// The two containers.
    fn ours(
        &self,
        pod: &Value,
        wishes: &Wishes,
        probes: &Probes,
        until_told: &UntilTold,
    ) -> [Value; 2] {
        let mut proxy = containers::proxy(self, workload::of(pod), wishes, until_told);
        if let Some(args) = proxy["args"].as_array_mut() {
            args.extend(probes.flags().into_iter().map(Value::from));
        }
        [containers::init(self, wishes), proxy]
    }

    /// Annotations that the pod gets. Scraping is only set up for pods whose owner has said nothing about it.
    fn annotations(&self, pod: &Value) -> Vec<(&'static str, String)> {
        let mut annotations = vec![
            (names::INJECTED_ANNOTATION, self.mark.clone()),
            (names::INJECTION_ANNOTATION, names::INJECTION.to_string()),
        ];
        let present = pod["metadata"]["annotations"].as_object();
        let scraped =
            present.is_some_and(|all| all.keys().any(|key| key.starts_with("prometheus.io/")));
        if !scraped {
            annotations.extend([
                ("prometheus.io/scrape", "true".to_owned()),
                ("prometheus.io/port", names::PROXY_HEALTH_PORT.to_string()),
                ("prometheus.io/path", "/metrics".to_owned()),
            ]);
        }
        annotations
    }
}

fn with_annotations(pod: &Value, more: &[(&'static str, String)]) -> Value {
    let mut pod = pod.clone();
    for (name, value) in more {
        pod["metadata"]["annotations"][*name] = json!(value);
    }
    pod
}

pub(super) async fn handle(
    State(admission): State<Admission>,
    Json(review): Json<Review>,
) -> Response {
    let request = review.request;
    let answer = match admission
        .injector
        .inject(&request.namespace, &request.object)
    {
        Ok(Injection::Inject { patch, warnings }) => Answer::Patch { patch, warnings },
        Ok(Injection::LeftAlone { warnings }) => Answer::Allow { warnings },
        Err(error) => Answer::Deny {
            message: format!(
                "pod {}/{}: {error}",
                request.namespace,
                pod_name(&request.object)
            ),
        },
    };
    tracing::debug!(
        namespace = request.namespace,
        pod = pod_name(&request.object),
        answer = answer.kind(),
        "injection"
    );
    admission.metrics.count("inject", &answer);
    answer.into_response(&request)
}

fn cannot_be_meshed(spec: &Value) -> Option<&'static str> {
    if spec["hostNetwork"] == json!(true) {
        return Some("it has hostNetwork: redirect rules would be the node's");
    }
    if spec["os"]["name"] == json!("windows") {
        return Some("it runs on Windows");
    }
    None
}

/// Whether a container has a name that is the injector's.
fn reserved(spec: &Value) -> bool {
    let names = [names::PROXY_CONTAINER, names::INIT_CONTAINER];
    containers_of(spec).any(|container| names.contains(&name_of(container)))
}

/// Whether both containers are where an injector puts them, and nowhere else.
fn is_injected(spec: &Value) -> bool {
    let names = [names::PROXY_CONTAINER, names::INIT_CONTAINER];
    let elsewhere = spec["containers"].as_array().into_iter().flatten();
    let mut elsewhere = elsewhere.filter(|container| names.contains(&name_of(container)));
    elsewhere.next().is_none()
        && names
            .iter()
            .all(|name| init_container(spec, name).is_some())
}

fn init_container<'a>(spec: &'a Value, name: &str) -> Option<(usize, &'a Value)> {
    let list = spec["initContainers"].as_array()?;
    let mut list = list.iter().enumerate();
    list.find(|(_, container)| name_of(container) == name)
}

/// Takes what has one of these names out of a list, from its end on.
fn without(spec: &Value, list: &str, names: &[&str]) -> Vec<PatchOperation> {
    let all = spec[list].as_array().into_iter().flatten().enumerate();
    let mut found: Vec<usize> = all
        .filter(|(_, each)| names.contains(&name_of(each)))
        .map(|(index, _)| index)
        .collect();
    found.reverse();
    let found = found.into_iter().map(|index| index.to_string());
    found.map(|index| remove(["spec", list, &index])).collect()
}

/// What policies add to every container's `securityContext`: it takes rights away.
const NO_RIGHTS: [&str; 3] = ["seccompProfile", "appArmorProfile", "seLinuxOptions"];

/// The field in which a container differs from ours, unless it runs our program with our arguments and rights.
fn difference(our: &Value, theirs: &Value) -> Option<&'static str> {
    let same = ["image", "restartPolicy"];
    let empty = ["command", "lifecycle", "envFrom", "workingDir"];
    let field = same.into_iter().find(|field| our[field] != theirs[field]);
    let args = arguments(our) != arguments(theirs);
    let foreign = empty.into_iter().find(|field| !theirs[field].is_null());
    let rights = differ(
        &our["securityContext"],
        &theirs["securityContext"],
        |extra| NO_RIGHTS.contains(&extra),
    );
    let environment = differ(&environment(our), &environment(theirs), |extra| {
        !extra.starts_with("AVIARY_")
    });
    field
        .or(args.then_some("args"))
        .or(foreign)
        .or(rights.then_some("securityContext"))
        .or(environment.then_some("env"))
}

/// Without those that say what the pod's probes are, which may have come and gone since.
fn arguments(of: &Value) -> Option<Vec<&Value>> {
    let of_probes = |argument: &&Value| {
        let text = argument.as_str().unwrap_or_default();
        let flags = probes::FLAGS.iter().chain([&until_told::PROBES]);
        { flags }.any(|flag| text.starts_with(flag))
    };
    let all = of["args"].as_array()?.iter();
    Some(all.filter(|argument| !of_probes(argument)).collect())
}

/// By name; of two with one name, the last counts. The API server leaves out a value that is empty.
fn environment(of: &Value) -> Value {
    let entries = of["env"].as_array().into_iter().flatten();
    let named = entries.map(|entry| {
        let value = entry["value"].as_str().unwrap_or_default();
        let kept = json!([value, entry["valueFrom"]]);
        (name_of(entry).to_owned(), kept)
    });
    Value::Object(named.collect())
}

/// Whether `theirs` lacks something of `ours`, or has more than may be added.
fn differ(ours: &Value, theirs: &Value, may_be_added: impl Fn(&str) -> bool) -> bool {
    let fields = |of: &Value| of.as_object().cloned().unwrap_or_default();
    let lacking = fields(ours)
        .iter()
        .any(|(name, value)| theirs[name] != *value);
    let added = fields(theirs)
        .iter()
        .any(|(name, value)| ours[name] != *value && !may_be_added(name));
    lacking || added
}

fn name_of(named: &Value) -> &str {
    named["name"].as_str().unwrap_or_default()
}

fn containers_of(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .filter_map(|list| spec[list].as_array())
        .flatten()
}

fn check_users(spec: &Value) -> Result<(), InvalidPod> {
    match users(spec).next() {
        Some(container) => Err(InvalidPod::User(name_of(container).to_owned())),
        None => Ok(()),
    }
}

/// Containers with the sidecar's user, by which the redirect rules know it: nobody else may have it.
fn users(spec: &Value) -> impl Iterator<Item = &Value> {
    let of_pod = &spec["securityContext"]["runAsUser"];
    containers_of(spec).filter(move |container| {
        let own = &container["securityContext"]["runAsUser"];
        let user = if own.is_null() { of_pod } else { own };
        *user == json!(names::PROXY_UID) && name_of(container) != names::PROXY_CONTAINER
    })
}

/// A new pod's name is often not known yet.
fn pod_name(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(prefix)) => format!("{prefix}*"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests;
