//! Processes that outlive the handle that started them, found again by what does not repeat.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process by its id and its start time: ids are given out again, pairs are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub pid: i32,
    started: u64,
}

impl Process {
    /// None when there is no such process, or only its zombie.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (stat.state != 'Z').then_some(Self {
            pid,
            started: stat.started,
        })
    }

    pub(crate) fn of(child: &std::process::Child) -> Option<Self> {
        Self::find(i32::try_from(child.id()).ok()?)
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    pub(crate) fn children(self) -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| Stat::read(*pid).is_some_and(|stat| stat.parent == self.pid))
            .filter_map(Self::find)
            .collect()
    }

    /// A process that is gone already is no error.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Whether it was gone within the time.
    pub(crate) fn wait_gone(self, within: Duration) -> bool {
        wait_until(within, || !self.is_alive())
    }
}

/// Whether the condition came true within the time.
pub(crate) fn wait_until(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
}

/// What is of use in /proc/PID/stat.
struct Stat {
    state: char,
    parent: i32,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The program's name may hold spaces and brackets, so the fields are counted after its end.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let line = format!(
            "7 (a) S (b) R 1 {} 4242 0",
            (0..17).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
        );
        let stat = Stat::parse(&line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.started), ('R', 1, 4242));
    }

    #[test]
    fn a_child_is_found_signalled_and_gone() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(&child).unwrap();
        assert!(
            Process::find(std::process::id().try_into().unwrap())
                .unwrap()
                .children()
                .contains(&process)
        );
        process.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn a_reused_process_id_is_another_process() {
        let mut this = Process::find(std::process::id().try_into().unwrap()).unwrap();
        assert!(this.is_alive());
        this.started += 1;
        assert!(!this.is_alive());
    }
}
