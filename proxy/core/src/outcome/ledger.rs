//! What one worker knows of the first attempts of one revision: an attempt belongs to the second in which it *started*.
//!
//! Counting attempts when they end would favour whatever ends sooner: when a canary's weight rises, its failures are there
//! before its slow successes are. So each second is told as soon as it is over, with what became of its attempts so far, and
//! what becomes of the others is told later as additions to the same second:
//!
//! ```text
//!   second s         | s+1            | s+2            | s+3
//!   attempts start   |  ^ told: all that started,      |  ^ told, and closed
//!                    |    and what ended   ^ told: what ended since
//! ```
//!
//! A closed second never changes: an attempt of it that ends afterwards is told as *late*, in the second in which it ended. So
//! each attempt has ended at most once, and what counts of every one, in either arm, is what was known of it after
//! 2 to 3 seconds.
//!
//! Seconds are numbered by whoever calls; a ledger that nobody asks keeps the last [`SLOTS`] and no more.

use std::time::Duration;

use super::Class;
use super::counts::{Counts, PerClass};
use super::failures::Place;
use super::sketch::Bucket;
use super::trace::Trace;

/// Seconds since the epoch.
pub type Second = u64;

/// How often a second is told: once it is over, and after each of the next ones. With the last time it is closed.
pub const TELLINGS: u64 = 3;
/// Seconds that are kept when nobody asks: those that are open at once, and as many more as a question may be late.
pub const SLOTS: u64 = 8;

/// What there was of an answer when an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// [`Ledger::answered`] was called before.
    Seen,
    /// It failed without one.
    None,
    /// Its caller left after this time.
    Awaited(Duration),
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By second, modulo their number.
    slots: [Slot; SLOTS as usize],
    /// Not told yet.
    late: PerClass,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    second: Second,
    /// What was not told yet.
    new: Counts,
    /// Started, with neither an end nor a head of an answer.
    waiting: u32,
}

impl Ledger {
    /// An attempt starts. With this second it is spoken of later.
    pub fn start(&mut self, second: Second) {
        let slot = self.begin(second);
        slot.new.started += 1;
        slot.waiting = slot.waiting.saturating_add(1);
    }

    /// A request of its share goes to another revision.
    pub fn withhold(&mut self, second: Second) {
        self.begin(second).new.withheld += 1;
    }

    /// The head of its answer is there.
    pub fn answered(&mut self, second: Second, after: Duration) {
        if let Some(slot) = self.open(second) {
            slot.waiting = slot.waiting.saturating_sub(1);
            slot.new.latency.add(Bucket::of(after), 1);
        }
    }

    /// It is over.
    pub fn ended(&mut self, second: Second, class: Class, head: Head) {
        let Some(slot) = self.open(second) else {
            self.late[class] += 1;
            return;
        };
        slot.new.ended[class] += 1;
        match head {
            Head::Seen => {}
            Head::None => slot.waiting = slot.waiting.saturating_sub(1),
            Head::Awaited(time) => {
                slot.waiting = slot.waiting.saturating_sub(1);
                slot.new.latency.add(Bucket::of(time), 1);
            }
        }
    }

    /// The second is the present one.
    fn begin(&mut self, second: Second) -> &mut Slot {
        let slot = &mut self.slots[place(second)];
        if slot.second != second {
            // Nobody has asked for so long: what is in it is lost, and its attempts end late.
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot
    }

    /// One that has ended failed here.
    pub fn failed_at(&mut self, second: Second, place: Place, trace: Option<Trace>) {
        if let Some(slot) = self.open(second) {
            slot.new.failures.add_traced(place, 1, trace);
        }
    }

    fn open(&mut self, second: Second) -> Option<&mut Slot> {
        let slot = &mut self.slots[place(second)];
        (slot.second == second).then_some(slot)
    }

    /// What is new of the seconds before `now`, oldest first; seconds with nothing new are left out.
    pub fn tell(&mut self, now: Second, mut told: impl FnMut(Second, Counts)) {
        for slot in &mut self.slots {
            // Nobody has asked for so long, or the clock was set: it would never be told.
            if slot.second.abs_diff(now) > SLOTS {
                *slot = Slot::default();
            }
        }
        let newest = now.saturating_sub(1);
        for second in now.saturating_sub(SLOTS)..now {
            let slot = &mut self.slots[place(second)];
            let mut counts = Counts::default();
            if slot.second == second {
                counts = std::mem::take(&mut slot.new);
                if second + TELLINGS <= now {
                    counts.latency.add(Bucket::LAST, slot.waiting);
                    *slot = Slot::default();
                }
            }
            if second == newest {
                counts.late = std::mem::take(&mut self.late);
            }
            if !counts.is_empty() {
                told(second, counts);
            }
        }
    }

    /// Forgets what was not told: nobody has asked for a while.
    pub fn skip(&mut self, now: Second) {
        self.tell(now, |_, _| ());
    }

    /// Whether there is nothing to tell, and nothing to wait for.
    pub fn is_idle(&self) -> bool {
        let idle = |slot: &Slot| slot.new.is_empty() && slot.waiting == 0;
        self.late == PerClass::default() && self.slots.iter().all(idle)
    }
}

fn place(second: Second) -> usize {
    // Below SLOTS.
    (second % SLOTS) as usize
}

#[cfg(test)]
mod tests;
