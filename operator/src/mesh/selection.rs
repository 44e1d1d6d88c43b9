//! Which Services may select whose pods, without a comparison of all with all.
//!
//! A Service is found by one pair of its selector, the one that the fewest others are found by; whoever has all of its pairs
//! has that one too. A rollout is found by any label of its pods. What is found is a candidate: [`super::selects`] decides.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::Service;

use crate::key::Key;

#[derive(Debug, Default)]
pub struct Selection {
    services: HashMap<u64, HashSet<Key>>,
    /// The pair by which a Service is found.
    found_by: HashMap<Key, u64>,
    rollouts: HashMap<u64, HashSet<Key>>,
    labels: HashMap<Key, Vec<u64>>,
}

impl Selection {
    /// `None`: there is no such Service.
    pub fn set_service(&mut self, key: &Key, service: Option<&Service>) {
        if let Some(pair) = self.found_by.remove(key) {
            remove(&mut self.services, pair, key);
        }
        let selector = service.and_then(|service| service.spec.as_ref()?.selector.as_ref());
        let pairs = selector
            .into_iter()
            .flat_map(|selector| pairs(&key.namespace, selector));
        let population = |pair: &u64| self.services.get(pair).map_or(0, HashSet::len);
        if let Some(pair) = pairs.min_by_key(population) {
            self.services.entry(pair).or_default().insert(key.clone());
            self.found_by.insert(key.clone(), pair);
        }
    }

    /// The labels of a rollout's pods; none: there is no such rollout.
    pub fn set_rollout(&mut self, key: &Key, labels: &BTreeMap<String, String>) {
        for pair in self.labels.remove(key).unwrap_or_default() {
            remove(&mut self.rollouts, pair, key);
        }
        let pairs: Vec<u64> = pairs(&key.namespace, labels).collect();
        for pair in &pairs {
            self.rollouts.entry(*pair).or_default().insert(key.clone());
        }
        if !pairs.is_empty() {
            self.labels.insert(key.clone(), pairs);
        }
    }

    /// Services that may select pods with these labels.
    pub fn services_for(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Key> {
        let found = pairs(namespace, labels).filter_map(|pair| self.services.get(&pair));
        found.flatten().cloned().collect()
    }

    /// Rollouts whose pods the Service may select.
    pub fn rollouts_for(&self, service: &Service) -> Vec<Key> {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let selector = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        let pairs = selector
            .into_iter()
            .flat_map(|selector| pairs(namespace, selector));
        let found = pairs.map(|pair| self.rollouts.get(&pair));
        // Without a rollout that has one of the pairs, none has all of them.
        let fewest = found
            .min_by_key(|rollouts| rollouts.map_or(0, HashSet::len))
            .flatten();
        let mut rollouts: Vec<Key> = fewest.into_iter().flatten().cloned().collect();
        rollouts.sort();
        rollouts
    }
}

fn remove(all: &mut HashMap<u64, HashSet<Key>>, pair: u64, key: &Key) {
    if let Some(keys) = all.get_mut(&pair) {
        keys.remove(key);
        if keys.is_empty() {
            all.remove(&pair);
        }
    }
}

/// Hashes: two that are the same by chance are one more candidate.
fn pairs<'a>(
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = u64> + 'a {
    labels.iter().map(move |pair| {
        let mut hasher = DefaultHasher::new();
        (namespace, pair).hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn service(selector: &[(&str, &str)]) -> Service {
        let metadata = json!({"namespace": "shop", "name": "a"});
        let spec = json!({"selector": labels(selector)});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn whoever_selects_is_found_from_both_sides_and_few_others_are() {
        let mut selection = Selection::default();
        let name = |number: usize| Key::new("shop", format!("web-{number}"));
        let own = |number: usize| {
            [
                ("app", format!("web-{number}")),
                ("tier", "front".to_owned()),
            ]
        };
        for number in 0..50 {
            let own = own(number);
            let pairs: Vec<(&str, &str)> = own.iter().map(|(k, v)| (*k, v.as_str())).collect();
            selection.set_service(&name(number), Some(&service(&pairs)));
            selection.set_rollout(&name(number), &labels(&pairs));
        }
        let found = selection.services_for(
            "shop",
            &labels(&[("app", "web-7"), ("tier", "front"), ("x", "y")]),
        );
        assert!(found.contains(&name(7)) && found.len() < 5, "{found:?}");
        assert_eq!(
            selection.rollouts_for(&service(&[("app", "web-7"), ("tier", "front")])),
            [name(7)]
        );
        assert_eq!(
            selection.rollouts_for(&service(&[("tier", "front")])).len(),
            50
        );
        assert!(
            selection
                .rollouts_for(&service(&[("app", "web-7"), ("no", "one")]))
                .is_empty()
        );
        assert!(
            selection
                .services_for("other", &labels(&[("app", "web-7")]))
                .is_empty()
        );
        for number in 0..50 {
            selection.set_service(&name(number), None);
            selection.set_rollout(&name(number), &BTreeMap::new());
        }
        assert!(selection.services.is_empty() && selection.rollouts.is_empty());
        assert!(selection.found_by.is_empty() && selection.labels.is_empty());
    }
}
