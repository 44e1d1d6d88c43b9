//! The seam between the control plane's client (`ads`) and the data plane.
//!
//! The client calls [`Install`], the data plane implements it; destinations that a pod calls for the first
//! time travel the other way, as [`Demand`]s on a channel. Neither side knows anything else of the other:
//! the client names no worker and no socket, the data plane names no xDS type.
//!
//! ```text
//!   worker --- Demand ---> ads::run --- subscribe dst/<ip>:<port>, app/<ip>:<port> ---> control plane
//!   worker <-- Snapshot -- Install::install <-- ads::run <------------ routes, clusters, endpoints
//!   worker <-- Generation --- Data::identify <-- whoever fetches this pod's certificate
//!   worker --- Outcome --> Install::outcomes -> ads::run --- each second, LRS ----> control plane
//! ```
//!
//! The client acknowledges a version to the control plane when the future of [`Install::install`] resolves,
//! not before: from then on no worker picks by an older snapshot.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use traffic_core::config::{SignedRevocation, Snapshot, Wanted};
use traffic_core::inbound::Unidentified;
use traffic_core::outcome::{Counts, Second};

use crate::identity::Generation;

/// An original destination that a pod called, or an address at which it was called, for which the data plane has no entry in its snapshot.
///
/// The answer is a snapshot whose `routes` or `applications` contain the address (`None` for "no route there"). A demand may be
/// repeated, for example after a connection that had no answer within a second.
pub type Demand = Wanted;

/// How many demands may wait for the client. When it is full a connection is passed through and asks again next time.
pub const DEMANDS: usize = 1024;

/// A boxed future that can be awaited on any thread.
pub type Installed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What became of the first attempts that one revision was given in one second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `<namespace>/<service>/<port>/<revision>`.
    pub cluster: String,
    /// By the wall clock.
    pub second: Second,
    /// What is new since it was told last.
    pub counts: Counts,
}

/// A boxed future that can be awaited on any thread.
pub type Outcomes = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send>>;

/// What the control plane's client may do to the data plane.
pub trait Install: Send + Sync + 'static {
    /// Hands `snapshot` to every worker. Snapshots take effect in the order of the calls (the hand-over happens in
    /// the call, not in the future); the future resolves when every worker uses this snapshot or a later one.
    fn install(&self, snapshot: Arc<Snapshot>) -> Installed;

    /// The revocations that this proxy has seen, the newest of each rollout, sorted: sent to the control plane when a stream opens, so that a
    /// new leader cannot undo a rollback that it did not see. Revocations in snapshots are learned by `install`.
    fn revocations(&self) -> Vec<SignedRevocation>;

    /// Whether every worker has an identity, and with it accepts mutual TLS: the control plane is told then. A data plane that never will has none to tell.
    fn identified(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    /// Who has called this pod without an identity, and how long ago: the control plane is told, so that nobody is refused who called a moment ago. Sorted.
    fn unidentified(&self) -> Vec<(Unidentified, Duration)> {
        Vec::new()
    }

    /// The stream to the control plane opened or ended: `/ready`, metrics, and how long a connection to a new
    /// destination waits for an answer depend on it.
    fn link(&self, link: Link);

    /// Takes what is new of the seconds before `now`, of all workers together: one for each cluster and second, sorted. It is
    /// told once, whatever becomes of it. Resolves at once, but for a worker that is busy.
    fn outcomes(&self, now: Second) -> Outcomes;

    /// Whom to ask how the proxy stands with the control plane.
    fn standing(&self, _standing: Arc<dyn Standing>) {}

    /// What becomes of those reports: metrics.
    fn reporting(&self, news: Reporting);
}

/// How the proxy stands with the control plane: for people who ask.
pub trait Standing: Send + Sync + 'static {
    /// What was exchanged, and the versions of what is held, as JSON.
    fn standing(&self) -> serde_json::Value;
}

/// What there is to say about the stream on which outcomes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// The control plane has asked for them.
    Opened,
    Ended,
    /// So many outcomes are on their way.
    Sent(usize),
    /// So many were not, because the control plane has not read the last ones.
    Dropped(usize),
}

/// What whoever keeps the pod's certificate may do to the data plane.
pub trait Identify: Send + Sync + 'static {
    /// Hands the identity to every worker. Identities take effect in the order of the calls (the hand-over happens in the call, not in the
    /// future); the future resolves when every worker uses this one or a later one.
    fn identify(&self, generation: Arc<Generation>) -> Installed;

    /// What becomes of the certificate: metrics and `/ready`.
    fn renewal(&self, news: Renewal);
}

/// What there is to say about the pod's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The first is going to be asked for.
    Awaited,
    /// Every worker has a new one.
    Issued {
        /// By the wall clock of the pod.
        expires_at: SystemTime,
        /// From when on the next one is asked for.
        due_at: SystemTime,
    },
    /// There is no new one, for now.
    Failed,
    /// The control plane gives none.
    Unserved,
}

/// The state of the stream to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A stream is open and the control plane has answered on it.
    Connected,
    /// There is no stream; the data plane goes on with what it has.
    Disconnected,
}

/// Where the control plane is and who this proxy says it is. Filled from the flags of `aviary-proxy run`.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// `https://aviary-xds.aviary-system.svc:15010` unless told otherwise.
    pub address: String,
    /// PEM of the control plane's certificate authority; without it an `https` address cannot be verified.
    pub root_certs: Option<String>,
    /// The projected ServiceAccount token, read anew for each stream: the kubelet rotates it.
    pub token_file: PathBuf,
    pub pod_name: String,
    pub pod_namespace: String,
    pub pod_ip: Option<IpAddr>,
}
