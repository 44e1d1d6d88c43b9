//! The manifests of the payment service, its caller and its CanaryRollout: the demo's, with what a story needs changed.

use serde_json::{Value, json};

const PAYMENT: &str = include_str!("../../demo/payment.yaml");
const CLIENT: &str = include_str!("../../demo/client.yaml");
const ROLLOUT: &str = include_str!("../../demo/rollout.yaml");

/// What the demo deploys, or a variation of it.
#[derive(Clone, Debug)]
pub struct Workload {
    replicas: u32,
    rate: u32,
    patience: Option<&'static str>,
    noise: Option<String>,
    steps: Option<Vec<(i32, &'static str)>>,
    /// JSON pointers into the CanaryRollout, and what is put there.
    changes: Vec<(&'static str, Value)>,
}

impl Workload {
    /// As the demo has it.
    pub fn of_the_demo() -> Workload {
        Workload {
            replicas: 4,
            rate: 200,
            patience: None,
            noise: None,
            steps: None,
            changes: Vec::new(),
        }
    }

    /// Smaller and faster: for stories. Its caller is patient, since a request that waits for a machine with much to do is not lost; and so is what judges
    /// how long answers take.
    pub fn of_a_story() -> Workload {
        let steps = [(1, "6s"), (10, "6s"), (50, "6s"), (100, "6s")];
        Workload {
            replicas: 3,
            rate: 100,
            patience: Some("30s"),
            ..Workload::of_the_demo()
        }
        .steps(&steps)
        .with("/analysis/checks/1/latency/atMost", json!("30s"))
    }

    #[must_use]
    pub fn replicas(self, replicas: u32) -> Workload {
        Workload { replicas, ..self }
    }

    #[must_use]
    pub fn rate(self, rate: u32) -> Workload {
        Workload { rate, ..self }
    }

    /// Of the payment service's requests, whatever its version, this share fails by chance, like `0.1%`.
    #[must_use]
    pub fn noise(self, share: &str) -> Workload {
        let noise = Some(share.to_owned());
        Workload { noise, ..self }
    }

    #[must_use]
    pub fn steps(self, steps: &[(i32, &'static str)]) -> Workload {
        Workload {
            steps: Some(steps.to_vec()),
            ..self
        }
    }

    /// Puts a value into the CanaryRollout's spec: `with("/analysis/interval", json!("5s"))`.
    #[must_use]
    pub fn with(mut self, pointer: &'static str, value: Value) -> Workload {
        self.changes.push((pointer, value));
        self
    }

    pub fn payment(&self) -> String {
        let replicas = format!("replicas: {}", self.replicas);
        let payment = replaced(PAYMENT, "replicas: 4", &replicas);
        let Some(share) = &self.noise else {
            return payment;
        };
        let before = "        - {name: ERROR_RATE";
        let noise = format!("        - {{name: NOISE, value: {share}}}\n{before}");
        replaced(&payment, before, &noise)
    }

    pub fn client(&self) -> String {
        let before = "        - {name: RATE, value: \"200\"}";
        let rate = format!("        - {{name: RATE, value: \"{}\"}}", self.rate);
        let patience = self
            .patience
            .map(|patience| format!("\n        - {{name: TIMEOUT, value: {patience}}}"));
        replaced(CLIENT, before, &(rate + &patience.unwrap_or_default()))
    }

    pub fn rollout(&self) -> String {
        let mut rollout: Value = serde_saphyr::from_str(ROLLOUT)
            .expect("the demo's CanaryRollout is YAML; a test parses it");
        if let Some(steps) = &self.steps {
            let steps = steps
                .iter()
                .map(|(weight, soak)| json!({"weight": weight, "soak": soak}));
            rollout["spec"]["steps"] = steps.collect();
        }
        for (pointer, value) in &self.changes {
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer begins with /");
            let parent = rollout["spec"]
                .pointer_mut(parent)
                .expect("the demo's CanaryRollout has what is changed");
            parent[field] = value.clone();
        }
        rollout.to_string()
    }
}

/// Replaces what has to be there: a manifest that was changed must not silently keep its own value.
fn replaced(manifest: &str, ours: &str, theirs: &str) -> String {
    assert!(
        manifest.contains(ours),
        "the demo's manifest has no longer '{ours}'"
    );
    manifest.replace(ours, theirs)
}

/// What a version does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults<'a> {
    None,
    /// Fails this share of the requests, like `5%`.
    Errors(&'a str),
    /// Takes this much longer for each, like `20ms`.
    Slow(&'a str),
}

impl Faults<'_> {
    /// Of its requests, how many fail, in percent.
    pub fn percent(self) -> f64 {
        match self {
            Faults::None | Faults::Slow(_) => 0.0,
            Faults::Errors(share) => share.trim_end_matches('%').parse().unwrap_or(0.0),
        }
    }

    /// As the payment service reads it from its environment.
    pub fn environment(self) -> String {
        match self {
            Faults::None => "ERROR_RATE=0%".to_owned(),
            Faults::Errors(rate) => format!("ERROR_RATE={rate}"),
            Faults::Slow(time) => format!("LATENCY={time}"),
        }
    }

    /// What the version before may have had, and this one has not, as `kubectl set env` takes it away.
    pub fn without(self) -> &'static str {
        match self {
            Faults::None | Faults::Errors(_) => "LATENCY-",
            Faults::Slow(_) => "ERROR_RATE=0%",
        }
    }
}

#[cfg(test)]
mod tests {
    use aviary_crds::CanaryRollout;

    use super::*;

    fn parse(rollout: &str) -> CanaryRollout {
        serde_json::from_str(rollout).unwrap()
    }

    #[test]
    fn the_demos_rollout_is_a_canary_rollout() {
        let rollout = parse(&Workload::of_the_demo().rollout());
        let weights: Vec<i32> = rollout.spec.steps.iter().map(|step| step.weight).collect();
        assert_eq!(weights, [1, 10, 50, 100]);
    }

    #[test]
    fn a_story_changes_what_it_names_and_nothing_else() {
        let story = Workload::of_the_demo()
            .steps(&[(5, "3s"), (100, "4s")])
            .replicas(2)
            .rate(50);
        let story = story
            .with("/analysis/failureLimit", json!(0))
            .with("/suspend", json!(true));
        let rollout = parse(&story.rollout());
        assert_eq!(
            (
                rollout.spec.steps[0].weight,
                rollout.spec.steps[1].soak.as_str()
            ),
            (5, "4s")
        );
        assert_eq!(
            (
                rollout.spec.analysis.interval.as_str(),
                rollout.spec.analysis.failure_limit
            ),
            ("3s", 0)
        );
        assert!(rollout.spec.suspend);
        assert!(story.payment().contains("replicas: 2\n"));
        assert!(story.client().contains("value: \"50\""));
        assert!(!story.client().contains("TIMEOUT"));
        let patient = Workload::of_a_story().client();
        assert!(patient.contains("- {name: TIMEOUT, value: 30s}\n        ports:"));
        assert!(!story.payment().contains("NOISE"));
        let noisy: Value =
            serde_saphyr::from_str(story.noise("0.1%").payment().split("---").next().unwrap())
                .unwrap();
        let environment = &noisy["spec"]["template"]["spec"]["containers"][0]["env"];
        assert_eq!(environment[1], json!({"name": "NOISE", "value": "0.1%"}));
    }

    #[test]
    fn nothing_in_the_manifests_knows_the_mesh() {
        for manifest in [PAYMENT, CLIENT] {
            assert!(
                !manifest.contains("aviary.dev") && !manifest.contains("proxy"),
                "{manifest}"
            );
        }
    }
}
