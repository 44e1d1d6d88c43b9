//! From Kubernetes objects to what is served: routes, clusters and endpoints. A pure function, [`part`], of one Service and
//! what belongs to it, so that a change costs what it concerns; the same objects give the same world, whatever order a watch
//! brought them in.
//!
//! ```text
//!   Service x port, selecting a target ──> route  <ns>/<svc>/<port>             at every ClusterIP
//!   its EndpointSlices x revision of pod ─> cluster <ns>/<svc>/<port>/<revision>  for stable and canary
//!   any other Service x port ────────────> one cluster <ns>/<svc>/<port>/-       of all its endpoints
//! ```
//!
//! The weight arrives decided (`rollout-core`); here are only the last guards: a canary without a healthy endpoint gets none,
//! and the stable arm is never without endpoints while anything else behind the Service has some.
//! What a call may take is in annotations of the Service, on whichever routes it has.
//! Not here: headless Services and those with session affinity (calls to them pass through), and ports that are not TCP.

mod addresses;
pub(crate) mod bounds;
mod callers;
mod endpoints;
mod protocol;
mod routes;
mod selection;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rollout_core::CanarySplit;
use traffic_core::config::{Cluster, Expected, Revocation};
use traffic_core::fuse::Tolerance;
use traffic_core::split::sticky;

use crate::key::Key;

pub use addresses::Addresses;
pub use bounds::{Unread, has_faults, unread};
pub use callers::Callers;
pub use endpoints::{pods_of, service_of};
pub use routes::{addresses_of, part, selects};
pub use selection::Selection;
pub use world::{RouteEntry, World, WorldChange};

/// One Service, and what its part of the world is made of.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    pub service: &'a Service,
    /// Its EndpointSlices.
    pub slices: &'a [Arc<EndpointSlice>],
    pub pods: &'a dyn Pods,
    /// Whether an address is this Service's, and no other's.
    pub owns: &'a dyn Fn(SocketAddr) -> bool,
}

/// What is known of pods.
pub trait Pods {
    /// The revision of a pod that belongs to an adopted Deployment or one of its copies.
    fn revision(&self, pod: &Key) -> Option<String>;
    /// Pods of canary copies get requests by a split or not at all.
    fn is_of_copy(&self, pod: &Key) -> bool;
    /// Who answers at an address of the pod.
    fn identity(&self, pod: &Key, address: SocketAddr) -> Option<Expected>;
    /// What the pod is one of, where it lets that be known.
    fn workload(&self, _pod: &Key) -> Option<Arc<str>> {
        None
    }
}

/// One adopted Deployment, and how its traffic is to be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSplit {
    /// `<namespace>/<name>` of the CanaryRollout.
    pub rollout: String,
    pub namespace: String,
    /// The Deployment's name.
    pub deployment: String,
    /// Labels of its pod template.
    pub pod_labels: BTreeMap<String, String>,
    /// [`TargetSplit::ALL`]: nobody knows which revision serves, so all pods of the Deployment do.
    pub stable: String,
    pub canary: Option<CanarySplit>,
    /// From which difference on proxies hold requests back from it by themselves.
    pub fuse: Option<Tolerance>,
    /// By what requests say whose they are, if they follow their users.
    pub sticky: Option<sticky::Key>,
    pub revoked: Vec<Revocation>,
}

impl TargetSplit {
    /// The revision's place in the names of a Service that no CanaryRollout releases: all its endpoints are one.
    pub const ALL: &'static str = "-";

    /// No split: requests are balanced over all endpoints. Such a Service has a route too, so that connections that are open
    /// when its Deployment is adopted are split from their next request on.
    fn none(service: &Service) -> TargetSplit {
        TargetSplit {
            rollout: String::new(),
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            deployment: String::new(),
            pod_labels: BTreeMap::new(),
            stable: TargetSplit::ALL.to_owned(),
            canary: None,
            fuse: None,
            sticky: None,
            revoked: Vec::new(),
        }
    }

    /// Whether all pods but those of copies are one arm.
    fn is_all(&self) -> bool {
        self.stable == TargetSplit::ALL
    }
}

/// What proxies are told about one Service, and what they are not told though somebody may expect it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// The rollout that its traffic is split for.
    pub rollout: Option<String>,
    pub routes: Vec<RouteEntry>,
    pub clusters: Vec<Cluster>,
    /// Sorted, without duplicates.
    pub findings: Vec<Finding>,
}

/// Something in the objects that keeps requests away from the split.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A Service selects the pods of two adopted Deployments: its requests are balanced over all of them.
    SharedService {
        service: String,
        rollouts: Vec<String>,
    },
    /// A ready endpoint that is of none of the rollout's revisions: it serves in the stable arm.
    NotExclusive {
        rollout: String,
        service: String,
        endpoint: String,
    },
    /// No pod of the stable revision is ready: others answer in its place.
    StableEmpty { rollout: String, service: String },
    /// An annotation of a Service that says nothing: calls to it are not bounded by it.
    Annotation {
        service: String,
        annotation: &'static str,
        why: String,
    },
    /// Nothing is put into requests on purpose, although the Service's owner asks for it: a release is under way.
    FaultsOff { rollout: String, service: String },
    /// The ClusterIP and port are a second Service's, too; the first by name has them.
    SharedAddress { service: String, address: String },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::SharedService { service, rollouts } => write!(
                f,
                "Service {service} selects the pods of several rollouts ({}): its traffic is not split; \
                 give each Deployment a Service of its own",
                rollouts.join(", ")
            ),
            Finding::NotExclusive {
                service, endpoint, ..
            } => write!(
                f,
                "{endpoint}, a ready endpoint of Service {service}, is of none of the rollout's revisions: it serves in the stable arm"
            ),
            Finding::StableEmpty { service, .. } => write!(
                f,
                "no pod of the stable revision behind Service {service} is ready: what else is ready answers in its place"
            ),
            Finding::Annotation {
                service,
                annotation,
                why,
            } => write!(
                f,
                "annotation {annotation} of Service {service} is ignored: {why}"
            ),
            Finding::FaultsOff { rollout, service } => write!(
                f,
                "the faults that Service {service} asks for are off while CanaryRollout {rollout} has a release under way: nobody is judged by them"
            ),
            Finding::SharedAddress { service, address } => {
                write!(
                    f,
                    "Service {service} has the address {address} of another Service: it has no route there"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
