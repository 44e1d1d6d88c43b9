//! Who answers at an endpoint, and whether it takes TLS.
//!
//! ```text
//!   pod's ServiceAccount (watch) ──────────────────────> the name that its certificate has to have
//!   "I accept TLS" (the sidecar's stream) ─> Accepting ─> whether anybody may count on it
//! ```
//!
//! The name is always told. Whether the sidecar accepts is told once it has said so, and from then on as long as the pod is listed with the same UID and the
//! same address: a stream that ends takes nothing back, or every restart of the operator would take callers back to plaintext. A new stream of the pod says it anew.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use traffic_core::config::Expected;
use traffic_core::spiffe::TrustDomain;

use super::views::{PodSeen, Sidecar, Views};
use crate::ads::{Ads, StreamId};
use crate::key::Key;
use crate::names::PROXY_HEALTH_PORT;
use crate::strict::Demanded;

/// Knows the identities of pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities {
    /// `None`: nobody has an identity.
    domain: Option<TrustDomain>,
    accepting: HashMap<Key, Accepting>,
    /// Where nothing but TLS is taken.
    demanded: Demanded,
}

/// A pod whose sidecar has said that it accepts TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Accepting {
    uid: Box<str>,
    /// Where it was when it said so; none: that is not known yet.
    addresses: Box<[IpAddr]>,
    /// Where it said so.
    stream: StreamId,
}

impl Identities {
    pub(super) fn of(domain: TrustDomain) -> Identities {
        Identities {
            domain: Some(domain),
            accepting: HashMap::new(),
            demanded: Demanded::default(),
        }
    }

    /// Where nothing but TLS is taken.
    pub(super) fn demanding(&mut self, demanded: Demanded) {
        self.demanded = demanded;
    }

    /// Looks at all pods.
    pub(super) fn fill(&mut self, ads: &Ads, views: &Views) {
        self.accepting.retain(|key, _| views.pods.has(key));
        for key in ads.accepting_pods() {
            self.look(ads, views, &key);
        }
    }

    /// Looks at this pod again; says whether anything is another way than before.
    pub(super) fn look(&mut self, ads: &Ads, views: &Views, key: &Key) -> bool {
        let pod = views.pods.get(key);
        let said = ads.accepting(key);
        let said = said.zip(pod).filter(|((uid, _), pod)| *uid == pod.uid);
        let Some(((uid, stream), pod)) = said else {
            return self.accepting.remove(key).is_some();
        };
        let here = Accepting {
            uid,
            addresses: pod.addresses.clone(),
            stream,
        };
        match self.accepting.get_mut(key) {
            Some(known) if known.stays(&here) => false,
            Some(known) => {
                *known = here;
                true
            }
            None => {
                self.accepting.insert(key.clone(), here);
                true
            }
        }
    }

    /// Who answers at an address of the pod; `None`: nobody in particular, since the sidecar does not see what comes there.
    pub(super) fn at(&self, pod: &PodSeen, address: SocketAddr) -> Option<Expected> {
        let domain = self.domain.as_ref()?;
        let port = address.port();
        let bypassed = port == PROXY_HEALTH_PORT || pod.skipped.contains(&port);
        if pod.sidecar == Sidecar::None || bypassed {
            return None;
        }
        let account = pod.service_account.as_deref()?;
        let id = domain.workload(&pod.key.namespace, account).ok()?;
        let accepting = self.accepting.get(&pod.key);
        Some(Expected {
            id: id.shared(),
            accepts: accepting.is_some_and(|it| it.addresses.contains(&address.ip())),
            demands: self.demanded.is_demanded(&pod.key.namespace),
        })
    }
}

impl Accepting {
    /// Whether what is known goes on to hold. A pod that has got other addresses has another network and another process behind them: what was said before says
    /// nothing of that one, only what is said on another stream does.
    fn stays(&self, here: &Accepting) -> bool {
        let elsewhere = !self.addresses.is_empty() && self.addresses != here.addresses;
        self.uid == here.uid
            && (self.addresses == here.addresses || (elsewhere && self.stream == here.stream))
    }
}

#[cfg(test)]
mod tests;
