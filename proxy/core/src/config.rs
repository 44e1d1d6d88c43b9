//! What the control plane tells a proxy, validated: the only configuration that the data plane ever sees.
//!
//! Every type here is the validated twin of an xDS resource; `aviary-xds` converts both ways and nothing
//! else names the wire types. A value of these types is right by construction: a route without a stable
//! arm or a weight above 100 % cannot be built.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::bounds::Bounds;
use crate::fuse::Tolerance;
pub use crate::inbound::Inbound;
use crate::lease::Lease;
use crate::split::sticky;
pub use crate::weight::{Weight, WeightAboveWhole};

/// How a connection to a destination is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The first bytes decide between HTTP/1.1, HTTP/2 and opaque bytes.
    #[default]
    Detect,
    /// The Service's port says HTTP (name or `appProtocol` http, http2, h2c, grpc): wait for the first bytes as long as it takes.
    Http,
    /// The Service's port says something else (tcp, tls, https, mysql, ...): bytes are passed on unread.
    Opaque,
}

/// One way a request can go: a revision of the Service, and the cluster that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arm {
    /// `<namespace>/<service>/<port>/<revision>`.
    pub cluster: String,
    pub revision: String,
}

/// The canary's arm: its share, and the run that earned it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanaryArm {
    pub arm: Arm,
    pub weight: Weight,
    /// The run's number: a revocation names it, and only a newer run may raise the revision again.
    pub run: u64,
    /// For how long the weight holds without a renewal. Without meaning at weight 0.
    pub lease: Lease,
    /// From which difference on a proxy holds requests back by itself; `None`: it never does.
    pub fuse: Option<Tolerance>,
    /// What in a request says whose it is: its user stays with one revision. `None`: requests are interleaved.
    pub sticky: Option<sticky::Key>,
}

impl CanaryArm {
    /// How long the weight is good for; `None`: until the control plane says otherwise.
    pub fn ttl(&self) -> Option<Duration> {
        self.lease.ttl().filter(|_| self.weight != Weight::ZERO)
    }
}

/// The stable revision takes whatever the canary does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    pub stable: Arm,
    pub canary: Option<CanaryArm>,
}

/// "This revision was rolled back in this run": never raise it again for a run that is not newer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revocation {
    /// `<namespace>/<name>` of the CanaryRollout.
    pub rollout: String,
    pub revision: String,
    pub run: u64,
}

/// The control plane's word that a revocation is its own. Opaque to proxies: they keep it and hand it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature(pub [u8; 32]);

/// A revocation as it travels to proxies and back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignedRevocation {
    pub revocation: Revocation,
    /// `None`: of a control plane that did not sign yet. A proxy obeys it, and nobody believes its report of it.
    pub signature: Option<Signature>,
}

impl From<Revocation> for SignedRevocation {
    /// Without a signature.
    fn from(revocation: Revocation) -> SignedRevocation {
        SignedRevocation {
            revocation,
            signature: None,
        }
    }
}

/// What a proxy does with connections to one port of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `<namespace>/<service>/<port>`.
    pub name: String,
    /// The Service, for metrics.
    pub namespace: String,
    pub service: String,
    pub port: u16,
    pub protocol: Protocol,
    /// `<namespace>/<name>` of the CanaryRollout behind it.
    pub rollout: String,
    pub split: Split,
    /// What the Service's owner allows a call.
    pub bounds: Bounds,
    /// Revisions of this rollout that were rolled back.
    pub revoked: Vec<SignedRevocation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    /// Finishes what it has and gets nothing new.
    Draining,
}

/// Who answers at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expected {
    /// The SPIFFE ID in the certificate that the endpoint has to show (see [`spiffe`](crate::spiffe)).
    pub id: Arc<str>,
    /// The endpoint's sidecar has said that it accepts TLS. While it has not, nobody may count on it.
    pub accepts: bool,
    /// Its namespace refuses plaintext: nothing may be sent there in the clear, whatever the sidecar has said.
    pub demands: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub health: Health,
    /// `None`: something without an identity, such as what is no pod, or a port that bypasses the sidecar.
    pub identity: Option<Expected>,
    /// What its pod is one of, where that has been asked for: nothing is decided by it.
    pub workload: Option<Arc<str>>,
}

/// The endpoints of one revision of one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `<namespace>/<service>/<port>/<revision>`.
    pub name: String,
    /// Sorted, without duplicates.
    pub endpoints: Vec<Endpoint>,
}

/// What a proxy asks the route of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// An address that its application calls.
    Destination(SocketAddr),
    /// An address of its own at which its application is called: by callers without a sidecar, whose requests nobody has split.
    Application(SocketAddr),
}

impl From<SocketAddr> for Wanted {
    fn from(destination: SocketAddr) -> Wanted {
        Wanted::Destination(destination)
    }
}

/// Everything a proxy knows at one moment: swapped whole, never changed in place.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By original destination. `None`: the control plane knows no route there, so pass through.
    pub routes: HashMap<SocketAddr, Option<Arc<Route>>>,
    /// By an address of this pod's at which its application answers: the route whose endpoint that is. `None`: there is nothing to split.
    pub applications: HashMap<SocketAddr, Option<Arc<Route>>>,
    /// By cluster name.
    pub clusters: HashMap<String, Arc<Cluster>>,
    /// What to do with what comes in. `None`: the control plane has not said.
    pub inbound: Option<Arc<Inbound>>,
}
