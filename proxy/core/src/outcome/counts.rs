//! What became of the first attempts of one second, for one revision of one Service port.

use std::ops::{Index, IndexMut};

use super::Class;
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
    }
}
