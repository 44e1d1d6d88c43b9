//! Where first attempts failed, and what was said there: a few of the places, for people who have to find out why. Nothing is judged
//! by it.

use std::fmt;
use std::net::SocketAddr;

use super::trace::Trace;

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

/// What failed at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub place: Place,
    pub times: u64,
    /// Of the latest of them that had one.
    pub trace: Option<Trace>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.times, self.place)?;
        match &self.trace {
            Some(trace) => write!(f, " ({trace})"),
            None => Ok(()),
        }
    }
}

/// How often, by place, in the order of the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(Vec<Failed>);

impl Failures {
    pub fn add(&mut self, place: Place, times: u64) {
        self.add_traced(place, times, None);
    }

    /// The latest of them had this trace.
    pub fn add_traced(&mut self, place: Place, times: u64, trace: Option<Trace>) {
        match self.0.binary_search_by_key(&place, |failed| failed.place) {
            Ok(index) => {
                let known = &mut self.0[index];
                known.times = known.times.saturating_add(times);
                if trace.is_some() {
                    known.trace = trace;
                }
            }
            Err(index) if self.0.len() < MOST_PLACES => {
                let failed = Failed {
                    place,
                    times,
                    trace,
                };
                self.0.insert(index, failed);
            }
            Err(_) => {}
        }
    }

    /// `other` is not older.
    pub fn merge(&mut self, other: &Failures) {
        for failed in &other.0 {
            self.add_traced(failed.place, failed.times, failed.trace.clone());
        }
    }

    /// In the order of the endpoints.
    pub fn places(&self) -> impl Iterator<Item = &Failed> {
        self.0.iter()
    }

    /// Those with the most failures, most first.
    pub fn worst(&self, count: usize) -> Vec<&Failed> {
        let mut worst: Vec<&Failed> = self.0.iter().collect();
        worst.sort_by_key(|failed| std::cmp::Reverse(failed.times));
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

    fn worst(of: &Failures) -> (Place, u64) {
        let worst = of.worst(1)[0];
        (worst.place, worst.times)
    }

    #[test]
    fn the_latest_trace_of_a_place_is_kept() {
        let trace = |digit: &str| Trace::read(digit.repeat(32).as_bytes(), b"/pay");
        let here = place(80, Said::Status(500));
        let mut failures = Failures::default();
        failures.add_traced(here, 1, trace("a"));
        failures.add_traced(here, 1, trace("b"));
        failures.add(here, 1);
        let said = |of: &Failures| of.worst(1)[0].to_string();
        let b = format!(
            "3 with status 500 from 10.1.0.7:80 (trace {} of /pay)",
            "b".repeat(32)
        );
        assert_eq!(said(&failures), b);
        let mut later = Failures::default();
        later.add_traced(here, 1, trace("c"));
        failures.merge(&later);
        assert_eq!(failures.worst(1)[0].trace, trace("c"));
        later.merge(&Failures::default());
        assert_eq!(later.worst(1)[0].trace, trace("c"));
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
        assert_eq!(worst(&one), (b, 10));
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
        assert_eq!(worst(&failures), (place(3, Said::Nothing), 2));
        let mut full = Failures::default();
        full.add(place(3, Said::Nothing), u64::MAX);
        full.merge(&failures);
        assert_eq!(worst(&full).1, u64::MAX);
    }
}
