//! What each sidecar is to do with what comes in.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use aviary_crds::policy::Allow;
use traffic_core::inbound::{Caller, Callers, Grant, Inbound, Mtls};
use traffic_core::spiffe::TrustDomain;

use super::changes::Change;
use super::views::{Allowing, By, PodSeen, Sidecar, Views};
use crate::key::Key;
use crate::mesh::WorldChange;
use crate::strict::Demanded;

/// Which pods have been told, and which are to be told anew.
#[derive(Debug, Default)]
pub(super) struct Inbounds {
    told: HashSet<Key>,
    stale: Stale,
    /// Where plaintext is refused.
    pub(super) demanded: Demanded,
    /// `None`: no caller has a name, and nobody can be allowed.
    pub(super) domain: Option<TrustDomain>,
}

#[derive(Debug, Default)]
enum Stale {
    #[default]
    All,
    Some(BTreeSet<Key>),
}

impl Inbounds {
    /// Notes whom a change is about.
    pub(super) fn touch(&mut self, views: &Views, change: &Change) {
        match change {
            Change::Everything => self.stale = Stale::All,
            Change::Pod(pod) => {
                if let Stale::Some(stale) = &mut self.stale {
                    stale.insert(pod.clone());
                }
            }
            Change::Demand(namespace) => self.touch_all(views, namespace),
            Change::Policy(policy) => self.touch_all(views, &policy.namespace),
            Change::Rollout(_)
            | Change::Target(_)
            | Change::Deployment(_)
            | Change::Revisions(_)
            | Change::ReplicaSet(_)
            | Change::Service(_)
            | Change::Endpoints(_)
            | Change::Claim(_)
            | Change::Lacking { .. }
            | Change::Namespace(_) => {}
        }
    }

    /// The same, before anybody was told anything.
    #[cfg(test)]
    pub(super) fn afresh(&self) -> Inbounds {
        Inbounds {
            demanded: self.demanded.clone(),
            domain: self.domain.clone(),
            ..Inbounds::default()
        }
    }

    fn touch_all(&mut self, views: &Views, namespace: &str) {
        if let Stale::Some(stale) = &mut self.stale {
            let pods = views.pods.by(By::Namespace, &Key::new(namespace, ""));
            stale.extend(pods.iter().map(|pod| pod.key.clone()));
        }
    }

    fn of(&self, pod: &PodSeen, policies: &[Arc<Allowing>]) -> Inbound {
        let mtls = if self.demanded.is_demanded(&pod.key.namespace) {
            Mtls::Strict
        } else {
            Mtls::Permissive
        };
        Inbound {
            mtls,
            probes: pod.probes.to_vec(),
            callers: callers(self.domain.as_ref(), pod, policies),
        }
    }

    /// Adds to `change` what the pods that were noted are to do.
    pub(super) fn publish(&mut self, views: &Views, change: &mut WorldChange) {
        let stale = std::mem::replace(&mut self.stale, Stale::Some(BTreeSet::new()));
        let stale: BTreeSet<Key> = match stale {
            Stale::All => {
                let known = self.told.iter().cloned();
                known.chain(views.pods.keys()).collect()
            }
            Stale::Some(stale) => stale,
        };
        let mut known: HashMap<String, Vec<Arc<Allowing>>> = HashMap::new();
        for key in stale {
            let policies = known.entry(key.namespace.clone()).or_insert_with(|| {
                let namespace = Key::new(&key.namespace, "");
                views.policies.by(By::Namespace, &namespace)
            });
            let pod = views.pods.get(&key);
            let meshed = pod.filter(|pod| pod.sidecar != Sidecar::None);
            match meshed {
                Some(pod) => {
                    change
                        .inbound
                        .insert(key.clone(), Some(self.of(&pod, policies)));
                    self.told.insert(key);
                }
                None if self.told.remove(&key) => {
                    change.inbound.insert(key, None);
                }
                None => {}
            }
        }
    }
}

