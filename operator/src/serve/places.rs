//! So many places at once, and so many of them for one guest. Who comes when there is none left gets one all the same: whoever
//! has the most gives up the oldest. So a guest that takes places and does nothing with them loses them, and keeps nobody out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

pub(crate) struct Places<K> {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    last: u64,
    count: usize,
    /// Oldest first.
    by_guest: HashMap<K, VecDeque<(u64, CancellationToken)>>,
}

/// Given back when dropped.
pub(crate) struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    guest: K,
    number: u64,
    lost: CancellationToken,
}

impl<K: Eq + Hash + Clone> Places<K> {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Places<K>> {
        let taken = Taken {
            last: 0,
            count: 0,
            by_guest: HashMap::new(),
        };
        Arc::new(Places {
            most,
            most_of_one,
            taken: Mutex::new(taken),
        })
    }

    pub(crate) fn take(self: &Arc<Self>, guest: K) -> Place<K> {
        let mut taken = lock(&self.taken);
        taken.last += 1;
        let (number, lost) = (taken.last, CancellationToken::new());
        let own = taken.by_guest.entry(guest.clone()).or_default();
        own.push_back((number, lost.clone()));
        let too_many = own.len() > self.most_of_one;
        taken.count += 1;
        if too_many {
            taken.give_up(&guest);
        } else if taken.count > self.most {
            let most = taken.by_guest.iter().max_by_key(|(_, own)| own.len());
            if let Some(most) = most.map(|(guest, _)| guest.clone()) {
                taken.give_up(&most);
            }
        }
        Place {
            places: Arc::clone(self),
            guest,
            number,
            lost,
        }
    }
}

impl<K: Eq + Hash> Taken<K> {
    /// The oldest place of this guest.
    fn give_up(&mut self, guest: &K) {
        let Some(own) = self.by_guest.get_mut(guest) else {
            return;
        };
        if let Some((_, lost)) = own.pop_front() {
            lost.cancel();
            self.count -= 1;
        }
        if own.is_empty() {
            self.by_guest.remove(guest);
        }
    }
}

impl<K: Eq + Hash> Place<K> {
    /// Until another guest has it.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        let Some(own) = taken.by_guest.get_mut(&self.guest) else {
            return;
        };
        let before = own.len();
        own.retain(|(number, _)| *number != self.number);
        let given_back = before - own.len();
        if own.is_empty() {
            taken.by_guest.remove(&self.guest);
        }
        taken.count -= given_back;
    }
}

/// Nothing panics with the lock held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost<K: Eq + Hash>(places: &[Place<K>]) -> Vec<bool> {
        places
            .iter()
            .map(|place| place.lost.is_cancelled())
            .collect()
    }

    #[test]
    fn the_oldest_place_of_a_guest_with_too_many_is_lost() {
        let places = Places::new(10, 2);
        let of_a: Vec<_> = (0..3).map(|_| places.take("a")).collect();
        let of_b = [places.take("b")];
        assert_eq!(lost(&of_a), [true, false, false]);
        assert_eq!(lost(&of_b), [false]);
    }

    #[test]
    fn when_all_are_taken_whoever_has_the_most_gives_one_up() {
        let places = Places::new(4, 3);
        let quiet = [places.take("quiet")];
        let greedy: Vec<_> = (0..3).map(|_| places.take("greedy")).collect();
        let new = [places.take("new")];
        assert_eq!(lost(&greedy), [true, false, false]);
        assert_eq!((lost(&quiet), lost(&new)), (vec![false], vec![false]));
    }

    #[test]
    fn what_is_given_back_is_free_and_nothing_is_left_of_it() {
        let places = Places::new(1, 1);
        for _ in 0..3 {
            let place = places.take("a");
            assert!(!place.lost.is_cancelled());
        }
        let one = places.take("a");
        let other = places.take("a");
        drop((one, other));
        let taken = lock(&places.taken);
        assert!(taken.by_guest.is_empty() && taken.count == 0);
    }
}
