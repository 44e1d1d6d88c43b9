//! Where the cluster keeps its files, and what it notes there for those who come later.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lock::Holder;
use super::process::Process;

/// Everything is below one directory; all but the lock goes with the cluster.
#[derive(Debug, Clone)]
pub(crate) struct State {
    base: PathBuf,
}

/// Who runs, for `down`, `kubectl` and refusals of other processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub holder: Holder,
    /// Kept running after its holder's end.
    pub kept: bool,
    /// `unshare`: the parent of process 1 of the node, and in its network namespace.
    pub node: Process,
    /// The binary that it runs, which is kubectl as well.
    pub binary: PathBuf,
}

impl State {
    pub(crate) fn of_this_machine() -> Self {
        Self {
            base: std::env::temp_dir().join("aviary-e2e"),
        }
    }

    /// Root only: the way to it may lead through a directory that everyone writes to.
    pub(crate) fn make_base(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.base) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
        let found = fs::symlink_metadata(&self.base)?;
        if found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() {
            Ok(())
        } else {
            Err(io::Error::other(
                "it exists, and is not a directory of this user's; remove it",
            ))
        }
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.base.join("lock")
    }

    /// The cluster's own directory.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.base.join("cluster")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.cluster().join(name)
    }

    pub(crate) fn kubernetes(&self) -> PathBuf {
        self.file("k8s")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.kubernetes().join("admin.kubeconfig")
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.file("containerd.sock")
    }

    /// A new directory with the node's configuration.
    pub(crate) fn write_configuration(&self) -> io::Result<()> {
        fs::create_dir_all(self.file("cni"))?;
        let here = self.cluster().to_string_lossy().into_owned();
        let fill = |template: &str| template.replace("@STATE@", &here);
        fs::write(
            self.file("containerd.toml"),
            fill(include_str!("../../cluster/containerd.toml.in")),
        )?;
        fs::write(
            self.file("cni/10-e2e.conflist"),
            fill(include_str!("../../cluster/cni.conflist.in")),
        )
    }

    /// None when there is none, or none that can be read: then there is nothing to find by it.
    pub(crate) fn record(&self) -> Option<Record> {
        serde_json::from_str(&fs::read_to_string(self.file("node.json")).ok()?).ok()
    }

    pub(crate) fn write_record(&self, record: &Record) -> io::Result<()> {
        let (file, temporary) = (self.file("node.json"), self.file("node.json.part"));
        fs::write(&temporary, serde_json::to_string(record)?)?;
        fs::rename(temporary, file)
    }

    pub(crate) fn remove_cluster(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.cluster()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Only when empty: the lock may be somebody's again.
    pub(crate) fn remove_base(&self) {
        let _ = fs::remove_dir(&self.base);
    }
}
