//! Simulated traffic: requests of a second are Poisson, the split is exact, errors are binomial, and some of them come together.

use std::collections::VecDeque;

/// How a service fails besides.
#[derive(Clone, Copy)]
pub(crate) enum Scene {
    Plain,
    /// Both revisions fail more for a while.
    Incident {
        from: i64,
        until: i64,
        more: f64,
    },
    /// Half of the errors come in bursts of a second, ten on average, in whichever arm a request is.
    Bursts,
    /// Half of the errors come from single pods that fail half of their requests for two seconds.
    Pods {
        pods: u32,
    },
    /// The canary fails this share of its requests from then on.
    Late {
        from: i64,
        fails: f64,
    },
    /// A success takes two to four seconds, a failure none.
    Slow(Told),
    /// Half of the errors fail again, and again, when the same request is sent a second and a third time.
    Retried(Told),
    /// Half of the callers fail 50 times as often as the others, whichever revision they call.
    Callers(Told),
}

/// How requests are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// As ours are: first attempts, in the second in which they started, when every proxy has the weight.
    Ours,
    /// In the second in which they ended; every attempt; or while the callers that fail less still have the weight before.
    Naively,
}

#[derive(Clone, Copy)]
pub(crate) struct World {
    /// Requests a second.
    pub(crate) total: f64,
    /// The weight from each second on.
    pub(crate) steps: [(i64, f64); 4],
    pub(crate) stable: f64,
    pub(crate) canary: f64,
    pub(crate) scene: Scene,
}

impl World {
    /// One weight, from second 0 on.
    pub(crate) fn steady(total: f64, weight: f64, stable: f64, canary: f64) -> World {
        World {
            total,
            steps: [(0, weight); 4],
            stable,
            canary,
            scene: Scene::Plain,
        }
    }

    pub(crate) fn stepwise(total: f64, errors: f64) -> World {
        World {
            steps: [(0, 0.01), (120, 0.1), (240, 0.5), (360, 1.0)],
            ..World::steady(total, 0.0, errors, errors)
        }
    }

    /// The weight, and which of the steps it is, counted from 1; 0 before the first.
    fn weight(&self, at: i64) -> (f64, u64) {
        let begun = self
            .steps
            .iter()
            .zip(1_u64..)
            .filter(|((from, _), _)| *from <= at);
        begun
            .last()
            .map_or((0.0, 0), |((_, weight), step)| (*weight, step))
    }
}

/// Requests, and how many of them failed.
type Arm = (u64, u64);

/// Requests and errors of both arms.
pub(crate) struct Second {
    pub(crate) at: i64,
    pub(crate) epoch: u64,
    pub(crate) canary: Arm,
    pub(crate) stable: Arm,
}

pub(crate) struct Traffic {
    world: World,
    random: fastrand::Rng,
    /// The canary's share of a request that was not sent yet.
    owed: f64,
    failing: (u32, u32),
    /// Successes by the second in which they end, of either arm.
    under_way: [VecDeque<u64>; 2],
}

impl Traffic {
    pub(crate) fn new(world: World, seed: u64) -> Traffic {
        let mut random = fastrand::Rng::with_seed(seed);
        let owed = random.f64();
        Traffic {
            world,
            random,
            owed,
            failing: (0, 0),
            under_way: Default::default(),
        }
    }

    pub(crate) fn second(&mut self, at: i64) -> Second {
        let (weight, epoch) = self.world.weight(at);
        let requests = self.poisson(self.world.total);
        let (canary, stable) = match self.world.scene {
            Scene::Callers(told) => self.of_two_callers(requests, weight, told),
            _ => self.of_all_callers(at, requests, weight),
        };
        Second {
            at,
            epoch,
            canary: (canary.0, canary.1.min(canary.0)),
            stable: (stable.0, stable.1.min(stable.0)),
        }
    }

    /// The exact share of this many.
    fn split(&mut self, requests: u64, weight: f64) -> u64 {
        self.owed += requests as f64 * weight;
        let of_canary = (self.owed.floor() as u64).min(requests);
        self.owed -= of_canary as f64;
        of_canary
    }

    fn of_all_callers(&mut self, at: i64, requests: u64, weight: f64) -> (Arm, Arm) {
        let World {
            mut stable,
            mut canary,
            scene,
            ..
        } = self.world;
        let of_canary = self.split(requests, weight);
        let of_stable = requests - of_canary;
        match scene {
            Scene::Incident { from, until, more } if (from..until).contains(&at) => {
                (stable, canary) = (stable + more, canary + more);
            }
            Scene::Bursts | Scene::Pods { .. } => (stable, canary) = (stable / 2.0, canary / 2.0),
            Scene::Late { from, fails } if at >= from => canary = fails,
            Scene::Plain
            | Scene::Incident { .. }
            | Scene::Late { .. }
            | Scene::Slow(_)
            | Scene::Retried(_)
            | Scene::Callers(_) => {}
        }
        let mut failed = (
            self.binomial(of_canary, canary),
            self.binomial(of_stable, stable),
        );
        match scene {
            Scene::Bursts => self.burst(requests, of_canary, &mut failed),
            Scene::Pods { pods } => {
                let share = self.episodes(pods, weight);
                failed.0 += self.binomial(of_canary, share.0);
                failed.1 += self.binomial(of_stable, share.1);
            }
            Scene::Slow(Told::Naively) => {
                return (
                    self.ended(0, of_canary, failed.0),
                    self.ended(1, of_stable, failed.1),
                );
            }
            Scene::Retried(Told::Naively) => {
                return (
                    self.attempts(of_canary, failed.0),
                    self.attempts(of_stable, failed.1),
                );
            }
            Scene::Plain
            | Scene::Incident { .. }
            | Scene::Late { .. }
            | Scene::Slow(Told::Ours)
            | Scene::Retried(Told::Ours)
            | Scene::Callers(_) => {}
        }
        ((of_canary, failed.0), (of_stable, failed.1))
    }