/// Whoever the policies allow that select the pod.
fn callers(domain: Option<&TrustDomain>, pod: &PodSeen, policies: &[Arc<Allowing>]) -> Callers {
    let selecting = policies.iter().filter(|policy| pod.has(&policy.selector));
    let selecting: Vec<&Arc<Allowing>> = selecting.collect();
    if selecting.is_empty() {
        return Callers::Anybody;
    }
    let allowed = selecting.iter().flat_map(|policy| &policy.allow);
    let mut grants: Vec<Grant> = allowed.filter_map(|allow| grant(domain?, allow)).collect();
    grants.sort();
    grants.dedup();
    Callers::Only(grants)
}

/// `None`: it allows nobody.
fn grant(domain: &TrustDomain, allow: &Allow) -> Option<Grant> {
    let ports = allow.ports.iter();
    let mut ports: Vec<u16> = ports
        .filter_map(|port| u16::try_from(*port).ok().filter(|port| *port > 0))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    // Ports that are none must not become all of them.
    if ports.is_empty() && !allow.ports.is_empty() {
        return None;
    }
    let named = allow.from.iter().filter_map(|from| {
        let caller = match &from.service_account {
            Some(account) => Caller::account(domain, &from.namespace, account),
            None => Caller::namespace(domain, &from.namespace),
        };
        caller.ok()
    });
    let mut from: Vec<Caller> = named.collect();
    from.sort();
    from.dedup();
    (!from.is_empty()).then_some(Grant { ports, from })
}

#[cfg(test)]
mod tests {
    use aviary_crds::policy::Caller as Named;
    use k8s_openapi::api::core::v1::Pod;
    use kube_runtime::watcher::Event;
    use serde_json::json;

    use super::super::views::Writers;
    use super::*;
    use crate::names::PROXY_CONTAINER;

    struct Shop {
        views: Views,
        writers: Writers,
        inbounds: Inbounds,
    }

    fn shop() -> Shop {
        let (views, writers) = Views::new();
        let inbounds = Inbounds {
            domain: TrustDomain::parse("cluster.local").ok(),
            ..Inbounds::default()
        };
        Shop {
            views,
            writers,
            inbounds,
        }
    }

    fn pod(name: &str, labels: serde_json::Value) -> PodSeen {
        let pod = json!({
            "metadata": {"namespace": "shop", "name": name, "labels": labels},
            "spec": {"containers": [
                {"name": PROXY_CONTAINER},
                {"name": "app", "livenessProbe": {"httpGet": {"port": 8080, "path": "/healthz"}}},
            ]},
        });
        serde_json::from_value::<Pod>(pod).unwrap().into()
    }

    fn policy(name: &str, app: Option<&str>, allow: Vec<Allow>) -> Allowing {
        let label = app.map(|app| ("app".to_owned(), app.to_owned()));
        Allowing {
            key: Key::new("shop", name),
            selector: label.into_iter().collect(),
            allow,
        }
    }

    fn allow(ports: &[i32], namespace: &str, account: Option<&str>) -> Allow {
        Allow {
            ports: ports.to_vec(),
            from: vec![Named {
                namespace: namespace.to_owned(),
                service_account: account.map(str::to_owned),
            }],
        }
    }

    impl Shop {
        /// What is told anew, by the name of the pod.
        fn told(&mut self) -> Vec<(String, Option<Inbound>)> {
            let mut change = WorldChange::default();
            self.inbounds.publish(&self.views, &mut change);
            let told = change.inbound.into_iter();
            told.map(|(key, inbound)| (key.name, inbound)).collect()
        }

        fn policy(&mut self, policy: Allowing) {
            let key = policy.key.clone();
            self.writers.policies.apply(Event::Apply(policy));
            self.inbounds.touch(&self.views, &Change::Policy(key));
        }

