//! What is counted for the revisions that routes name.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::DescriptorEncoder;
use traffic_core::config::Route;
use traffic_core::contract::{label, metric, peer};

use super::classes::ByClass;
use super::histogram::Histogram;
use super::retries::{self, Retries};
use super::series::{Labels, by_class, counted, times};

/// How long the series of a revision that no route names any more stay.
const UNUSED: Duration = Duration::from_secs(3600);

/// What is counted for one revision of one Service port.
#[derive(Debug, Default)]
pub struct ArmMetrics {
    pub requests: ByClass,
    pub first_attempts: ByClass,
    pub connections: ByClass,
    pub withheld: AtomicU64,
    /// Long streams that were ended since the revision had no weight any more.
    pub ended: AtomicU64,
    /// From the moment on at which a route of a Service that asks for them names it.
    pub(super) retries: OnceLock<Box<Retries>>,
    duration: Histogram,
    /// Requests in progress, of those that are counted.
    in_progress: AtomicU32,
}

/// A request that counts as in progress until this is dropped.
#[derive(Debug)]
pub struct Place(Arc<ArmMetrics>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ArmMetrics {
    /// A place among `most` requests in progress, if there is one. Only those that ask are counted.
    pub fn place(self: &Arc<Self>, most: NonZeroU32) -> Option<Place> {
        // It is given back by what is dropped here if there was none.
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        (before < most.get()).then_some(place)
    }

    pub fn answered_after(&self, time: Duration) {
        self.duration.record(time);
    }

    /// `None`: nobody asks for any.
    pub fn retries(&self) -> Option<&Retries> {
        self.retries.get().map(|retries| &**retries)
    }
}

/// The labels of an arm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ArmLabels {
    namespace: String,
    service: String,
    port: u16,
    revision: String,
    source: Source,
}

/// Whose requests they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// This pod's application.
    Application,
    /// Callers without a sidecar, who called this pod.
    Outside,
}

/// An arm's metrics, and when a route named it last, as far as scrapes saw it.
#[derive(Debug)]
struct Kept {
    arm: Arc<ArmMetrics>,
    used: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Arms(Mutex<BTreeMap<ArmLabels, Kept>>);

impl Arms {
    pub(super) fn arm(&self, route: &Route, revision: &str, source: Source) -> Arc<ArmMetrics> {
        let labels = ArmLabels {
            namespace: route.namespace.clone(),
            service: route.service.clone(),
            port: route.port,
            revision: revision.to_owned(),
            source,
        };
        let mut arms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = arms.entry(labels).or_insert_with(|| Kept {
            arm: Arc::default(),
            used: Instant::now(),
        });
        if route.bounds.retries.is_some() {
            kept.arm.retries.get_or_init(Box::default);
        }
        kept.arm.clone()
    }

    /// Forgets revisions that no route has named for an hour: a pod outlives many of them.
    pub(super) fn forget_unused(&self, now: Instant) {
        let mut arms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        arms.retain(|_, kept| {
            if Arc::strong_count(&kept.arm) > 1 {
                kept.used = now;
            }
            now.saturating_duration_since(kept.used) < UNUSED
        });
    }

    pub(super) fn encode(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let arms: Vec<(Labels<'_>, Arc<ArmMetrics>)> = {
            let arms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            arms.iter()
                .map(|(labels, kept)| (labels.pairs(), kept.arm.clone()))
                .collect()
        };
        by_class(
            e,
            metric::OUTBOUND_REQUESTS,
            "Requests by the revision that answered last",
            &arms,
            |a| &a.requests,
        )?;
        by_class(
            e,
            metric::OUTBOUND_FIRST_ATTEMPTS,
            "First attempts by picked revision",
            &arms,
            |a| &a.first_attempts,
        )?;
        by_class(
            e,
            metric::OUTBOUND_CONNECTIONS,
            "Opaque connections opened",
            &arms,
            |a| &a.connections,
        )?;
        counted(
            e,
            metric::OUTBOUND_WITHHELD,
            "Requests of the canary's share that the fuse gave to stable",
            &arms,
            |a| a.withheld.load(Ordering::Relaxed),
        )?;
        counted(
            e,
            metric::OUTBOUND_STREAMS_ENDED,
            "Long streams ended because the revision had no weight any more",
            &arms,
            |a| a.ended.load(Ordering::Relaxed),
        )?;
        retries::encode(e, &arms)?;
        times(
            e,
            metric::OUTBOUND_DURATION,
            "Time to the answer's head, first attempts",
            &arms,
            |a| &a.duration,
        )
    }
}

impl ArmLabels {
    fn pairs(&self) -> Labels<'static> {
        let mut pairs = vec![
            (label::DST_NAMESPACE, self.namespace.clone()),
            (label::DST_SERVICE, self.service.clone()),
            (label::DST_PORT, self.port.to_string()),
            (label::REVISION, self.revision.clone()),
        ];
        match self.source {
            Source::Application => {}
            Source::Outside => pairs.push((label::SOURCE, peer::OUTSIDE.to_owned())),
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic_core::bounds::Bounds;
    use traffic_core::config::{Arm, Protocol, Split};

    fn route() -> Route {
        let stable = Arm {
            cluster: "shop/web/80/v1".into(),
            revision: "v1".into(),
        };
        Route {
            name: "shop/web/80".into(),
            namespace: "shop".into(),
            service: "web".into(),
            port: 80,
            protocol: Protocol::Detect,
            rollout: "shop/web".into(),
            split: Split {
                stable,
                canary: None,
            },
            bounds: Bounds::default(),
            revoked: vec![],
        }
    }

    #[test]
    fn there_are_as_many_places_as_there_may_be_and_those_that_are_given_back() {
        let arm = Arc::new(ArmMetrics::default());
        let two = NonZeroU32::new(2).unwrap();
        let (first, second) = (arm.place(two), arm.place(two));
        assert!(first.is_some() && second.is_some());
        for _ in 0..3 {
            assert!(arm.place(two).is_none());
        }
        drop(first);
        assert!(arm.place(two).is_some());
        assert!(arm.place(NonZeroU32::MIN).is_none());
    }

    #[test]
    fn a_revision_is_forgotten_an_hour_after_its_last_use_and_not_while_it_is_used() {
        let arms = Arms::default();
        let used = arms.arm(&route(), "v1", Source::Application);
        drop(arms.arm(&route(), "v2", Source::Outside));
        let now = Instant::now();
        let known = || arms.0.lock().unwrap().len();
        arms.forget_unused(now + UNUSED / 2);
        assert_eq!(known(), 2);
        arms.forget_unused(now + UNUSED * 2);
        assert_eq!(known(), 1);
        drop(used);
        arms.forget_unused(now + UNUSED * 5 / 2);
        assert_eq!(known(), 1);
        arms.forget_unused(now + UNUSED * 4);
        assert_eq!(known(), 0);
    }
}
