//! What became of the first attempts of one second, for one revision of one Service port.

use std::ops::{Index, IndexMut};

use super::Class;
use super::failures::Failures;
use super::sketch::Sketch;

/// A number for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerClass([u64; 4]);

impl PerClass {
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, each| sum.saturating_add(*each))
    }

    /// What speaks against the revision.
    pub fn errors(&self) -> u64 {
        self[Class::Failure].saturating_add(self[Class::Unsent])
    }
}

impl From<[u64; 4]> for PerClass {
    /// In the order of [`Class::ALL`].
    fn from(numbers: [u64; 4]) -> PerClass {
        PerClass(numbers)
    }
}

impl Index<Class> for PerClass {
    type Output = u64;

    fn index(&self, class: Class) -> &u64 {
        &self.0[class.index()]
    }
}

impl IndexMut<Class> for PerClass {
    fn index_mut(&mut self, class: Class) -> &mut u64 {
        &mut self.0[class.index()]
    }
}

/// Numbers of one second; also what is new since they were told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// First attempts that started in it.
    pub started: u64,
    /// What became of those, as far as they ended before the second was closed.
    pub ended: PerClass,
    /// Attempts of seconds that are closed, which ended in it.
    pub late: PerClass,
    /// From the arrival of the request's head to the head of the answer. A caller that left before that counts with the time
    /// until then; an attempt without an answer when the second was closed is in the last bucket; one that failed
    /// before is not in it.
    pub latency: Sketch,
    /// Requests of its share that a proxy's fuse gave to stable.
    pub withheld: u64,
    /// Long streams to the revision that are still open although it has no weight any more ([`withdrawal`](crate::withdrawal)), when the second was told.
    pub open: u64,
    /// Where those failed that ended, in part.
    pub failures: Failures,
}

impl Counts {
    pub fn is_empty(&self) -> bool {
        self == &Counts::default()
    }

    pub fn merge(&mut self, other: &Counts) {
        self.started = self.started.saturating_add(other.started);
        for class in Class::ALL {
            self.ended[class] = self.ended[class].saturating_add(other.ended[class]);
            self.late[class] = self.late[class].saturating_add(other.late[class]);
        }
        self.latency.merge(&other.latency);
        self.withheld = self.withheld.saturating_add(other.withheld);
        self.open = self.open.saturating_add(other.open);
        self.failures.merge(&other.failures);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sketch::Bucket;
    use super::*;

    #[test]
    fn failures_and_what_was_not_sent_are_errors() {
        let mut numbers = PerClass::default();
        for (class, number) in Class::ALL.into_iter().zip([1, 20, 300, 4_000]) {
            numbers[class] += number;
        }
        assert_eq!(numbers, PerClass::from([1, 20, 300, 4_000]));
        assert_eq!(numbers.total(), 4_321);
        let [failure, unsent] = [Class::Failure, Class::Unsent].map(|class| numbers[class]);
        assert_eq!(numbers.errors(), failure + unsent);
        assert!(failure != unsent && failure.min(unsent) > 1);
    }

    #[test]
    fn what_several_workers_counted_adds_up_and_a_full_number_stays_full() {
        let bucket = Bucket::of(Duration::from_millis(3));
        let counts = |started, latency| Counts {
            started,
            ended: PerClass::from([1, 2, 3, started]),
            late: PerClass::from([5, 6, 7, 8]),
            latency: [(bucket, latency)].into_iter().collect(),
            withheld: started,
            open: started,
            failures: Failures::default(),
        };
        let mut sum = counts(10, 4);
        sum.merge(&counts(u64::MAX, 5));
        let both = Counts {
            started: u64::MAX,
            ended: PerClass::from([2, 4, 6, u64::MAX]),
            late: PerClass::from([10, 12, 14, 16]),
            latency: [(bucket, 9)].into_iter().collect(),
            withheld: u64::MAX,
            open: u64::MAX,
            failures: Failures::default(),
        };
        assert_eq!(sum, both);
        assert!(Counts::default().is_empty() && !sum.is_empty());
    }
}