        fn pod(&mut self, pod: PodSeen) {
            let key = pod.key.clone();
            self.writers.pods.apply(Event::Apply(pod));
            self.inbounds.touch(&self.views, &Change::Pod(key));
        }
    }

    #[test]
    fn a_pod_is_told_its_probes_and_whether_its_namespace_refuses_plaintext() {
        let mut shop = shop();
        shop.pod(pod("web", json!({})));
        let told = shop.told();
        let [(_, Some(inbound))] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(inbound.mtls, Mtls::Permissive);
        assert_eq!(inbound.probes[0].path(), "/healthz");
        assert_eq!(inbound.callers, Callers::Anybody);
        assert_eq!(shop.told(), []);
        shop.inbounds.demanded.set(["shop".to_owned()].into());
        let demand = Change::Demand("shop".to_owned());
        shop.inbounds.touch(&shop.views, &demand);
        let told = shop.told();
        assert_eq!(told[0].1.as_ref().unwrap().mtls, Mtls::Strict);
        let elsewhere = Change::Demand("other".to_owned());
        shop.inbounds.touch(&shop.views, &elsewhere);
        assert_eq!(shop.told(), []);
    }

    #[test]
    fn whoever_is_gone_or_has_no_sidecar_is_told_nothing() {
        let mut shop = shop();
        let mut bare = pod("bare", json!({}));
        bare.sidecar = Sidecar::None;
        shop.pod(bare);
        let web = pod("web", json!({}));
        shop.pod(web.clone());
        assert_eq!(shop.told().len(), 1);
        shop.writers.pods.apply(Event::Delete(web.clone()));
        shop.inbounds.touch(&shop.views, &Change::Pod(web.key));
        assert_eq!(shop.told(), [("web".to_owned(), None)]);
    }

    #[test]
    fn policies_add_up_and_a_pod_that_one_selects_is_closed_to_all_others() {
        let mut shop = shop();
        shop.pod(pod("web", json!({"app": "web", "tier": "front"})));
        shop.pod(pod("db", json!({"app": "db"})));
        shop.told();
        let grants = |told: &[(String, Option<Inbound>)], name: &str| {
            let of = told.iter().find(|(pod, _)| pod == name).unwrap();
            match &of.1.as_ref().unwrap().callers {
                Callers::Anybody => None,
                Callers::Only(grants) => Some(grants.clone()),
            }
        };
        shop.policy(policy("closed", Some("web"), vec![]));
        let told = shop.told();
        assert_eq!(grants(&told, "web"), Some(vec![]));
        assert_eq!(grants(&told, "db"), None);
        let front = allow(&[8080, 80, 80], "front", Some("client"));
        shop.policy(policy("front", Some("web"), vec![front]));
        let all = allow(&[], "monitoring", None);
        shop.policy(policy("all", None, vec![all]));
        let told = shop.told();
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let monitoring = Grant {
            ports: vec![],
            from: vec![Caller::namespace(&domain, "monitoring").unwrap()],
        };
        let front = Grant {
            ports: vec![80, 8080],
            from: vec![Caller::account(&domain, "front", "client").unwrap()],
        };
        assert_eq!(grants(&told, "db"), Some(vec![monitoring.clone()]));
        assert_eq!(grants(&told, "web"), Some(vec![monitoring, front]));
    }

    #[test]
    fn what_names_nobody_allows_nobody() {
        let mut shop = shop();
        shop.pod(pod("web", json!({})));
        let allow = vec![
            allow(&[0, 70_000], "front", None),
            allow(&[], "a/b", None),
            Allow::default(),
        ];
        shop.policy(policy("odd", None, allow));
        let told = shop.told();
        assert_eq!(told[0].1.as_ref().unwrap().callers, Callers::Only(vec![]));
        shop.inbounds.domain = None;
        shop.inbounds.stale = Stale::All;
        assert_eq!(
            shop.told()[0].1.as_ref().unwrap().callers,
            Callers::Only(vec![])
        );
    }
}
