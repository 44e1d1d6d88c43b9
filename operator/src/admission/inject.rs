//! Gives a pod its sidecar: pod in, JSON patch out, nothing else looked at.
//!
//! Two containers go in front of the pod's own init containers: `aviary-init`, which sets the redirect rules, and the
//! native sidecar `aviary-proxy`, so that the pod's other init containers already speak through the mesh. Calling it
//! again on its own result changes nothing (the API server may: `reinvocationPolicy: IfNeeded`).
//!
//! HTTP and gRPC probes need no rewriting: they come to the pod's own address, which the inbound side hands to the app.
//! `tcpSocket` probes are not rewritten yet; whoever creates such a pod is told what they are worth. Which pods come
//! here at all is decided by the selectors of the webhook.

mod containers;
mod limits;
mod ports;
mod probes;
mod workload;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use json_patch::Patch;
use serde_json::{Value, json};

use super::Admission;
use super::review::{Answer, Review, add};
use crate::names;
use crate::options::PullPolicy;
pub use limits::LimitError;
use ports::Ports;
pub use ports::PortsError;

/// What sidecars are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injector {
    pub image: String,
    pub pull_policy: PullPolicy,
    /// The operator's namespace, where proxies find the xDS Service.
    pub namespace: String,
    /// The certificate authority that proxies trust.
    pub root_pem: String,
}

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
    Ports(#[from] PortsError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(
        "container {container} has a name that is the sidecar's, but its {differs} is not what the injector makes: give it another name; if the pod is a copy of an injected one, take {init} and {proxy} out of it, and it gets new ones; if another webhook changes every container, exempt these two from it",
        init = names::INIT_CONTAINER,
        proxy = names::PROXY_CONTAINER
    )]
    Reserved {
        container: String,
        differs: &'static str,
    },
    #[error(
        "container {0} runs as user {uid}, which is the sidecar's: its connections would bypass the mesh; give it another runAsUser",
        uid = names::PROXY_UID
    )]
    User(String),
}

impl Injector {
    pub fn inject(&self, pod: &Value) -> Result<Injection, InvalidPod> {
        let spec = &pod["spec"];
        if let Some(container) = users(spec).next() {
            return Err(InvalidPod::User(name_of(container).to_owned()));
        }
        if reserved(spec) {
            self.check_ours(pod)?;
            return Ok(Injection::LeftAlone {
                warnings: Vec::new(),
            });
        }
        if let Some(reason) = cannot_be_meshed(spec) {
            let warning = format!("pod {}: no sidecar, since {reason}", pod_name(pod));
            return Ok(Injection::LeftAlone {
                warnings: vec![warning],
            });
        }

        let inbound = Ports::from_annotation(pod, names::SKIP_INBOUND_ANNOTATION)?;
        let outbound = Ports::from_annotation(pod, names::SKIP_OUTBOUND_ANNOTATION)?;
        let limits = limits::from_annotations(pod)?;
        let mut patch = Vec::new();
        if !spec["initContainers"].is_array() {
            patch.push(add(["spec", "initContainers"], json!([])));
        }
        patch.push(add(
            ["spec", "initContainers", "0"],
            containers::init(self, &inbound, &outbound),
        ));
        patch.push(add(
            ["spec", "initContainers", "1"],
            containers::proxy(self, workload::of(pod), &limits),
        ));
        if !spec["volumes"].is_array() {
            patch.push(add(["spec", "volumes"], json!([])));
        }
        patch.push(add(["spec", "volumes", "-"], containers::token_volume()));
        if !pod["metadata"]["annotations"].is_object() {
            patch.push(add(["metadata", "annotations"], json!({})));
        }
        for (name, value) in annotations(pod) {
            patch.push(add(["metadata", "annotations", name], json!(value)));
        }

        Ok(Injection::Inject {
            patch: Patch(patch),
            warnings: probes::warnings(spec, &inbound),
        })
    }

    /// Whether the pod's containers with our names are as we make them. Defaults of the API server, and what other webhooks
    /// add to every container, may have come to them since.
    fn check_ours(&self, pod: &Value) -> Result<(), InvalidPod> {
        let inbound = Ports::from_annotation(pod, names::SKIP_INBOUND_ANNOTATION)?;
        let outbound = Ports::from_annotation(pod, names::SKIP_OUTBOUND_ANNOTATION)?;
        let limits = limits::from_annotations(pod)?;
        let ours = [
            containers::init(self, &inbound, &outbound),
            containers::proxy(self, workload::of(pod), &limits),
        ];
        for our in &ours {
            let name = name_of(our);
            let not_ours = |differs| InvalidPod::Reserved {
                container: name.to_owned(),
                differs,
            };
            let init = pod["spec"]["initContainers"].as_array();
            let mut named = init
                .into_iter()
                .flatten()
                .filter(|each| name_of(each) == name);
            let theirs = named.next().ok_or_else(|| not_ours("existence"))?;
            if let Some(differs) = difference(our, theirs) {
                return Err(not_ours(differs));
            }
        }
        Ok(())
    }
}

pub(super) async fn handle(
    State(admission): State<Admission>,
    Json(review): Json<Review>,
) -> Response {
    let request = review.request;
    let answer = match admission.injector.inject(&request.object) {
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

/// Annotations that the pod gets. Scraping is only set up for pods whose owner has said nothing about it.
fn annotations(pod: &Value) -> Vec<(&'static str, String)> {
    let mut annotations = vec![(
        names::INJECTED_ANNOTATION,
        env!("CARGO_PKG_VERSION").to_owned(),
    )];
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

/// What policies add to every container's `securityContext`: it takes rights away.
const NO_RIGHTS: [&str; 3] = ["seccompProfile", "appArmorProfile", "seLinuxOptions"];

/// The field in which a container differs from ours, unless it runs our program with our arguments and rights.
fn difference(our: &Value, theirs: &Value) -> Option<&'static str> {
    let same = ["image", "args", "restartPolicy"];
    let empty = ["command", "lifecycle", "envFrom", "workingDir"];
    let field = same.into_iter().find(|field| our[field] != theirs[field]);
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
        .or(foreign)
        .or(rights.then_some("securityContext"))
        .or(environment.then_some("env"))
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
