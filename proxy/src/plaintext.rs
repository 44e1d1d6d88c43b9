//! Who has called this pod without showing who they are: the control plane asks nobody to be refused who has called a moment ago.
//!
//! A caller is an address and a port of the application's. Probes are none. One whose connection is open counts as seen now, however long that has been
//! silent. Only so many are kept: the oldest make room, and of those that are open more are not taken.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use traffic_core::inbound::{MOST_UNIDENTIFIED, Unidentified};

/// For how long somebody is remembered whose connections are closed.
pub const MEMORY: Duration = Duration::from_secs(10 * 60);

/// Whoever was seen, by all workers.
#[derive(Debug, Default)]
pub struct PlainCallers(Mutex<HashMap<Unidentified, Entry>>);

#[derive(Debug)]
struct Entry {
    /// Connections.
    open: usize,
    last: Instant,
}

/// A connection of somebody's, until it is dropped.
#[derive(Debug)]
pub struct Noted {
    of: Arc<PlainCallers>,
    caller: Unidentified,
}

impl PlainCallers {
    /// Somebody calls.
    pub fn note(self: &Arc<PlainCallers>, address: IpAddr, port: u16, now: Instant) -> Noted {
        let address = address.to_canonical();
        let caller = Unidentified { address, port };
        let mut all = self.all();
        if all.len() >= MOST_UNIDENTIFIED && !all.contains_key(&caller) {
            let closed = all.iter().filter(|(_, entry)| entry.open == 0);
            let oldest = closed.min_by_key(|(_, entry)| entry.last);
            if let Some(oldest) = oldest.map(|(caller, _)| *caller) {
                all.remove(&oldest);
            }
        }
        if all.len() < MOST_UNIDENTIFIED || all.contains_key(&caller) {
            let entry = all.entry(caller).or_insert(Entry { open: 0, last: now });
            entry.open += 1;
            entry.last = now;
        }
        drop(all);
        Noted {
            of: Arc::clone(self),
            caller,
        }
    }

    /// Who was seen, and how long ago. Sorted.
    pub fn seen(&self, now: Instant) -> Vec<(Unidentified, Duration)> {
        let mut all = self.all();
        let age = |entry: &Entry| match entry.open {
            0 => now.saturating_duration_since(entry.last),
            _ => Duration::ZERO,
        };
        all.retain(|_, entry| age(entry) < MEMORY);
        let mut seen: Vec<_> = all
            .iter()
            .map(|(caller, entry)| (*caller, age(entry)))
            .collect();
        seen.sort();
        seen
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Unidentified, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(entry) = self.of.all().get_mut(&self.caller) {
            entry.open = entry.open.saturating_sub(1);
            entry.last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        let [.., high, low] = number.to_be_bytes();
        IpAddr::from([10, 1, high, low])
    }

    fn seen(callers: &PlainCallers, now: Instant) -> Vec<(IpAddr, u64)> {
        let seen = callers.seen(now).into_iter();
        seen.map(|(caller, age)| (caller.address, age.as_secs()))
            .collect()
    }

    #[test]
    fn whoever_called_is_known_for_a_while_and_whoever_is_there_for_as_long_as_that() {
        let callers = Arc::new(PlainCallers::default());
        let start = Instant::now();
        let open = callers.note(address(1), 80, start);
        drop(callers.note(address(2), 80, start));
        let later = Instant::now() + MEMORY / 2;
        let known = seen(&callers, later);
        assert_eq!(known.len(), 2);
        assert_eq!(known[0], (address(1), 0));
        assert!(known[1].1.abs_diff(300) <= 1, "{known:?}");
        let later = Instant::now() + MEMORY;
        assert_eq!(seen(&callers, later), [(address(1), 0)]);
        drop(open);
        assert_eq!(seen(&callers, Instant::now() + MEMORY), []);
    }

    #[test]
    fn several_connections_of_one_caller_are_one_and_its_ports_are_not() {
        let callers = Arc::new(PlainCallers::default());
        let now = Instant::now();
        let mapped: IpAddr = "::ffff:10.1.0.1".parse().unwrap();
        let all = [(address(1), 80), (mapped, 80), (address(1), 81)]
            .map(|(address, port)| callers.note(address, port, now));
        let known: Vec<u16> = callers.seen(now).iter().map(|(it, _)| it.port).collect();
        assert_eq!(known, [80, 81]);
        drop(all);
    }

    #[test]
    fn the_oldest_make_room_and_those_who_are_there_do_not() {
        let callers = Arc::new(PlainCallers::default());
        let now = Instant::now();
        let held: Vec<Noted> = (0..MOST_UNIDENTIFIED - 1)
            .map(|number| callers.note(address(number), 80, now))
            .collect();
        drop(callers.note(address(1000), 80, now));
        let last = callers.note(address(1001), 80, now);
        let known = seen(&callers, Instant::now());
        assert_eq!(known.len(), MOST_UNIDENTIFIED);
        assert!(known.iter().all(|(known, _)| *known != address(1000)));
        // Nobody makes room for this one, and its end is nobody's.
        drop(callers.note(address(1002), 80, now));
        assert_eq!(seen(&callers, Instant::now()).len(), MOST_UNIDENTIFIED);
        drop((held, last));
    }
}
