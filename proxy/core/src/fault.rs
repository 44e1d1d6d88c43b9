//! Faults that the owner of a Service asks for, to see what callers make of them: requests that are kept waiting, and requests that are answered with an error,
//! by chance or by a header.
//!
//! A fault is put in by the calling sidecar and says nothing of any revision: what became of such a request is evidence for nobody. While a release is judged
//! there are none.

use std::time::Duration;

use crate::split::sticky::{Head, InvalidKey, Key};
use crate::weight::Weight;

/// The longest that a request is kept waiting.
pub const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What is put in. At least one of delay and abort.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    delay: Option<Delay>,
    abort: Option<Abort>,
    only: Option<Only>,
}

/// A share of the requests goes on after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delay {
    share: Weight,
    time: Duration,
}

/// A share of the requests is answered with this status, and goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Abort {
    share: Weight,
    status: u16,
}

/// Requests of which a header has this value, and no others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Only {
    header: Key,
    value: Box<str>,
}

/// What is put into one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    pub delay: Option<Duration>,
    /// With this status.
    pub abort: Option<u16>,
}

impl Delay {
    /// `None`: of no request, for no time, or for longer than [`LONGEST_DELAY`].
    pub fn new(share: Weight, time: Duration) -> Option<Delay> {
        let is_one = share != Weight::ZERO && !time.is_zero() && time <= LONGEST_DELAY;
        is_one.then_some(Delay { share, time })
    }

    pub fn share(self) -> Weight {
        self.share
    }

    pub fn time(self) -> Duration {
        self.time
    }
}

impl Abort {
    /// `None`: of no request, or with a status that is no error (400 to 599).
    pub fn new(share: Weight, status: u16) -> Option<Abort> {
        let is_one = share != Weight::ZERO && (400..=599).contains(&status);
        is_one.then_some(Abort { share, status })
    }

    pub fn share(self) -> Weight {
        self.share
    }

    pub fn status(self) -> u16 {
        self.status
    }
}

impl Only {
    /// The name may be in whatever case.
    pub fn header(name: &str, value: &str) -> Result<Only, InvalidKey> {
        Ok(Only {
            header: Key::header(name)?,
            value: value.trim().into(),
        })
    }

    /// In lower case.
    pub fn name(&self) -> &str {
        match &self.header {
            Key::Header(name) | Key::Cookie(name) => name.as_str(),
        }
    }

    pub fn value(&self) -> &str {
        &self.value
    }
}

impl Faults {
    /// `None`: nothing is put in.
    pub fn new(delay: Option<Delay>, abort: Option<Abort>, only: Option<Only>) -> Option<Faults> {
        (delay.is_some() || abort.is_some()).then_some(Faults { delay, abort, only })
    }

    pub fn delay(&self) -> Option<Delay> {
        self.delay
    }

    pub fn abort(&self) -> Option<Abort> {
        self.abort
    }

    pub fn only(&self) -> Option<&Only> {
        self.only.as_ref()
    }

    /// What a request gets. `random`: any 64 random bits; half of them are for each.
    pub fn draw(&self, head: &impl Head, random: u64) -> Drawn {
        if let Some(Only { header, value }) = &self.only
            && header.read(head) != Some(value.as_bytes())
        {
            return Drawn::default();
        }
        let is_in = |share: Weight, half: u32| {
            let place = (u64::from(half) * u64::from(Weight::SCALE)) >> 32;
            place < u64::from(share.units())
        };
        let (upper, lower) = ((random >> 32) as u32, random as u32);
        let delay = self.delay.filter(|delay| is_in(delay.share, upper));
        let abort = self.abort.filter(|abort| is_in(abort.share, lower));
        Drawn {
            delay: delay.map(Delay::time),
            abort: abort.map(Abort::status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fields(&'static [(&'static str, &'static str)]);

    impl Head for Fields {
        fn values<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
            let name = name.to_owned();
            let fields = self.0.iter();
            fields
                .filter(move |(field, _)| *field == name)
                .map(|(_, value)| value.as_bytes())
        }
    }

    const NONE: Fields = Fields(&[]);

    fn percent(percent: u32) -> Weight {
        Weight::percent(percent).unwrap()
    }

    fn faults(delayed: u32, aborted: u32) -> Faults {
        let delay = Delay::new(percent(delayed), Duration::from_secs(1));
        let abort = Abort::new(percent(aborted), 503);
        Faults::new(delay, abort, None).unwrap()
    }

    #[test]
    fn faults_are_of_some_requests_bounded_and_errors() {
        let (second, none) = (Duration::from_secs(1), Weight::ZERO);
        for (share, time, is_one) in [
            (percent(1), second, true),
            (Weight::ALL, LONGEST_DELAY, true),
            (none, second, false),
            (percent(1), Duration::ZERO, false),
            (percent(1), LONGEST_DELAY + Duration::from_millis(1), false),
        ] {
            assert_eq!(
                Delay::new(share, time).is_some(),
                is_one,
                "{share:?} {time:?}"
            );
        }
        for (share, status, is_one) in [
            (percent(1), 400, true),
            (percent(1), 599, true),
            (percent(1), 399, false),
            (percent(1), 600, false),
            (none, 503, false),
        ] {
            assert_eq!(
                Abort::new(share, status).is_some(),
                is_one,
                "{share:?} {status}"
            );
        }
        assert_eq!(Faults::new(None, None, None), None);
    }

    /// Over all random numbers of a fine grid: each has its share, and they do not hang together.
    #[test]
    fn each_has_its_share_and_one_does_not_follow_the_other() {
        let faults = faults(20, 5);
        let grid = |step: u64| (u64::from(u32::MAX) + 1) / 200 * step;
        let (mut delayed, mut aborted, mut both) = (0, 0, 0);
        for upper in 0..200 {
            for lower in 0..200 {
                let drawn = faults.draw(&NONE, grid(upper) << 32 | grid(lower));
                delayed += usize::from(drawn.delay == Some(Duration::from_secs(1)));
                aborted += usize::from(drawn.abort == Some(503));
                both += usize::from(drawn.delay.is_some() && drawn.abort.is_some());
            }
        }
        let all = 200 * 200;
        let near = |count: usize, share: f64| (count as f64 / all as f64 - share).abs() < 0.006;
        assert!(near(delayed, 0.2) && near(aborted, 0.05) && near(both, 0.01));
    }

    #[test]
    fn all_is_all_and_what_is_not_asked_for_does_not_happen() {
        for random in [0, 1, u64::MAX, u64::MAX / 3] {
            let both = faults(100, 100).draw(&NONE, random);
            assert!(both.delay.is_some() && both.abort.is_some());
            let only_delay = Faults::new(faults(100, 0).delay(), None, None).unwrap();
            assert_eq!(only_delay.draw(&NONE, random).abort, None);
        }
    }

    #[test]
    fn requests_without_the_header_have_no_fault() {
        let only = Only::header("X-Test", "slow").unwrap();
        let faults = Faults::new(None, Abort::new(Weight::ALL, 500), Some(only)).unwrap();
        for (fields, aborts) in [
            (NONE, None),
            (Fields(&[("x-test", "slow")]), Some(500)),
            (Fields(&[("x-test", " slow ")]), Some(500)),
            (Fields(&[("x-test", "slower")]), None),
            (Fields(&[("x-test", "fast"), ("x-test", "slow")]), None),
            (Fields(&[("x-other", "slow")]), None),
        ] {
            assert_eq!(faults.draw(&fields, 7).abort, aborts);
        }
    }
}
