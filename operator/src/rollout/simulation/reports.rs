//! What proxies report to the operator that they have a stream with: each second's first attempts, the canary beside stable.
//! Only those who go by its newest route are counted, as in [`crate::outcomes`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use traffic_core::config::Weight;
use traffic_core::outcome::{Counts, PerClass};

use super::Simulation;
use super::agenda::{Happening, Process};
use super::proxies::Served;
use super::seconds::REQUESTS;
use crate::outcomes::Closed;

/// A second of one operator's proxies.
#[derive(Clone, Debug)]
pub(super) struct Report {
    stable: String,
    canary: String,
    closed: Closed,
}

/// First attempts of one arm, and those of them that failed: before they are whole numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    started: f64,
    failed: f64,
}

impl Simulation {
    /// The second that is over now: it is told a little later.
    pub(super) fn report(&mut self, answering: &BTreeMap<IpAddr, String>) {
        let now = self.agenda.now;
        for process in self.alive() {
            let Some(served) = Served::of(&self.operators[process].world) else {
                continue;
            };
            let split = &served.route.split;
            let Some(canary) = split.canary.as_ref() else {
                continue;
            };
            let heard = self.proxies.iter().filter(|proxy| {
                let current = proxy.installed.as_ref().map(|it| &it.route) == Some(&served.route);
                let linked = proxy.link.is_some_and(|(of, _)| of == process);
                proxy.there && linked && current && !proxy.lapsed
            });
            #[allow(clippy::cast_precision_loss)] // a handful of proxies
            let requests = REQUESTS * heard.count() as f64;
            let share = f64::from(canary.weight.units()) / f64::from(Weight::SCALE);
            let of_canary = self.sum(&served, &canary.arm.cluster, requests * share, answering);
            let of_stable = self.sum(
                &served,
                &split.stable.cluster,
                requests * (1.0 - share),
                answering,
            );
            let report = Report {
                stable: split.stable.revision.clone(),
                canary: canary.arm.revision.clone(),
                closed: Closed {
                    at: (super::EPOCH + now - 1000 + self.operators[process].clock)
                        .div_euclid(1000),
                    canary: self.counts(of_canary),
                    stable: self.counts(of_stable),
                },
            };
            self.operators[process].reports.push_back(report);
            let delay = self.odds.i64(500..900);
            self.agenda.put(delay, Happening::Reported { process });
        }
    }

    /// Where there is no endpoint, no attempt is made.
    fn sum(
        &self,
        served: &Served,
        cluster: &str,
        requests: f64,
        answering: &BTreeMap<IpAddr, String>,
    ) -> Sum {
        let endpoints = served.healthy(cluster);
        let mut sum = Sum::default();
        for address in &endpoints {
            #[allow(clippy::cast_precision_loss)] // a handful of endpoints
            let part = requests / endpoints.len() as f64;
            let fails = match answering.get(address) {
                None => 1.0,
                Some(revision) => self.failing(revision),
            };
            sum.started += part;
            sum.failed += part * fails;
        }
        sum
    }

    fn counts(&mut self, sum: Sum) -> Counts {
        let started = self.whole(sum.started);
        let failed = self.whole(sum.failed).min(started);
        Counts {
            started,
            ended: PerClass::from([started - failed, failed, 0, 0]),
            ..Counts::default()
        }
    }

    /// The whole numbers around it, so that it is met on average.
    fn whole(&mut self, number: f64) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // a few hundred at the most
        let floor = number.floor() as u64;
        floor + u64::from(self.odds.f64() < number.fract())
    }

    /// The oldest second that it has not heard of reaches an operator.
    pub(super) fn reported(&mut self, process: Process) {
        let operator = &mut self.operators[process];
        if !operator.alive {
            return;
        }
        let stands = operator.stands_until - self.agenda.now;
        if stands > 0 {
            self.agenda.put(stands, Happening::Reported { process });
            return;
        }
        let rollout = self.rollout_key();
        let operator = &mut self.operators[process];
        let Some(report) = operator.reports.pop_front() else {
            return;
        };
        let follows = operator.follows.get(&rollout).is_some_and(|subject| {
            subject.canary == report.canary && subject.stable == report.stable
        });
        let Some(session) = operator.sessions.get_mut(&rollout).filter(|_| follows) else {
            return;
        };
        let run = session.state().and_then(rollout_core::State::running);
        let run = run.map(|run| (run.canary.revision.clone(), run.number));
        if session.closed(std::slice::from_ref(&report.closed)) {
            operator.due.insert(rollout);
            self.run_soon(process);
        }
        if let Some(run) = run.filter(|(revision, _)| *revision == report.canary) {
            let has_guard = self.rollout_spec()["analysis"]["guard"]["falseAlarm"] != "0%";
            let weight = self
                .published(process)
                .filter(|(of, _)| *of == run.1 && has_guard)
                .map_or(0, |(_, weight)| weight);
            self.check.counted(process, run, &report.closed, weight);
        }
    }
}
