//! When the world calms down, every history comes to rest, and what is at rest is what the status says.

use aviary_crds::condition::{READY, RELEASED, STALLED};
use aviary_crds::{REQUEST_ANNOTATION, ROLLOUT_LABEL};
use rollout_core::state::Phase;
use serde_json::Value;
use traffic_core::config::Weight;

use super::agenda::Happening;
use super::api::Type;
use super::controllers::is_copy;
use super::hooks::Receiver;
use super::{By, Simulation};

/// Nothing happens for longer than anything waits: a lease, a drain, a deadline.
const QUIET: i64 = 240_000;
/// By then every release is over.
const LONGEST: i64 = 2_400_000;

impl Simulation {
    pub(super) fn calm(&mut self) {
        self.calm_since = Some(self.agenda.now);
        self.say("the world calms down".to_owned());
        let delay = self.chance.i64(30_000..120_000);
        self.agenda.put(delay, Happening::Late);
        self.wrong.now.clear();
        self.last_excuse = self.agenda.now;
        self.prometheus.slow_until = 0;
        self.prometheus.ignorant_until = 0;
        self.prometheus.lies_until = 0;
        self.receiver = Receiver::default();
        // Lags go on: a proxy that hears nothing for a lease keeps nothing from ending.
        for proxy in &mut self.proxies {
            proxy.refuses_until = proxy.refuses_until.min(self.agenda.now);
        }
        for number in 0..self.proxies.len() {
            if let Some((_, link)) = self.proxies[number].link {
                self.agenda.put(
                    1,
                    Happening::Hears {
                        proxy: number,
                        link,
                    },
                );
            }
        }
        if self.chance.u8(..3) > 0 {
            self.people_tidy_up();
            self.spread(By::People);
        }
    }

    pub(super) fn look_for_rest(&mut self) {
        let Some(calm_since) = self.calm_since else {
            return;
        };
        let now = self.agenda.now;
        if self.alive().is_empty() {
            return;
        }
        let lags = self.proxies.iter().map(|proxy| proxy.lags_until).max();
        let busy = self.last_change.max(self.last_write).max(calm_since);
        let quiet = now - busy.max(lags.unwrap_or(0));
        if quiet > QUIET {
            self.check.is_at_rest = true;
            self.at_rest();
            self.is_left();
        } else if now - calm_since > LONGEST {
            self.check.is_at_rest = true;
            self.is_left();
            if !self.is_held() {
                let status = self.rollout_status();
                self.check.violated(format!(
                    "it does not come to rest: {} {}",
                    status["phase"], status["message"]
                ));
            }
        }
    }

    /// Held for a reason that is said.
    fn is_held(&self) -> bool {
        let status = self.rollout_status();
        let stalled = status["conditions"].as_array().is_some_and(|all| {
            all.iter()
                .any(|each| each["type"] == "Stalled" && each["status"] == "True")
        });
        let paused = status["phase"] == "Paused" || self.is_out_of_budget(&status);
        let spec = self.rollout_spec();
        let frozen = self.api.list(Type::ConfigMap).next().is_some();
        stalled || paused || spec["suspend"] == true || frozen
    }

