//! Whose business each release is, as it was said last: made anew when policies or the labels of its pods change.

use std::collections::{BTreeSet, HashMap};

use super::RolloutSplit;
use crate::key::Key;
use crate::mesh::{Callers, WorldChange};
use crate::rollout::views::{By, Views};

#[derive(Default)]
pub(super) struct Business {
    /// By rollout; one that is missing is everybody's.
    told: HashMap<Key, Callers>,
    stale: BTreeSet<Key>,
}

impl Business {
    pub(super) fn touch(&mut self, rollouts: impl IntoIterator<Item = Key>) {
        self.stale.extend(rollouts);
    }

    /// Adds to `change` what is another one than before.
    pub(super) fn publish(
        &mut self,
        views: &Views,
        splits: &HashMap<Key, RolloutSplit>,
        change: &mut WorldChange,
    ) {
        for rollout in std::mem::take(&mut self.stale) {
            let split = splits.get(&rollout);
            let callers = split.and_then(|split| callers(views, &rollout, split));
            if self.told.get(&rollout) == callers.as_ref() {
                continue;
            }
            change.callers.insert(rollout.to_string(), callers.clone());
            match callers {
                Some(callers) => self.told.insert(rollout, callers),
                None => self.told.remove(&rollout),
            };
        }
    }
}

/// `None`: no policy selects its pods.
fn callers(views: &Views, rollout: &Key, split: &RolloutSplit) -> Option<Callers> {
    let namespace = Key::new(&rollout.namespace, "");
    let policies = views.policies.by(By::Namespace, &namespace);
    let mut selecting = policies
        .iter()
        .filter(|policy| policy.selects(&split.pod_labels))
        .peekable();
    selecting.peek()?;
    Some(Callers::of(selecting.flat_map(|policy| &policy.allow)))
}

#[cfg(test)]
mod tests {
    use aviary_crds::policy::{Allow, Caller};
    use kube_runtime::watcher::Event;
    use rollout_core::Split;

    use super::*;
    use crate::rollout::changes::Change;
    use crate::rollout::traffic::Traffic;
    use crate::rollout::views::Allowing;

    fn split(app: &str) -> RolloutSplit {
        RolloutSplit {
            deployment: "web".to_owned(),
            pod_labels: [("app".to_owned(), app.to_owned())].into(),
            stable: "v1".to_owned(),
            target: "v1".to_owned(),
            split: Split::Stable,
            fuse: None,
            sticky: None,
            retired: BTreeSet::new(),
            revoked: Vec::new(),
        }
    }

    fn policy(app: &str, from: &[&str]) -> Allowing {
        let from = from.iter().map(|namespace| Caller {
            namespace: (*namespace).to_owned(),
            service_account: None,
        });
        Allowing {
            key: Key::new("shop", "policy"),
            selector: [("app".to_owned(), app.to_owned())].into(),
            allow: vec![Allow {
                from: from.collect(),
                ..Allow::default()
            }],
        }
    }

    #[test]
    fn a_release_is_everybodys_business_until_a_policy_selects_its_pods() {
        let (views, mut writers) = Views::new();
        let mut traffic = Traffic::default();
        let (web, elsewhere) = (Key::new("shop", "web"), Key::new("other", "web"));
        for rollout in [&web, &elsewhere] {
            traffic.set(rollout, Some(split("web")));
        }
        let mut said = |traffic: &mut Traffic, policy: Option<Event<Allowing>>| {
            if let Some(policy) = policy {
                writers.policies.apply(policy);
                let change = Change::Policy(Key::new("shop", "policy"));
                assert!(traffic.touch(&views, &change));
            }
            let callers = traffic.publish(&views).change.callers.into_iter();
            callers.collect::<Vec<_>>()
        };
        assert_eq!(said(&mut traffic, None), []);
        let db = Event::Apply(policy("db", &["front"]));
        assert_eq!(said(&mut traffic, Some(db)), []);
        let front = policy("web", &["front"]);
        let expected = Some(Callers::of(front.allow.iter()));
        let selects = Event::Apply(front.clone());
        let web_only = [("shop/web".to_owned(), expected.clone())];
        assert_eq!(said(&mut traffic, Some(selects)), web_only);
        assert_eq!(said(&mut traffic, Some(Event::Apply(front.clone()))), []);
        // Other pods, and these again.
        traffic.set(&web, Some(split("api")));
        let nobody = [("shop/web".to_owned(), None)];
        assert_eq!(said(&mut traffic, None), nobody);
        traffic.set(&web, Some(split("web")));
        assert_eq!(said(&mut traffic, None), web_only);
        assert_eq!(said(&mut traffic, Some(Event::Delete(front))), nobody);
    }
}
