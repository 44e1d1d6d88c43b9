//! Every virtual second: requests are sent, counted and looked at.

use std::collections::BTreeMap;

use rollout_core::OnFailure;
use traffic_core::config::Weight;

use super::Simulation;
use super::agenda::Happening;
use super::mishaps::Mishap;
use super::people::Version;
use super::prometheus::{Count, TOLERATED};

/// Requests of one proxy in a second.
pub(super) const REQUESTS: f64 = 40.0;

impl Simulation {
    pub(super) fn second(&mut self) {
        let now = self.agenda.now;
        let answering = self.answering();
        self.check.own = self.own_addresses();
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        let excused = self.is_excused();
        for number in 0..self.proxies.len() {
            let proxy = &mut self.proxies[number];
            if !proxy.there {
                continue;
            }
            if let Some((process, _)) = proxy.link
                && self.operators[process].alive
                && self.operators[process].stands_until <= now
                && proxy.lags_until <= now
            {
                proxy.renew(now);
            }
            proxy.tick(now);
            let proxy = &self.proxies[number];
            let late = excused
                || proxy.link.is_none()
                || proxy.lags_until + 5_000 > now
                || proxy.refuses_until + 5_000 > now;
            self.check.requests(number, proxy, &answering, late, now);
            if let (Some(split), Some(served)) = (proxy.split(), &proxy.installed)
                && let Some(canary) = &split.canary
            {
                let share = f64::from(canary.weight.units()) / f64::from(Weight::SCALE);
                let endpoints = served.healthy(&canary.arm.cluster);
                let count = counts.entry(canary.arm.revision.clone()).or_default();
                count.requests += REQUESTS * share;
                for address in &endpoints {
                    let fails = answering
                        .get(address)
                        .map_or(0.5, |revision| self.failing(revision));
                    #[allow(clippy::cast_precision_loss)] // a handful of endpoints
                    let part = REQUESTS * share / endpoints.len() as f64;
                    count.failed += part * fails;
                }
            }
        }
        self.prometheus.record(now, counts);
        if self.surroundings {
            self.report(&answering);
        }
        self.watch_for_bad_versions();
        self.bad_versions_take_callers_along();
        let written_to = self.wrong.now.is_empty() && self.alive().len() == 1;
        self.check.rollback_ends(excused || !written_to);
        if self.calm_since.is_some() {
            self.look_for_rest();
        }
        self.agenda.put(1000, Happening::Second);
    }

    /// What makes a version bad may make those hang who call it: some lag from the moment on that it is taken away.
    fn bad_versions_take_callers_along(&mut self) {
        if self.check.rolled_back == self.rollbacks {
            return;
        }
        self.rollbacks = self.check.rolled_back;
        if self.chance.u8(..5) == 0 {
            let hangs = self.chance.usize(..self.proxies.len());
            let lasts = self.chance.i64(100_000..600_000);
            self.say(format!("a caller hangs for {} s", lasts / 1000));
            self.proxies[hangs].lag(self.agenda.now + lasts);
        }
    }

    /// The share of its requests that fails now.
    pub(super) fn failing(&self, revision: &str) -> f64 {
        let number = self.check.number(revision);
        let version = self
            .versions
            .iter()
            .find(|version| Some(version.number) == number || version.revision == revision);
        let bad = |version: &&Version| version.bad_from.is_some_and(|from| from <= self.agenda.now);
        version.filter(bad).map_or(0.0, |version| version.fails)
    }

    /// The windows say so.
    fn is_bad(&self, revision: &str) -> bool {
        self.failing(revision) > TOLERATED
    }

    /// Views, or those who make them, may be behind.
    pub(super) fn is_excused(&self) -> bool {
        let leader = self.leader.map(|leader| &self.operators[leader]);
        let present = leader.is_some_and(|leader| {
            leader.alive
                && leader.stands_until <= self.agenda.now
                && self.agenda.now - leader.started > 20_000
        });
        let behind = self.wrong.now.iter().any(|(_, mishap)| {
            matches!(
                mishap,
                Mishap::ApiAway
                    | Mishap::Stuck(_)
                    | Mishap::ControllersAway
                    | Mishap::Crash
                    | Mishap::Standstill
            )
        });
        !present || behind || self.is_illegible() || self.agenda.now - self.last_excuse < 30_000
    }

    /// A bad version is taken away in time, whatever the API server does.
    pub(super) fn watch_for_bad_versions(&mut self) {
        let now = self.agenda.now;
        let interval = 10_000;
        let most = i64::from(self.failure_limit + 3) * (interval + 2_000) + 10_000;
        let bad = self.leader.is_some_and(|process| {
            let operator = &self.operators[process];
            let Some((run, weight)) = self.published(process).filter(|(_, weight)| *weight > 0)
            else {
                return false;
            };
            let state = operator
                .sessions
                .get(&self.rollout_key())
                .and_then(|session| session.state());
            let Some(running) = state
                .and_then(rollout_core::State::running)
                .filter(|running| running.number == run)
                .filter(|running| {
                    running.plan.on_failure == OnFailure::Rollback && running.skips.is_none()
                })
            else {
                return false;
            };
            let asks = self
                .proxies
                .iter()
                .filter(|proxy| proxy.there && proxy.uses().is_some())
                .count();
            #[allow(clippy::cast_precision_loss)] // a handful of proxies
            let requests = REQUESTS * 10.0 * asks as f64 * f64::from(weight) / 100.0;
            operator.alive
                && operator.stands_until <= now
                && self.prometheus.prompt(now)
                && requests > 10.0
                && self.is_bad(&running.canary.revision)
        });
        self.check.bad(bad, most, now);
    }
}
