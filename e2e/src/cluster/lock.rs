//! One local cluster at a time: its cgroups are the machine's, and so are the memory and the
//! cores that it takes. The lock says who holds it, so that a refusal can say so too.
//!
//! It is an advisory lock on a file (`flock`), which the kernel takes back when its holder dies.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("the local cluster is in use by {0}: wait for it, or end it with `kill {pid}`", pid = .0.pid)]
    Held(Holder),
    #[error(
        "the local cluster is in use by a process that did not say who it is (see `fuser {0}`)"
    )]
    HeldBySomeone(PathBuf),
    #[error("cannot use the lock file {path}")]
    File { path: PathBuf, source: io::Error },
}

/// Who has the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What a person would recognise: `make demo`.
    pub command: String,
    pub pid: u32,
    pub since: Timestamp,
}

impl Holder {
    pub fn this_process(command: &str) -> Self {
        let now = Timestamp::now();
        let since = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self {
            command: command.to_owned(),
            pid: std::process::id(),
            since,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` (pid {}, since {})",
            self.command, self.pid, self.since
        )
    }
}

/// The lock, until it is dropped. The file goes with it.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    pub(super) fn take(path: &Path, holder: &Holder) -> Result<Self, LockError> {
        let failed = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held_by(&mut file, path)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // The last holder may have removed the file between our open and our lock.
            let same = fs::metadata(path)
                .is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
            if same {
                let text = serde_json::to_string(holder).map_err(|error| failed(error.into()))?;
                file.set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(text.as_bytes()))
                    .map_err(failed)?;
                return Ok(Self {
                    path: path.to_owned(),
                    _file: file,
                });
            }
        }
    }
}

impl Drop for Lock {
    /// Removed while still locked: whoever opened it meanwhile sees that it is not the file any more.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn held_by(file: &mut File, path: &Path) -> LockError {
    let mut text = String::new();
    let holder = file
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| serde_json::from_str(&text).ok());
    holder.map_or_else(
        || LockError::HeldBySomeone(path.to_owned()),
        LockError::Held,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(test: &str) -> PathBuf {
        std::env::temp_dir().join(format!("aviary-lock-{test}-{}", std::process::id()))
    }

    #[test]
    fn the_second_taker_is_told_who_holds_it_and_how_to_end_it() {
        let path = path("second");
        let holder = Holder {
            command: "make demo".into(),
            pid: 4711,
            since: "2026-11-23T19:00:00Z".parse().unwrap(),
        };
        let lock = Lock::take(&path, &holder).unwrap();
        let refusal = Lock::take(&path, &Holder::this_process("make test")).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the local cluster is in use by `make demo` (pid 4711, since 2026-11-23T19:00:00Z): wait for it, or end it with `kill 4711`"
        );
        drop(lock);
    }

    #[test]
    fn a_released_lock_can_be_taken_again_and_leaves_no_file() {
        let path = path("again");
        for _ in 0..3 {
            drop(Lock::take(&path, &Holder::this_process("test")).unwrap());
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_file_left_by_a_killed_process_does_not_block() {
        let path = path("stale");
        fs::write(&path, "rubbish").unwrap();
        drop(Lock::take(&path, &Holder::this_process("test")).unwrap());
    }

    #[test]
    fn a_lock_file_that_cannot_be_made_is_named() {
        let error =
            Lock::take(Path::new("/proc/no/lock"), &Holder::this_process("test")).unwrap_err();
        assert_eq!(error.to_string(), "cannot use the lock file /proc/no/lock");
    }
}
