//! Begins what goes wrong, and mends it again.

use super::Simulation;
use super::agenda::{Happening, Turn};
use super::api::Type;
use super::controllers;
use super::mishaps::{Gate, Mishap};

impl Simulation {
    pub(super) fn mishap(&mut self) {
        let mut mishap = Mishap::any(&mut self.chance);
        if self.surroundings && self.odds.u8(..8) == 0 {
            mishap = [Mishap::HooksRefuse, Mishap::HooksHang][self.odds.usize(..2)];
        }
        let lasts = match self.chance.u8(..4) {
            0 => self.chance.i64(100..5_000),
            1 | 2 => self.chance.i64(5_000..60_000),
            3.. => self.chance.i64(60_000..240_000),
        };
        let until = self.agenda.now + lasts;
        self.say(format!("mishap: {mishap:?} for {} s", lasts / 1000));
        let proxy = self.chance.usize(..self.proxies.len());
        match mishap {
            Mishap::ApiAway
            | Mishap::ApiFlaky
            | Mishap::Denied(_)
            | Mishap::Stuck(_)
            | Mishap::Quota
            | Mishap::ControllersAway
            | Mishap::Gate(Gate::There | Gate::Away | Gate::Missing) => {
                let name = self.name();
                self.wrong.now.push((name, mishap));
                self.agenda.put(lasts, Happening::Mends { mishap: name });
                self.last_excuse = until;
            }
            Mishap::Relist(stream) => self.relist(stream),
            Mishap::Crash => {
                if let Some(leader) = self.leader.filter(|leader| self.operators[*leader].alive) {
                    self.last_excuse = self.agenda.now;
                    self.crash(leader);
                }
            }
            Mishap::Standstill => self.stand_still(lasts),
            Mishap::ClockJumps => self.jump(),
            // Some for longer than a lease.
            Mishap::ProxyLags => self.proxies[proxy].lag(until + 2 * lasts),
            Mishap::ProxyRefuses => self.proxies[proxy].refuses_until = until,
            Mishap::ProxyLosesStream => self.lose_stream(proxy),
            Mishap::ProxyVanishes => self.vanish(proxy),
            Mishap::PrometheusSlow => self.prometheus.slow_until = until,
            Mishap::PrometheusIgnorant => self.prometheus.ignorant_until = until,
            Mishap::PrometheusLies => {
                self.prometheus.lies_until = self.agenda.now + lasts.min(20_000)
            }
            Mishap::PodsUnready => self.pods_go_unready(lasts),
            Mishap::HooksRefuse => self.receiver.refuses_until = until,
            Mishap::HooksHang => self.receiver.hangs_until = until,
        }
    }

    pub(super) fn mend(&mut self, mishap: u64) {
        self.wrong.now.retain(|(name, _)| *name != mishap);
        self.last_excuse = self.agenda.now;
    }

    /// The leader stands still, another one takes its place, and it wakes up with what it knew.
    fn stand_still(&mut self, lasts: i64) {
        let Some(leader) = self.leader.filter(|leader| self.operators[*leader].alive) else {
            return;
        };
        self.last_excuse = self.agenda.now + lasts;
        self.operators[leader].stands_until = self.agenda.now + lasts;
        for number in 0..self.proxies.len() {
            if self.proxies[number]
                .link
                .is_some_and(|(of, _)| of == leader)
            {
                self.lose_stream(number);
            }
        }
        self.check.forget_fails(leader);
        // It holds the lease for a while after it wakes up, as it thinks, and then ends.
        let ends = lasts + self.chance.i64(50..3_000);
        self.agenda.put(ends, Happening::Ends { process: leader });
        let delay = self.chance.i64(3_000..10_000);
        self.agenda.put(delay, Happening::Starts);
    }

    /// A proxy's pod is gone; it sends no requests any more, and another one comes.
    fn vanish(&mut self, number: usize) {
        let pod = self.proxies[number].pod.clone();
        let Some(object) = self.api.get(Type::Pod, &pod) else {
            return;
        };
        self.lose_stream(number);
        self.proxies[number].there = false;
        self.api.remove(Type::Pod, &pod);
        let mut object = (*object).clone();
        let next = self.proxies.len();
        let name = format!("web-{next}");
        object["metadata"] = serde_json::json!({"name": name, "namespace": pod.namespace});
        let _ = self.api.create(Type::Pod, object);
        self.proxies.push(super::Proxy::new(pod.beside(name)));
        let delay = self.chance.i64(500..5_000);
        self.agenda.put(delay, Happening::Connects { proxy: next });
    }

    fn pods_go_unready(&mut self, lasts: i64) {
        let mut pods: Vec<(super::Key, String)> = self
            .api
            .list(Type::Pod)
            .filter(|pod| controllers::is_ready(pod))
            .map(|pod| {
                (
                    super::api::key(pod),
                    pod["metadata"]["uid"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                )
            })
            .collect();
        self.chance.shuffle(&mut pods);
        let some = self.chance.usize(1..=pods.len().max(1));
        for (pod, uid) in pods.into_iter().take(some) {
            controllers::set_ready(&mut self.api, &pod, false);
            self.agenda.put(
                lasts,
                Happening::Pod {
                    uid,
                    turn: Turn::Ready,
                },
            );
        }
    }
}
