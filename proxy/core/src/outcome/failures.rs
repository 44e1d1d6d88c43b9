//! Where first attempts failed, and what was said there: a few of the places, for people who have to find out why. Nothing is judged
//! by it.

use std::fmt;
use std::net::SocketAddr;

/// The most places that are told from each other; what fails anywhere else is counted and not placed.
pub const MOST_PLACES: usize = 8;

/// What an endpoint said when an attempt failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Said {
    /// It could not be reached, or broke off.
    #[default]
    Nothing,
    Status(u16),
    /// What gRPC says beside a status of 200.
    Grpc(u16),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Nothing => f.write_str("no answer"),
            Said::Status(status) => write!(f, "status {status}"),
            Said::Grpc(status) => write!(f, "grpc-status {status}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub endpoint: SocketAddr,
    pub said: Said,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { endpoint, said } = self;
        write!(f, "{said} from {endpoint}")
    }
}

/// How often, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(Vec<(Place, u64)>);

impl Failures {
    pub fn add(&mut self, place: Place, times: u64) {
        match self.0.binary_search_by_key(&place, |(of, _)| *of) {
            Ok(index) => {
                let (_, known) = &mut self.0[index];
                *known = known.saturating_add(times);
            }
            Err(index) if self.0.len() < MOST_PLACES => self.0.insert(index, (place, times)),
            Err(_) => {}
        }
    }

    pub fn merge(&mut self, other: &Failures) {
        for (place, times) in &other.0 {
            self.add(*place, *times);
        }
    }

    /// In the order of the endpoints.
    pub fn places(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Those with the most failures, most first.
    pub fn worst(&self, count: usize) -> Vec<(Place, u64)> {
        let mut worst = self.0.clone();
        worst.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        worst.truncate(count);
        worst
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16, said: Said) -> Place {
        Place {
            endpoint: SocketAddr::from(([10, 1, 0, 7], port)),
            said,
        }
    }

    #[test]
    fn places_add_up_whatever_their_order_and_the_worst_are_said_first() {
        let (a, b) = (place(80, Said::Status(500)), place(80, Said::Grpc(14)));
        let mut one = Failures::default();
        one.add(a, 2);
        one.add(b, 5);
        one.add(a, 1);
        let mut other = Failures::default();
        other.add(b, 5);
        other.add(a, 3);
        assert_eq!(one, other);
        one.merge(&other);
        assert_eq!(one.worst(1), [(b, 10)]);
        assert_eq!(b.to_string(), "grpc-status 14 from 10.1.0.7:80");
        assert_eq!(a.to_string(), "status 500 from 10.1.0.7:80");
        assert_eq!(
            place(1, Said::Nothing).to_string(),
            "no answer from 10.1.0.7:1"
        );
    }

    #[test]
    fn what_fails_at_more_places_is_not_placed() {
        let mut failures = Failures::default();
        for port in 0..100 {
            failures.add(place(port, Said::Nothing), 1);
        }
        failures.add(place(3, Said::Nothing), 1);
        assert_eq!(failures.places().count(), MOST_PLACES);
        assert_eq!(failures.worst(1), [(place(3, Said::Nothing), 2)]);
        let mut full = Failures::default();
        full.add(place(3, Said::Nothing), u64::MAX);
        full.merge(&failures);
        assert_eq!(full.worst(1)[0].1, u64::MAX);
    }
}
