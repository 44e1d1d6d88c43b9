//! What is said of single requests, where a pod wants it: lines of an access log, and Istio's metrics. Where nobody wants it there is no
//! [`Telemetry`], and a request pays for the look whether there is one.
//!
//! A request has an [`Entry`] from its head to its end, which then goes to the log's own thread ([`log`]) and to the counters
//! ([`Istio`]).
//!
//! Not here: opaque connections, the pod's probes, and what was refused before it was a request (a head that is none, or is too large).

pub mod entry;
pub mod flag;
mod istio;
mod line;
pub mod log;
mod peers;

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use traffic_core::config::{Cluster, Weight};
use traffic_core::telemetry::{AccessLog, AccessLogPath, MetricNames};

use crate::metrics::istio::Istio;
use crate::metrics::{LogLines, Workload};
pub use entry::Entry;
pub use flag::{Flag, Flags};
use log::{Log, Writer};
use peers::Peers;

/// What a pod wants to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub access_log: AccessLog,
    pub path: AccessLogPath,
    pub names: MetricNames,
}

/// Where lines of the access log are written.
pub type Output = Box<dyn Write + Send>;

pub struct Telemetry {
    path: AccessLogPath,
    log: Option<(Log, Weight)>,
    istio: Option<Arc<Istio>>,
    peers: Peers,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// `None`: nothing is wanted. With the thread that writes the access log to `output`, if there is one.
    pub fn start(
        wanted: Wanted,
        workload: &Workload,
        output: Output,
        lines: &Arc<LogLines>,
    ) -> std::io::Result<Option<(Arc<Telemetry>, Option<Writer>)>> {
        let (log, writer) = match wanted.access_log {
            AccessLog::Off => (None, None),
            AccessLog::On(share) => {
                let (log, writer) = log::start(output, lines.clone())?;
                (Some((log, share)), Some(writer))
            }
        };
        let istio = match wanted.names {
            MetricNames::Aviary => None,
            MetricNames::Istio => Some(Arc::new(Istio::of(workload))),
        };
        if log.is_none() && istio.is_none() {
            return Ok(None);
        }
        let telemetry = Telemetry {
            path: wanted.path,
            log,
            istio,
            peers: Peers::default(),
        };
        Ok(Some((Arc::new(telemetry), writer)))
    }

    /// The counters under Istio's names, if they are wanted.
    pub fn istio(&self) -> Option<&Arc<Istio>> {
        self.istio.as_ref()
    }

    /// These are all endpoints that requests can go to.
    pub fn know<'c>(&self, clusters: impl Iterator<Item = &'c Arc<Cluster>>) {
        if self.istio.is_some() {
            self.peers.set(clusters);
        }
    }

    /// This pod has this SPIFFE ID.
    pub fn identify(&self, id: &Arc<str>) {
        self.peers.identify(id);
    }

    /// A request is over.
    fn over(&self, record: entry::Record) {
        if let Some(istio) = &self.istio {
            istio::count(istio, &record, self.peers.of(&record));
        }
        if let Some((log, share)) = &self.log
            && (record.is_error() || is_in(*share))
        {
            log.offer(record);
        }
    }
}

/// By chance: no pattern in the requests can align with it.
fn is_in(share: Weight) -> bool {
    share != Weight::ZERO && fastrand::u32(..Weight::SCALE) < share.units()
}
