//! What is published, what proxies use, and where requests go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use traffic_core::config::Weight;

use super::super::agenda::Process;
use super::super::proxies::{Proxy, Served};
use super::{Check, Run};

impl Check {
    /// An operator serves another world. `behind`: who is behind the Service, as this operator knows it.
    pub(in super::super) fn published(
        &mut self,
        process: Process,
        served: &Served,
        copies: &BTreeMap<IpAddr, String>,
    ) {
        let split = &served.route.split;
        for revoked in &served.route.revoked {
            let revocation = &revoked.revocation;
            self.took_down
                .insert((process, (revocation.revision.clone(), revocation.run)));
        }
        let stable = served.healthy(&split.stable.cluster);
        if let Some(canary) = &split.canary {
            let run = (canary.arm.revision.clone(), canary.run);
            let weight = canary.weight.units() / (Weight::SCALE / 100);
            self.is_permitted("published", &run, weight);
            let there = served.healthy(&canary.arm.cluster);
            if weight > 0 && there.is_empty() {
                self.violated("a canary without endpoints has weight".to_owned());
            }
            if weight < 100 && stable.is_empty() && !there.is_empty() {
                self.violated(
                    "the stable arm has no endpoints, and the canary has some".to_owned(),
                );
            }
            if weight > 0
                && self
                    .took_down
                    .iter()
                    .any(|(by, down)| *by == process && down.0 == run.0 && down.1 >= run.1)
            {
                self.violated(format!(
                    "run {} of revision {} was taken down and has weight {weight} again",
                    run.1, run.0
                ));
            }
        }
        // Pods of a copy answer for stable only when nobody else can.
        let (lent, own): (Vec<_>, Vec<_>) = stable.iter().copied().partition(|address: &IpAddr| {
            copies
                .get(address)
                .is_some_and(|revision| !self.is_entitled(revision))
        });
        if !lent.is_empty() && !own.is_empty() {
            self.violated(format!(
                "pods of a canary serve in the stable arm: {lent:?} beside {own:?}"
            ));
        }
    }

    pub(in super::super) fn is_permitted(&mut self, what: &str, run: &Run, weight: u32) {
        let most = self.permitted.get(run).copied().unwrap_or(0);
        if i64::from(weight) > most {
            self.violated(format!(
                "{what} weight {weight} for run {} of revision {}, of which {most} was written",
                run.1, run.0
            ));
        }
    }

    pub(in super::super) fn installed(&mut self, number: usize, proxy: &Proxy) {
        if let Some(served) = &proxy.installed {
            for revoked in &served.route.revoked {
                let revocation = &revoked.revocation;
                self.given_up
                    .insert((number, (revocation.revision.clone(), revocation.run)));
            }
        }
    }

    /// One second of one proxy's requests. `answering`: what really answers.
    pub(in super::super) fn requests(
        &mut self,
        number: usize,
        proxy: &Proxy,
        answering: &BTreeMap<IpAddr, String>,
        excused: bool,
        now: i64,
    ) {
        let (Some(split), Some(served)) = (proxy.split(), &proxy.installed) else {
            return;
        };
        let stable = served.healthy(&split.stable.cluster);
        let mut arms = vec![(split.stable.cluster.clone(), 100)];
        if let Some(canary) = &split.canary {
            let weight = canary.weight.units() / (Weight::SCALE / 100);
            arms = vec![
                (split.stable.cluster.clone(), 100 - weight),
                (canary.arm.cluster.clone(), weight),
            ];
            let run = (canary.arm.revision.clone(), canary.run);
            if weight > 0 {
                self.is_permitted("a proxy uses", &run, weight);
                if self.given_up.contains(&(number, run.clone())) {
                    self.violated(format!(
                        "proxy {number} had given up run {} of revision {} and uses it again",
                        run.1, run.0
                    ));
                }
            }
            let there = served.healthy(&canary.arm.cluster);
            // A lease that lapses gives the canary's share to what there is.
            if !proxy.lapsed
                && ((weight < 100 && stable.is_empty() && !there.is_empty())
                    || (weight > 0 && there.is_empty() && !stable.is_empty()))
            {
                self.violated(format!("proxy {number} sends requests to an arm without endpoints while another has some"));
            }
        }
        // The share of each version that was not released to everyone.
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        let mut dead = false;
        for (cluster, weight) in &arms {
            let endpoints = served.healthy(cluster);
            if *weight > 0
                && !endpoints
                    .iter()
                    .any(|address| answering.contains_key(address))
            {
                dead = true;
            }
            for address in &endpoints {
                if let Some(revision) = answering.get(address) {
                    #[allow(clippy::cast_precision_loss)] // a handful of endpoints
                    let share = f64::from(*weight) / endpoints.len() as f64;
                    *shares.entry(revision).or_default() += share;
                }
            }
        }
        // A copy may run what served before; it answers for nobody.
        let stable_answers = answering
            .iter()
            .any(|(address, revision)| self.own.contains(address) && self.is_entitled(revision));
        if dead && stable_answers && !excused {
            let since = *self.alone_since.entry(number).or_insert(now);
            if now - since > 60_000 {
                self.violated(format!("proxy {number} has sent requests where nobody answers for a minute, and others answer"));
            }
        } else {
            self.alone_since.remove(&number);
        }
        let over = shares.iter().find_map(|(revision, share)| {
            let version = self.number(revision)?;
            let of_it = self.permitted.iter().filter(|((of, _), _)| self.number(of) == Some(version));
            let most = of_it.map(|(_, most)| *most).max().unwrap_or(0);
            #[allow(clippy::cast_precision_loss)] // a percentage
            let is_over = *share > most as f64 + 0.001;
            (is_over && !self.entitled.contains(&version)).then(|| format!("revision {revision} gets {share} % of the requests of proxy {number}, and {most} was written"))
        });
        match over.filter(|_| stable_answers && !excused) {
            Some(text) => {
                // Endpoints that came or went are on their way to the proxy.
                let since = *self.over_since.entry(number).or_insert(now);
                if now - since > 15_000 {
                    self.violated(text);
                }
            }
            None => {
                self.over_since.remove(&number);
            }
        }
    }
}
