//! Streams between the proxies and the operator that leads: connected, sent, installed, acknowledged, lost.

use super::Simulation;
use super::agenda::Happening;
use super::proxies::{Link, LinkState, Served};

impl Simulation {
    pub(super) fn send(&mut self, proxy: usize, link: u64) {
        let Some((process, _)) = self.proxies[proxy].link else {
            return;
        };
        let operator = &mut self.operators[process];
        if let (Some(served), Some(known)) = (
            Served::of(&operator.world),
            operator.links.of.get_mut(&self.proxies[proxy].pod),
        ) {
            known.uses.insert(served.route.rollout);
            known.rejected = false;
        }
        if !self.proxies[proxy].hears {
            self.proxies[proxy].hears = true;
            let delay = self.chance.i64(1..100);
            self.agenda.put(delay, Happening::Hears { proxy, link });
        }
    }

    pub(super) fn connects(&mut self, number: usize) {
        let now = self.agenda.now;
        if !self.proxies[number].there || self.proxies[number].link.is_some() {
            return;
        }
        let leader = self.leader.filter(|leader| {
            self.operators[*leader].alive && self.operators[*leader].stands_until <= now
        });
        let Some(process) = leader else {
            let delay = self.chance.i64(1_000..5_000);
            self.agenda
                .put(delay, Happening::Connects { proxy: number });
            return;
        };
        let stream = self.name();
        let proxy = &mut self.proxies[number];
        proxy.link = Some((process, stream));
        proxy.hears = false;
        let operator = &mut self.operators[process];
        operator.links.revoked.extend(
            proxy
                .memory
                .all()
                .into_iter()
                .map(|signed| signed.revocation),
        );
        // What it uses is what it will say first.
        let uses = proxy
            .installed
            .iter()
            .map(|served| served.route.rollout.clone())
            .collect();
        let link = Link {
            stream,
            state: LinkState::Open,
            accepted: None,
            uses,
            rejected: false,
        };
        operator.links.of.insert(proxy.pod.clone(), link);
        operator.wake_running();
        self.say(format!("proxy {number} connects to operator {process}"));
        self.run_soon(process);
        self.send(number, stream);
    }

    pub(super) fn hears(&mut self, number: usize, link: u64) {
        let now = self.agenda.now;
        let proxy = &mut self.proxies[number];
        let Some((process, stream)) = proxy.link.filter(|(_, stream)| *stream == link) else {
            return;
        };
        if proxy.lags_until > now {
            let delay = proxy.lags_until - now;
            self.agenda.put(
                delay,
                Happening::Hears {
                    proxy: number,
                    link,
                },
            );
            return;
        }
        proxy.hears = false;
        let Some(served) = Served::of(&self.operators[process].world) else {
            return;
        };
        if proxy.refuses_until > now {
            if let Some(known) = self.operators[process].links.of.get_mut(&proxy.pod) {
                known.rejected = true;
            }
            // It is sent again with the next version only; here, when it refuses no more.
            let delay = proxy.refuses_until - now + 1;
            proxy.hears = true;
            self.agenda.put(
                delay,
                Happening::Hears {
                    proxy: number,
                    link,
                },
            );
            self.operators[process].wake_running();
            self.run_soon(process);
            return;
        }
        let chance = self.chance.f64();
        proxy.install(served, now, chance);
        proxy.says.push_back(proxy.installed.clone());
        self.check.installed(number, &self.proxies[number]);
        let delay = self.chance.i64(1..100);
        self.agenda.put(
            delay,
            Happening::Acknowledges {
                proxy: number,
                link: stream,
            },
        );
    }

    pub(super) fn acknowledges(&mut self, number: usize, link: u64) {
        let proxy = &mut self.proxies[number];
        let said = proxy.says.pop_front().flatten();
        let Some((process, _)) = proxy.link.filter(|(_, stream)| *stream == link) else {
            return;
        };
        let operator = &mut self.operators[process];
        if !operator.alive {
            return;
        }
        if let (Some(known), Some(said)) = (operator.links.of.get_mut(&proxy.pod), said) {
            let served = Served::of(&operator.world).map(|served| served.route.rollout);
            known.uses = [said.route.rollout.clone()]
                .into_iter()
                .chain(served)
                .collect();
            known.accepted = Some(said);
            known.rejected = false;
        }
        operator.wake_running();
        self.run_soon(process);
    }

    pub(super) fn lose_stream(&mut self, number: usize) {
        let now = self.agenda.now;
        let proxy = &mut self.proxies[number];
        let Some((process, stream)) = proxy.link.take() else {
            return;
        };
        proxy.hears = false;
        let clock = self.operators[process].clock(now).now;
        self.operators[process]
            .links
            .lose(&proxy.pod, stream, clock);
        self.operators[process].wake_running();
        if self.operators[process].alive {
            self.run_soon(process);
        }
        let delay = self.chance.i64(500..10_000);
        self.agenda
            .put(delay, Happening::Connects { proxy: number });
    }
}
