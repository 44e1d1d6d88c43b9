//! Faults of the cluster itself: only the local one can be treated like this.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::ground::{Ground, GroundError};
use crate::cluster::{Access, Process};

/// A process that is stopped, and goes on when this is dropped.
pub struct Frozen(Process);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}

impl Ground {
    /// Stops the API server: connections to it stay open and get no answer, the worst way to be away.
    pub fn freeze_api_server(&self) -> Result<Frozen, GroundError> {
        let Ground::Local { cluster, .. } = self else {
            return Err(GroundError::NotLocal("stopping the API server"));
        };
        let server = api_server(cluster.access()).ok_or(GroundError::NoApiServer)?;
        server.signal(Signal::SIGSTOP);
        Ok(Frozen(server))
    }
}

/// The one in this cluster's network: by its program, its part, and its namespace.
fn api_server(access: &Access) -> Option<Process> {
    let network = fs::read_link(access.network_namespace()).ok()?;
    let is_it = |pid: i32| {
        let process = Path::new("/proc").join(pid.to_string());
        let part = fs::read(process.join("cmdline")).unwrap_or_default();
        part.split(|byte| *byte == 0).nth(1) == Some(b"kube-apiserver")
            && fs::read_link(process.join("ns/net")).is_ok_and(|namespace| namespace == network)
    };
    let entries = fs::read_dir("/proc").ok()?;
    let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(|pid| is_it(*pid)).and_then(Process::find)
}
