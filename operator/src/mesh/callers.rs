//! Whose business a release is: who may call its pods, where CallerPolicies say so. What they say of ports is left out: whoever may call any port counts.

use std::collections::{BTreeMap, BTreeSet};

use aviary_crds::policy::Allow;

/// These and nobody else, by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers(BTreeMap<String, Accounts>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Accounts {
    All,
    These(BTreeSet<String>),
}

impl Callers {
    /// Whom any of these lets in.
    pub fn of<'a>(allowed: impl Iterator<Item = &'a Allow>) -> Callers {
        let mut callers = Callers::default();
        for caller in allowed.flat_map(|allow| &allow.from) {
            callers.add(&caller.namespace, caller.service_account.as_deref());
        }
        callers
    }

    /// `None`: every ServiceAccount of the namespace.
    fn add(&mut self, namespace: &str, service_account: Option<&str>) {
        let known = self.0.entry(namespace.to_owned());
        let known = known.or_insert_with(|| Accounts::These(BTreeSet::new()));
        match (known, service_account) {
            (known, None) => *known = Accounts::All,
            (Accounts::These(these), Some(one)) => {
                these.insert(one.to_owned());
            }
            (Accounts::All, Some(_)) => {}
        }
    }

    pub fn include(&self, namespace: &str, service_account: &str) -> bool {
        self.0
            .get(namespace)
            .is_some_and(|accounts| match accounts {
                Accounts::All => true,
                Accounts::These(these) => these.contains(service_account),
            })
    }
}

#[cfg(test)]
mod tests {
    use aviary_crds::policy::Caller;

    use super::*;

    fn allow(of: &[(&str, Option<&str>)]) -> Allow {
        let from = of.iter().map(|(namespace, account)| Caller {
            namespace: (*namespace).to_owned(),
            service_account: account.map(str::to_owned),
        });
        Allow {
            ports: vec![8080],
            from: from.collect(),
        }
    }

    #[test]
    fn what_policies_allow_adds_up() {
        let allowed = [
            allow(&[("front", Some("web")), ("monitoring", None)]),
            allow(&[("front", Some("admin")), ("monitoring", Some("one"))]),
        ];
        let callers = Callers::of(allowed.iter());
        for (namespace, account, is_one) in [
            ("front", "web", true),
            ("front", "admin", true),
            ("front", "other", false),
            ("monitoring", "whoever", true),
            ("other", "web", false),
        ] {
            let included = callers.include(namespace, account);
            assert_eq!(included, is_one, "{namespace}/{account}");
        }
        assert!(!Callers::default().include("front", "web"));
    }
}