    /// A release that has spent its error budget stays where it is until a person lets it go on.
    fn is_out_of_budget(&self, status: &Value) -> bool {
        let conditions = status["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|each| each["reason"] == "ErrorBudget"))
    }

    /// Nothing is written for one that cannot be read, and that is said.
    pub(super) fn is_illegible(&self) -> bool {
        let conditions = self.rollout_status()["conditions"].clone();
        let all = conditions.as_array().cloned().unwrap_or_default();
        all.iter()
            .any(|each| each["reason"] == "Illegible" || each["reason"] == "Unreadable")
    }

    /// What somebody has ended, or has asked back, is not held by anything.
    fn is_left(&mut self) {
        let rollout = self.api.get(Type::CanaryRollout, &self.rollout_key());
        let there = self.api.get(Type::Deployment, &self.deployment_key());
        let deleted =
            rollout.is_some_and(|rollout| rollout["metadata"].get("deletionTimestamp").is_some());
        if deleted && !self.is_illegible() {
            self.check
                .violated("a deleted CanaryRollout is still there".to_owned());
        }
        let promotes_what_nobody_wants = self.check.state.as_ref().is_some_and(|state| {
            matches!(state.phase, Phase::Promoting { .. }) && state.target == state.stable
        });
        if promotes_what_nobody_wants && there.is_some() && !self.is_illegible() {
            self.check
                .violated("the stable template is back, and the promotion goes on".to_owned());
        }
    }

    fn at_rest(&mut self) {
        let (status, spec) = (self.rollout_status(), self.rollout_spec());
        if spec.is_null() {
            self.nothing_is_left();
            return;
        }
        let Some(state) = self.check.state.clone() else {
            if !self.is_held()
                && self
                    .api
                    .get(Type::Deployment, &self.deployment_key())
                    .is_some()
            {
                self.check.violated(format!(
                    "nothing is known of the release, and nobody is told: {status}"
                ));
            }
            return;
        };
        let copies = self
            .api
            .list(Type::Deployment)
            .filter(|each| is_copy(each))
            .count();
        let there = self
            .api
            .get(Type::Deployment, &self.deployment_key())
            .is_some();
        if there && !self.is_illegible() {
            self.deployment_says_so(&status);
        }
        match state.phase {
            // Nothing is tidied up for one that cannot be read.
            Phase::Stable | Phase::Failed if self.is_illegible() => {}
            Phase::Stable | Phase::Failed => {
                if state.phase == Phase::Stable && there {
                    self.nothing_is_asked();
                }
                self.everybody_is_told(&status, &spec);
                if copies > 0 && there {
                    self.check
                        .violated(format!("{copies} copies are left in {:?}", state.phase));
                }
                self.status_is_true(&status);
            }
            Phase::Unsettled { .. } => {}
            Phase::Scaling { .. }
            | Phase::Shifting { .. }
            | Phase::Soaking { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::RollingBack { .. } => {
                if there && !self.is_held() {
                    self.check.violated(format!(
                        "it rests in {:?}: {}",
                        state.phase, status["message"]
                    ));
                }
            }
        }
    }

    /// Whoever looks at the Deployment alone sees how its release stands.
    fn deployment_says_so(&mut self, status: &Value) {
        let is_true = |type_: &str| {
            let all = status["conditions"].as_array().into_iter().flatten();
            all.filter(|each| each["type"] == type_)
                .any(|each| each["status"] == "True")
        };
        let expected = match (is_true(READY), is_true(STALLED)) {
            (true, _) => "True",
            (false, true) => "False",
            (false, false) => "Unknown",
        };
        let said = self.released();
        if said.as_deref() != Some(expected) {
            self.check.violated(format!(
                "the Deployment says {said:?} of its release, and the status {}: {}",
                status["phase"], status["message"]
            ));
        }
    }

    /// What the Deployment says of its release.
    fn released(&self) -> Option<String> {
        let deployment = self.api.get(Type::Deployment, &self.deployment_key())?;
        let conditions = deployment["status"]["conditions"].as_array()?;
        let released = conditions.iter().find(|each| each["type"] == RELEASED)?;
        released["status"].as_str().map(str::to_owned)
    }

    /// Whoever is to be told how a release ended was told, or given up.
    fn everybody_is_told(&mut self, status: &Value, spec: &Value) {
        let untold = status["machine"]["ended"].as_array().map_or(0, Vec::len);
        if untold > 0 && spec["suspend"] != true {
            self.check
                .violated(format!("{untold} results were never told"));
        }
    }

    /// Where nothing is released, whatever is asked is answered.
    fn nothing_is_asked(&mut self) {
        let rollout = self.api.get(Type::CanaryRollout, &self.rollout_key());
        let asked = rollout.and_then(|rollout| {
            let annotations = rollout["metadata"]["annotations"].as_object()?;
            annotations.get(REQUEST_ANNOTATION).cloned()
        });
        if let Some(asked) = asked {
            self.check.violated(format!(
                "the request {asked} was neither heeded nor refused"
            ));
        }
    }

    fn nothing_is_left(&mut self) {
        let copies = self
            .api
            .list(Type::Deployment)
            .filter(|each| is_copy(each))
            .count();
        if copies > 0 {
            self.check
                .violated(format!("{copies} copies outlive their rollout"));
        }
        // Whoever took the label off has hidden the Deployment.
        let deployment = self.api.get(Type::Deployment, &self.deployment_key());
        let found =
            deployment.is_some_and(|it| it["metadata"]["labels"].get(ROLLOUT_LABEL).is_some());
        if let Some(said) = self.released().filter(|_| found) {
            self.check
                .violated(format!("{RELEASED} is still {said}, and nobody releases"));
        }
    }

    /// What the proxies use, and what the ReplicaSets say.
    fn status_is_true(&mut self, status: &Value) {
        for number in 0..self.proxies.len() {
            let proxy = &self.proxies[number];
            if let Some((run, weight)) = proxy.uses().filter(|_| proxy.there) {
                let weight = weight.units() / (Weight::SCALE / 100);
                self.check.violated(format!(
                    "proxy {number} uses weight {weight} of run {run}, and the status says {}",
                    status["phase"]
                ));
            }
        }
        let Some(deployment) = self.api.get(Type::Deployment, &self.deployment_key()) else {
            return;
        };
        // A pause on the stable template that no operator has made is a person's, and so is what it keeps from being made.
        let state = self.check.state.as_ref();
        if self.is_illegible()
            || deployment["spec"]["paused"] == true
                && state.is_some_and(|state| state.target == state.stable && !state.gated)
        {
            return;
        }
        let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(0);
        let stable = status["stable"]["revision"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let active: Vec<String> = self
            .api
            .list(Type::ReplicaSet)
            .filter(|set| {
                super::controllers::controls(&deployment, set) && set["spec"]["replicas"] != 0
            })
            .map(|set| crate::revision::revision(&set["spec"]["template"]))
            .collect();
        // Until the one that is to serve is Ready, any other that serves is left alone.
        let is_up = self.api.list(Type::ReplicaSet).any(|set| {
            let revision = crate::revision::revision(&set["spec"]["template"]);
            let ready = &set["status"]["readyReplicas"];
            let own = super::controllers::controls(&deployment, set);
            own && revision == stable && ready.as_i64() >= set["spec"]["replicas"].as_i64()
        });
        // One that was deleted before its template was kept is known to nobody.
        let kept = self.deployment_key().beside(format!("payment-{stable}"));
        let has_it =
            active.contains(&stable) || self.api.get(Type::ControllerRevision, &kept).is_none();
        if wanted > 0 && (!has_it || (is_up && active.len() > 1)) {
            self.check.violated(format!(
                "status says that {stable} serves, and the ReplicaSets with pods are {active:?}"
            ));
        }
    }

    /// One that was replaced, or thinks that it still leads, ends.
    pub(super) fn ends(&mut self, process: usize) {
        if self.operators[process].alive {
            self.crash(process);
        }
    }
}
