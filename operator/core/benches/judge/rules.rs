//! Who judges: the guard as it is, and what others document.

use rollout_core::guard::{Arm, Counts, Guard, Limits, Second as Seen, Sketch};

use crate::traffic::Second;

pub(crate) trait Rule {
    /// Takes in a second; says whether the release is to be rolled back.
    fn sees(&mut self, second: &Second) -> bool;
}

pub(crate) struct Guarded(Guard);

impl Guarded {
    pub(crate) fn new() -> Guarded {
        let limits = Limits::try_new(10_000, 5_000).expect("1 % and 0.5 % are limits");
        Guarded(Guard::new(limits))
    }
}

impl Rule for Guarded {
    fn sees(&mut self, second: &Second) -> bool {
        let arm = |(started, errors)| Arm {
            counts: Counts::new(started, errors),
            latency: Sketch::default(),
        };
        self.0.see(&Seen {
            at: second.at,
            epoch: second.epoch,
            canary: arm(second.canary),
            stable: arm(second.stable),
        });
        self.0.alarm().is_some()
    }
}

/// Windows of a minute, the fifth that fails ends it; what a window says is known a minute later.
#[derive(Default)]
pub(crate) struct Flagger {
    window: (u64, u64),
    seconds: u32,
    failed: u32,
    late: u32,
}

impl Rule for Flagger {
    fn sees(&mut self, second: &Second) -> bool {
        if second.epoch == 0 {
            return false;
        }
        if self.failed >= 5 {
            self.late += 1;
            return self.late >= 60;
        }
        self.window.0 += second.canary.0;
        self.window.1 += second.canary.1;
        self.seconds += 1;
        if self.seconds == 60 {
            self.failed += u32::from(fails(self.window));
            (self.window, self.seconds) = ((0, 0), 0);
        }
        false
    }
}

/// The last half minute, asked every five seconds; the first failure ends it.
#[derive(Default)]
pub(crate) struct Argo {
    last: std::collections::VecDeque<(u64, u64)>,
    seconds: u32,
}

impl Rule for Argo {
    fn sees(&mut self, second: &Second) -> bool {
        if second.epoch == 0 {
            return false;
        }
        self.last.push_back(second.canary);
        if self.last.len() > 30 {
            self.last.pop_front();
        }
        self.seconds += 1;
        let sum = self
            .last
            .iter()
            .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        self.seconds.is_multiple_of(5) && fails(sum)
    }
}

/// More than 1 % of the requests.
fn fails((started, errors): (u64, u64)) -> bool {
    errors * 100 > started
}
