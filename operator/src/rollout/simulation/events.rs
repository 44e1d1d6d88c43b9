//! What each happening does.

use aviary_crds::REVISION_LABEL;
use serde_json::Value;

use super::agenda::{Happening, Turn};
use super::api::{Change, Type, key};
use super::controllers;
use super::mishaps::Mishap;
use super::{By, EPOCH, Simulation};

impl Simulation {
    pub(super) fn happens(&mut self, happening: Happening) {
        let now = self.agenda.now;
        self.api.now = EPOCH + now;
        self.check.at(now);
        match happening {
            Happening::Second => self.second(),
            Happening::Arrives { process, request } => self.arrives(process, request),
            Happening::Answers { process, request } => self.answers(process, request),
            Happening::Watched { process, stream } => self.watched(process, stream),
            Happening::Runs { process } => self.runs(process),
            Happening::Judged { process, question } => self.judged(process, question),
            Happening::Reported { process } => self.reported(process),
            Happening::Called { process, call } => self.called(process, call),
            Happening::Controllers => self.controllers(),
            Happening::Pod { uid, turn } => self.pod(&uid, turn),
            Happening::Hears { proxy, link } => self.hears(proxy, link),
            Happening::Acknowledges { proxy, link } => self.acknowledges(proxy, link),
            Happening::Connects { proxy } => self.connects(proxy),
            Happening::Person => {
                if self.calm_since.is_none() {
                    self.person();
                    self.spread(By::People);
                    let delay = self.chance.i64(1_000..self.pace.0);
                    self.agenda.put(delay, Happening::Person);
                }
            }
            Happening::Timely => {
                if self.calm_since.is_none() {
                    self.timely_person();
                    self.spread(By::People);
                }
            }
            Happening::Mishap => {
                if self.calm_since.is_none() {
                    self.mishap();
                    let delay = self.chance.i64(1_000..self.pace.1);
                    self.agenda.put(delay, Happening::Mishap);
                }
            }
            Happening::Mends { mishap } => self.mend(mishap),
            Happening::Starts => self.starts(),
            Happening::Ends { process } => self.ends(process),
            Happening::Late => {
                self.late_person();
                self.spread(By::People);
            }
            Happening::Calm => self.calm(),
        }
    }

    pub(super) fn controllers(&mut self) {
        self.controllers_are_due = false;
        if self.wrong.has(Mishap::ControllersAway) {
            self.controllers_are_due = true;
            self.agenda.put(1000, Happening::Controllers);
            return;
        }
        let quota = self.wrong.has(Mishap::Quota).then_some(6);
        let first = self.chance.bool();
        let mut retry = first && controllers::deployments(&mut self.api);
        retry |= controllers::others(&mut self.api, &mut self.pods, quota);
        retry |= !first && controllers::deployments(&mut self.api);
        if retry || quota.is_some() {
            self.controllers_are_due = true;
            let delay = self.chance.i64(1..400);
            self.agenda
                .put(if retry { delay } else { 2000 }, Happening::Controllers);
        }
    }

    /// A pod that was made starts; one that is to end does.
    pub(super) fn follow_pod(&mut self, change: &Change) {
        let (Type::Pod, Some(after)) = (change.kind, &change.after) else {
            return;
        };
        let ends = |pod: &Value| pod["metadata"].get("deletionTimestamp").is_some();
        let uid = after["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match &change.before {
            None => {
                let version = self.version_of(&controllers::image(&after["spec"]));
                let is_copy = after["metadata"]["labels"].get(REVISION_LABEL).is_some();
                let starts = version
                    .filter(|version| is_copy || !version.fails_in_place)
                    .and_then(|version| version.starts);
                if let Some(starts) = starts {
                    let delay = starts + self.chance.i64(0..500);
                    self.agenda.put(
                        delay,
                        Happening::Pod {
                            uid,
                            turn: Turn::Ready,
                        },
                    );
                }
            }
            Some(before) if !ends(before) && ends(after) => {
                let delay = self.chance.i64(500..20_000);
                self.agenda.put(
                    delay,
                    Happening::Pod {
                        uid,
                        turn: Turn::Ends,
                    },
                );
            }
            Some(_) => {}
        }
    }

    pub(super) fn pod(&mut self, uid: &str, turn: Turn) {
        let pod = self
            .api
            .list(Type::Pod)
            .find(|pod| pod["metadata"]["uid"] == uid);
        let Some(pod) = pod.map(|pod| key(pod)) else {
            return;
        };
        match turn {
            Turn::Ready => controllers::set_ready(&mut self.api, &pod, true),
            Turn::Ends => self.api.remove(Type::Pod, &pod),
        }
    }
}
