//! What a new sidecar does with callers until the control plane has said it. Where plaintext is refused, and where a policy selects the pod, it lets in the
//! kubelet's probes and nobody else: it may start while the operator is away.

use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize;
use serde_json::Value;
use traffic_core::inbound::Probe;

use super::{containers_of, name_of};
use crate::{names, probes};

const CLOSED: &str = "--until-told=closed";
/// What the pod's probes are, which may have come and gone since.
pub(super) const PROBES: &str = "--probes=";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UntilTold {
    Open,
    Closed(Vec<Probe>),
}

impl UntilTold {
    /// Of a pod whose spec cannot be read the API server is going to say what is wrong.
    pub(super) fn closed(spec: &Value) -> UntilTold {
        let spec = PodSpec::deserialize(spec).unwrap_or_default();
        UntilTold::Closed(probes::of(&spec))
    }

    /// As the pod's sidecar has it, which may have been given to it before the namespace changed; its probes are those that it has now.
    pub(super) fn found_in(pod: &Value) -> UntilTold {
        let spec = &pod["spec"];
        let mut sidecars =
            containers_of(spec).filter(|each| name_of(each) == names::PROXY_CONTAINER);
        let sidecar = sidecars.next().unwrap_or(&Value::Null);
        let mut args = sidecar["args"].as_array().into_iter().flatten();
        match args.any(|arg| arg == CLOSED) {
            true => UntilTold::closed(spec),
            false => UntilTold::Open,
        }
    }

    pub(super) fn flags(&self) -> Vec<String> {
        let UntilTold::Closed(probes) = self else {
            return Vec::new();
        };
        let words: Vec<String> = probes.iter().map(Probe::to_string).collect();
        let probes = (!words.is_empty()).then(|| format!("{PROBES}{}", words.join(" ")));
        [CLOSED.to_owned()].into_iter().chain(probes).collect()
    }
}
