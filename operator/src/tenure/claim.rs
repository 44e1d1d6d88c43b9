//! What a process does about the Lease, by what it has seen of it. Pure: clocks are given.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;

/// How long others wait for a holder that says nothing.
pub(super) const DURATION: Duration = Duration::from_secs(5);
/// When a holder renews it.
pub(super) const RENEW: Duration = Duration::from_secs(1);
/// How long after its last renewal a holder believes that it is one. Shorter than [`DURATION`]: clocks run differently fast, and what is on its way has to
/// arrive.
pub(super) const GIVE_UP: Duration = Duration::from_secs(4);

/// What this process knows of the Lease.
#[derive(Debug)]
pub(super) struct Claim {
    identity: String,
    seen: Option<Seen>,
}

/// The Lease as it was seen last.
#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    /// Since when it is as it is, by our clock.
    since: Instant,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    Write(Write),
    /// Somebody else has it until then, unless they renew it or give it back.
    Wait {
        until: Instant,
        holder: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Create(Box<Lease>),
    /// Over the version that was seen.
    Replace(Box<Lease>),
}

impl Claim {
    pub(super) fn new(identity: String) -> Claim {
        Claim {
            identity,
            seen: None,
        }
    }

    /// It was read. `None`: there is none.
    pub(super) fn look(&mut self, lease: Option<Lease>, now: Instant) {
        let Some(lease) = lease else {
            self.seen = None;
            return;
        };
        let since = match &self.seen {
            // A watch may bring again what was read before.
            Some(seen) if seen.lease.resource_version() == lease.resource_version() => seen.since,
            Some(_) | None => now,
        };
        self.seen = Some(Seen { lease, since });
    }

    /// What to do to have it.
    pub(super) fn take(&self, name: &str, now: Instant, clock: Timestamp) -> Next {
        let Some(seen) = &self.seen else {
            let mut lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: None,
            };
            lease.spec = Some(self.ours(&LeaseSpec::default(), clock));
            return Next::Write(Write::Create(Box::new(lease)));
        };
        let spec = seen.lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let until = seen.since + lasts(&spec);
        if !holder.is_empty() && holder != self.identity && now < until {
            return Next::Wait {
                until,
                holder: holder.to_owned(),
            };
        }
        let mut lease = seen.lease.clone();
        lease.spec = Some(self.ours(&spec, clock));
        Next::Write(Write::Replace(Box::new(lease)))
    }

    /// It as one that nobody holds; `None`: it is not ours.
    pub(super) fn give_back(&self, clock: Timestamp) -> Option<Write> {
        let mut lease = self.seen.as_ref()?.lease.clone();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return None;
        }
        // As client-go does: some refuse a Lease without a holder that has no time.
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(clock));
        Some(Write::Replace(Box::new(lease)))
    }

    /// Whether somebody else has it.
    pub(super) fn is_of_another(&self) -> bool {
        self.holder().is_some_and(|holder| holder != self.identity)
    }

    /// Who has it.
    pub(super) fn holder(&self) -> Option<&str> {
        let spec = self.seen.as_ref()?.lease.spec.as_ref()?;
        let holder = spec.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    fn ours(&self, before: &LeaseSpec, clock: Timestamp) -> LeaseSpec {
        let was_ours = before.holder_identity.as_deref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: before
                .acquire_time
                .clone()
                .filter(|_| was_ours)
                .or(Some(MicroTime(clock))),
            renew_time: Some(MicroTime(clock)),
            lease_transitions: Some(if was_ours || before.holder_identity.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before.clone()
        }
    }
}

/// How long a Lease lasts that is not renewed. One of nobody's making may say anything: then it lasts as ours.
fn lasts(spec: &LeaseSpec) -> Duration {
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    seconds
        .filter(|seconds| (1..=60).contains(seconds))
        .map_or(DURATION, Duration::from_secs)
}

#[cfg(test)]
mod tests;
