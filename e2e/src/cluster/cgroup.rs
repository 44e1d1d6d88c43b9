//! The cgroup `/e2e` that holds all pods: the only thing of the cluster that no namespace hides.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::wait_until;

const ROOT: &str = "/sys/fs/cgroup";
const NAME: &str = "e2e";
/// What the kubelet asks for on cgroup v2, where a group has what its parent passes on.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "hugetlb", "pids"];

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "cannot make the cgroup {0}: is /sys/fs/cgroup writable, and is this the machine's own root cgroup?"
    )]
    Make(PathBuf, #[source] io::Error),
    #[error(
        "cannot pass the controllers {1} on from the root cgroup {0}: in a container, give it the host's cgroup namespace"
    )]
    PassOn(PathBuf, String, #[source] io::Error),
}

/// Makes it in every hierarchy of cgroup v1, or in the one of v2.
pub(super) fn make() -> Result<(), CgroupError> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return make_unified(root);
    }
    for hierarchy in hierarchies(root) {
        // A hybrid machine's v2 hierarchy has no controllers.
        if !hierarchy.join("cgroup.controllers").exists() {
            make_directory(&hierarchy.join(NAME))?;
        }
    }
    // A new v1 cpuset is empty, and takes no process until it is told its share.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (
            root.join("cpuset").join(file),
            root.join("cpuset").join(NAME).join(file),
        );
        if from.exists() {
            fs::read(&from)
                .and_then(|share| fs::write(&to, share))
                .map_err(|source| CgroupError::Make(to, source))?;
        }
    }
    Ok(())
}

fn make_unified(root: &Path) -> Result<(), CgroupError> {
    let available = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let wanted = pass_on(&available);
    let control = root.join("cgroup.subtree_control");
    fs::write(&control, &wanted).map_err(|source| CgroupError::PassOn(control, wanted, source))?;
    make_directory(&root.join(NAME))
}

/// The line for `cgroup.subtree_control`.
fn pass_on(available: &str) -> String {
    let ours = available
        .split_whitespace()
        .filter(|controller| CONTROLLERS.contains(controller));
    ours.map(|controller| format!("+{controller}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Removes it everywhere; the names of those that would not go within the time. A cgroup is busy
/// for a moment after its last process.
pub(super) fn remove(within: Duration) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut ours: Vec<_> = hierarchies(root)
        .into_iter()
        .map(|hierarchy| hierarchy.join(NAME))
        .collect();
    ours.push(root.join(NAME));
    wait_until(within, || {
        ours.retain(|group| group.exists() && remove_tree(group).is_err());
        ours.is_empty()
    });
    ours
}

/// Whatever is not in use.
pub(super) fn remove_now() -> Vec<PathBuf> {
    remove(Duration::ZERO)
}

/// The files in a cgroup are not removable and not in the way: only directories count.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

fn hierarchies(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    // cpu,cpuacct and the like are often links to one hierarchy.
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn make_directory(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(|source| CgroupError::Make(path.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_controllers_that_exist_are_passed_on() {
        assert_eq!(
            pass_on("cpuset cpu io memory pids rdma\n"),
            "+cpuset +cpu +memory +pids"
        );
    }
}
