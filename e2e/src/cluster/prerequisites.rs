//! What the machine must bring along, checked before anything is started.

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// By program, since that is what counts; `e2e/setup.sh` knows the packages.
const PROGRAMS: [&str; 7] = [
    "containerd",
    "ctr",
    "runc",
    "conntrack",
    "nft",
    "ip",
    "unshare",
];
const CNI: [&str; 3] = ["bridge", "host-local", "portmap"];
/// Covered by empty directories inside the node, so that nothing of it stays behind there.
const COVERED: [&str; 3] = ["/run", "/var/lib", "/var/log"];

#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error(
        "the local cluster needs root (namespaces, cgroups, mounts): run as root, or give your own cluster by E2E_KUBECONFIG"
    )]
    Root,
    #[error("the local cluster needs {}: run e2e/setup.sh as root (Debian, Ubuntu), or install it by hand", .0.join(", "))]
    Programs(Vec<String>),
    #[error(
        "the cluster's state cannot be in {0}, since the node has a {1} of its own: set TMPDIR to another place"
    )]
    State(PathBuf, &'static str),
}

pub(super) fn check_root() -> Result<(), Missing> {
    if geteuid().is_root() {
        Ok(())
    } else {
        Err(Missing::Root)
    }
}

pub(super) fn check(state: &Path) -> Result<(), Missing> {
    check_root()?;
    if let Some(covered) = COVERED
        .into_iter()
        .find(|covered| state.starts_with(covered))
    {
        return Err(Missing::State(state.to_owned(), covered));
    }
    let programs = PROGRAMS
        .into_iter()
        .filter(|name| !on_path(name))
        .map(str::to_owned);
    let plugins = CNI
        .iter()
        .map(|name| format!("/usr/lib/cni/{name}"))
        .filter(|path| !Path::new(path).exists());
    let missing: Vec<_> = programs.chain(plugins).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Missing::Programs(missing))
    }
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_comes_with_the_way_to_install_it() {
        let text = Missing::Programs(vec!["runc".into(), "nft".into()]).to_string();
        assert!(
            text.starts_with("the local cluster needs runc, nft: run e2e/setup.sh"),
            "{text}"
        );
    }

    #[test]
    fn programs_are_found_on_the_search_path() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program"));
    }
}
