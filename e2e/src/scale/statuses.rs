//! What a watch shows of all CanaryRollouts: in which phase they are, and how long after its decision a phase was seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::gvk::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::task::AbortHandle;

/// A phase that was seen to begin; times in milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct Moment {
    /// `<namespace>/<name>`.
    pub rollout: String,
    pub phase: String,
    /// When the operator decided it.
    pub decided: u64,
    /// When the watch had it.
    pub seen: u64,
}

#[derive(Default)]
struct Shown {
    /// By rollout: the phase, and its step.
    phases: HashMap<String, (String, u64)>,
    moments: Vec<Moment>,
}

/// Ends when it is dropped.
pub struct Statuses {
    shown: Arc<Mutex<Shown>>,
    task: AbortHandle,
}

impl Drop for Statuses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Statuses {
    pub fn watch(client: &Client) -> Statuses {
        let kind = GroupVersionKind::gvk("aviary.dev", "v1alpha1", "CanaryRollout");
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
        let shown = Arc::new(Mutex::new(Shown::default()));
        let ours = Arc::clone(&shown);
        let task = tokio::spawn(async move {
            let mut changes = watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects()
                .boxed();
            while let Some(change) = changes.next().await {
                if let Ok(rollout) = change {
                    let mut shown = ours.lock().unwrap_or_else(PoisonError::into_inner);
                    shown.take(&rollout, now());
                }
            }
        });
        Statuses {
            shown,
            task: task.abort_handle(),
        }
    }

    /// How many rollouts of these namespaces are in this phase.
    pub fn count(&self, namespaces: &str, phase: &str) -> usize {
        self.with(|shown| {
            let all = shown.phases.iter();
            all.filter(|(rollout, (of, _))| rollout.starts_with(namespaces) && of == phase)
                .count()
        })
    }

    /// How many rollouts are between their first and their last step.
    pub fn rolling(&self) -> usize {
        const ROLLS: [&str; 3] = ["Scaling", "Shifting", "Soaking"];
        self.with(|shown| {
            let all = shown.phases.values();
            all.filter(|(of, _)| ROLLS.contains(&of.as_str())).count()
        })
    }

    pub fn phase(&self, rollout: &str) -> String {
        self.with(|shown| {
            shown
                .phases
                .get(rollout)
                .map_or_else(String::new, |(phase, _)| phase.clone())
        })
    }

    /// The moments since the last call.
    pub fn take(&self) -> Vec<Moment> {
        self.with(|shown| std::mem::take(&mut shown.moments))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shown) -> T) -> T {
        work(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shown {
    fn take(&mut self, rollout: &DynamicObject, now: u64) {
        let key = format!(
            "{}/{}",
            rollout.namespace().unwrap_or_default(),
            rollout.name_any()
        );
        let Some(phase) = rollout.data.pointer("/status/machine/state/phase") else {
            self.phases.insert(key, (String::new(), 0));
            return;
        };
        let name = phase["name"].as_str().unwrap_or_default().to_owned();
        let step = phase["step"].as_u64().unwrap_or(0);
        let is = (name.clone(), step);
        let before = self.phases.insert(key.clone(), is.clone());
        // Phases at rest have no time of their own.
        if before.is_some_and(|before| before != is)
            && let Some(decided) = phase["since"].as_u64()
        {
            self.moments.push(Moment {
                rollout: key,
                phase: name,
                decided,
                seen: now,
            });
        }
    }
}

pub(super) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_phase_is_a_moment_when_it_begins_and_only_then() {
        let mut shown = Shown::default();
        let status = |phase: serde_json::Value| -> DynamicObject {
            let object = json!({"metadata": {"namespace": "a", "name": "b"}, "status": {"machine": {"state": {"phase": phase}}}});
            serde_json::from_value(object).unwrap()
        };
        shown.take(&status(json!({"name": "Stable"})), 1);
        shown.take(
            &status(json!({"name": "Scaling", "step": 0, "since": 7})),
            9,
        );
        shown.take(
            &status(json!({"name": "Scaling", "step": 0, "since": 8})),
            20,
        );
        shown.take(
            &status(json!({"name": "Scaling", "step": 1, "since": 30})),
            31,
        );
        let moments: Vec<_> = shown
            .moments
            .iter()
            .map(|each| (each.decided, each.seen))
            .collect();
        assert_eq!(moments, [(7, 9), (30, 31)]);
        assert_eq!(shown.phases["a/b"], ("Scaling".to_owned(), 1));
    }
}