    /// Failures at once, successes two to four seconds later.
    fn ended(&mut self, arm: usize, started: u64, failed: u64) -> Arm {
        let succeed = started.saturating_sub(failed);
        let soon = self.binomial(succeed, 1.0 / 3.0);
        let later = self.binomial(succeed - soon, 0.5);
        let last = succeed - soon - later;
        let under_way = &mut self.under_way[arm];
        under_way.resize(5, 0);
        for (after, more) in [(2, soon), (3, later), (4, last)] {
            under_way[after] += more;
        }
        let ended = under_way.pop_front().unwrap_or(0);
        (ended + failed, failed)
    }

    /// Each failure is tried again, twice at most.
    fn attempts(&mut self, started: u64, failed: u64) -> Arm {
        let again = self.binomial(failed, 0.5);
        (started + failed + again, failed + 2 * again)
    }

    /// Two halves of the requests; those that fail more often have the weight, the others have it too or still a hundredth of it.
    fn of_two_callers(&mut self, requests: u64, weight: f64, told: Told) -> (Arm, Arm) {
        let before = match told {
            Told::Ours => weight,
            Told::Naively => weight / 100.0,
        };
        let errors = self.world.stable;
        let (mut canary, mut stable) = ((0, 0), (0, 0));
        for (weight, errors) in [(weight, 50.0 * errors), (before, errors)] {
            let of_canary = self.split(requests / 2, weight);
            let of_stable = requests / 2 - of_canary;
            canary.0 += of_canary;
            canary.1 += self.binomial(of_canary, errors);
            stable.0 += of_stable;
            stable.1 += self.binomial(of_stable, errors);
        }
        (canary, stable)
    }

    fn burst(&mut self, requests: u64, of_canary: u64, failed: &mut (u64, u64)) {
        let bursts = self.poisson(requests as f64 * self.world.stable * 0.5 / 10.0);
        for _ in 0..bursts {
            let mut size = 1;
            while self.random.f64() >= 0.1 {
                size += 1;
            }
            if self.random.u64(0..requests.max(1)) < of_canary {
                failed.0 += size;
            } else {
                failed.1 += size;
            }
        }
    }

    /// The share of each arm's requests that failing pods lose.
    fn episodes(&mut self, pods: u32, weight: f64) -> (f64, f64) {
        // Half of the errors; each episode loses half of a pod's requests for two seconds.
        let begin = self.world.stable * 0.5 / (2.0 * 0.5);
        let of_canary = ((f64::from(pods) * weight).round() as u32).max(1);
        let (canary, stable) = self.failing;
        let stable = self.pods(stable, pods, begin);
        let canary = if weight > 0.0 {
            self.pods(canary, of_canary, begin)
        } else {
            0
        };
        self.failing = (canary, stable);
        let share = |failing: u32, pods: u32| 0.5 * f64::from(failing) / f64::from(pods);
        (share(canary, of_canary), share(stable, pods))
    }

    fn pods(&mut self, failing: u32, pods: u32, begin: f64) -> u32 {
        let stay = self.binomial(failing.into(), (-0.5_f64).exp());
        let new = self.poisson(f64::from(pods) * begin);
        u32::try_from(stay + new).unwrap_or(u32::MAX).min(pods)
    }

    /// D. Knuth's product of uniforms; above 30 by the normal distribution.
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return self.normal(mean, mean.sqrt());
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.random.f64(), 0);
        while product > limit {
            product *= self.random.f64();
            count += 1;
        }
        count
    }

    /// By the gaps between successes; where there are many, by the normal distribution.
    fn binomial(&mut self, of: u64, share: f64) -> u64 {
        if share >= 1.0 {
            return of;
        }
        if share <= 0.0 || of == 0 {
            return 0;
        }
        if share > 0.5 {
            return of - self.binomial(of, 1.0 - share);
        }
        let mean = of as f64 * share;
        if mean > 30.0 {
            return self.normal(mean, (mean * (1.0 - share)).sqrt()).min(of);
        }
        let (mut at, mut count) = (0.0, 0);
        loop {
            at += (self.random.f64().ln() / (1.0 - share).ln()).floor() + 1.0;
            if at > of as f64 {
                return count;
            }
            count += 1;
        }
    }

    /// G. Box and M. Muller, 1958.
    fn normal(&mut self, mean: f64, deviation: f64) -> u64 {
        let (u, v) = (self.random.f64(), self.random.f64());
        let z = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        (mean + deviation * z).round().max(0.0) as u64
    }
}
