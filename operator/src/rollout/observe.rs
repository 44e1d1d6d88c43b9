//! From the stores to the machine's observation.

use aviary_crds::{CanaryRollout, REVISION_LABEL, ROLLOUT_LABEL};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;
use rollout_core::observation::{CopySeen, Observation, Original, Traffic as TrafficSeen, Window};
use rollout_core::state::{State, Template};
use rollout_core::time::Time;
use serde_json::Value;

use super::copy;
use super::stores::Stores;
use super::traffic::Sent;
use crate::ads::{Acks, Ads};
use crate::key::Key;
use crate::names::PROXY_CONTAINER;
use crate::revision;

/// The present template of a Deployment.
pub fn template(deployment: &DynamicObject) -> Option<Template> {
    let template = deployment.data.pointer("/spec/template")?;
    Some(Template {
        revision: revision::revision(template),
        content: revision::content(template),
    })
}

pub fn number(object: &DynamicObject, pointer: &str) -> u32 {
    object
        .data
        .pointer(pointer)
        .and_then(Value::as_u64)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

/// `spec.replicas`, which is 1 when it is absent.
pub fn replicas(deployment: &DynamicObject) -> u32 {
    if deployment.data.pointer("/spec/replicas").is_some() {
        number(deployment, "/spec/replicas")
    } else {
        1
    }
}

pub fn paused(deployment: &DynamicObject) -> bool {
    deployment
        .data
        .pointer("/spec/paused")
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

/// The Deployment controller has seen the newest spec, and every pod is of the present template and available.
fn rolled_out(deployment: &DynamicObject) -> bool {
    let seen = deployment
        .data
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    let wanted = replicas(deployment);
    seen >= deployment.metadata.generation
        && ["replicas", "updatedReplicas", "availableReplicas"]
            .iter()
            .all(|count| number(deployment, &format!("/status/{count}")) == wanted)
}

/// The adopted Deployment of a rollout.
pub fn original(stores: &Stores, rollout: &CanaryRollout) -> Option<std::sync::Arc<DynamicObject>> {
    let (namespace, name) = (rollout.namespace(), rollout.name_any());
    stores.originals.find(|deployment| {
        deployment.namespace() == namespace
            && deployment.name_any() == rollout.spec.target_ref.name
            && deployment.labels().get(ROLLOUT_LABEL) == Some(&name)
    })
}

/// All copies that a rollout has made.
pub fn copies(stores: &Stores, rollout: &CanaryRollout) -> Vec<std::sync::Arc<DynamicObject>> {
    let (namespace, name) = (rollout.namespace(), rollout.name_any());
    let mut copies: Vec<_> = stores
        .copies
        .state()
        .into_iter()
        .filter(|copy| {
            copy.namespace() == namespace && copy.labels().get(copy::CANARY_OF_LABEL) == Some(&name)
        })
        .collect();
    copies.sort_by_key(|copy| copy.name_any());
    copies
}

/// Who has not acknowledged what was sent: for the status, and for the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgement {
    pub proxies: u32,
    pub acknowledged: u32,
    pub laggards: Vec<String>,
    pub rejected: Option<String>,
}

impl Acknowledgement {
    pub fn complete(&self) -> bool {
        self.acknowledged == self.proxies
    }
}

/// Subscribed proxies, and those of running pods that have no stream: nobody knows what they use.
pub fn acknowledgement(stores: &Stores, ads: &Ads, rollout: &str) -> Acknowledgement {
    let now = Time(jiff::Timestamp::now().as_millisecond());
    let Acks {
        proxies,
        acknowledged,
        laggards,
        rejected,
        ..
    } = ads.rollout_acks(rollout, now);
    let mut laggards: Vec<String> = laggards.iter().map(|each| each.pod.to_string()).collect();
    let connected = ads.connected();
    let mut silent = 0;
    for pod in stores.pods.state() {
        let key = Key::of(pod.as_ref());
        if sidecar_runs(&pod) && !connected.contains(&key) {
            let name = key.to_string();
            // A pod that was subscribed is counted already.
            if !laggards.contains(&name) {
                silent += 1;
                if laggards.len() < 10 {
                    laggards.push(name);
                }
            }
        }
    }
    let rejected = rejected.map(|rejection| format!("{}: {}", rejection.pod, rejection.text));
    Acknowledgement {
        proxies: proxies + silent,
        acknowledged,
        laggards,
        rejected,
    }
}

fn sidecar_runs(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten()
        .any(|container| container.name == PROXY_CONTAINER && container.started == Some(true))
}

fn has_sidecar(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|container| container.name == PROXY_CONTAINER)
}

/// Everything else that an observation is made of.
pub struct Seen<'a> {
    pub now: Time,
    pub rollout: &'a CanaryRollout,
    pub original: &'a DynamicObject,
    pub template: Template,
    pub state: &'a State,
    pub sent: &'a Sent,
    pub acknowledged: bool,
    pub revoked: Option<u64>,
    pub may_raise: bool,
    pub window: Option<Window>,
}

pub fn observation(stores: &Stores, seen: Seen<'_>) -> Observation {
    let run = seen.state.run.as_ref();
    let copies = copies(stores, seen.rollout);
    let copy = run.and_then(|run| {
        let name = copy::name(&seen.rollout.spec.target_ref.name, &run.canary.revision);
        copies.iter().find(|copy| copy.name_any() == name)
    });
    let running = matches!(seen.state.phase, rollout_core::Phase::RollingBack { .. });
    let without_sidecar = run.is_some_and(|run| {
        stores.pods.state().iter().any(|pod| {
            pod.namespace() == seen.rollout.namespace()
                && pod.labels().get(REVISION_LABEL) == Some(&run.canary.revision)
                && pod.metadata.deletion_timestamp.is_none()
                && !has_sidecar(pod)
        })
    });
    Observation {
        now: seen.now,
        template: seen.template,
        generation: seen.original.metadata.generation.unwrap_or(0),
        original: Original {
            replicas: replicas(seen.original),
            paused: paused(seen.original),
            rolled_out: rolled_out(seen.original),
        },
        copy: CopySeen {
            // A rollback is over when no copy of this rollout is left, an older one's included.
            exists: if running {
                !copies.is_empty()
            } else {
                copy.is_some()
            },
            ready: copy.map_or(0, |copy| number(copy, "/status/readyReplicas")),
            without_sidecar,
        },
        traffic: TrafficSeen {
            sent: seen.sent.canary,
            acknowledged: seen.acknowledged && seen.sent.routes > 0,
        },
        window: seen.window,
        revoked: seen.revoked,
        deleted: seen.rollout.metadata.deletion_timestamp.is_some(),
        may_raise: seen.may_raise,
    }
}
