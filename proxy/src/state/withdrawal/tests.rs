//! The clock stands still, and leaps when there is nothing to do but to wait for it.

use std::future::poll_fn;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::timeout;
use traffic_core::bounds::Bounds;
use traffic_core::config::{Arm, CanaryArm, Protocol, Route, Snapshot, Weight};
use traffic_core::lease::Lease;
use traffic_core::revoked::RevocationMemory;
use traffic_core::withdrawal::{GRACE, LONGEST, SPREAD};

use super::*;
use crate::metrics::Metrics;
use crate::table::Table;

/// `shop/web`: this stable revision, and a canary with so many percent.
fn ready(stable: &str, canary: Option<(&str, u32)>) -> Arc<ReadyRoute> {
    let arm = |revision: &str| Arm {
        cluster: format!("shop/web/80/{revision}"),
        revision: revision.to_owned(),
    };
    let canary = canary.map(|(revision, percent)| CanaryArm {
        arm: arm(revision),
        weight: Weight::percent(percent).unwrap(),
        run: 1,
        lease: Lease::Unlimited,
        fuse: None,
        sticky: None,
    });
    let route = Route {
        name: "shop/web/80".to_owned(),
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: 80,
        protocol: Protocol::Detect,
        rollout: "shop/web".to_owned(),
        split: Split {
            stable: arm(stable),
            canary,
        },
        bounds: Bounds::default(),
        revoked: vec![],
    };
    let address = "10.0.0.1:80".parse().unwrap();
    let snapshot = Snapshot {
        routes: HashMap::from([(address, Some(Arc::new(route)))]),
        ..Snapshot::default()
    };
    let (old, memory) = (Table::default(), RevocationMemory::default());
    let table = Table::prepare(&snapshot, &old, &memory, &Metrics::default(), || 1);
    table.routes[&address].clone().unwrap()
}

/// A worker, as far as it ends streams.
struct Worker {
    withdrawals: Withdrawals,
    metrics: Arc<ArmMetrics>,
    /// The table holds on to what it has.
    held: Option<Rc<Streams>>,
}

impl Worker {
    fn with(stable: &str, canary: Option<(&str, u32)>) -> Worker {
        let mut worker = Worker {
            withdrawals: Withdrawals::new(Grace::default()),
            metrics: Arc::default(),
            held: None,
        };
        worker.installs(stable, canary);
        worker
    }

    fn installs(&mut self, stable: &str, canary: Option<(&str, u32)>) {
        let ready = ready(stable, canary);
        self.held = self.withdrawals.of(&ready);
        self.withdrawals.follow([ready].iter(), now());
    }

    fn opens(&self) -> LongStream {
        self.held.as_ref().unwrap().open(&self.metrics)
    }

    fn ended(&self) -> u64 {
        self.metrics.ended.load(Ordering::Relaxed)
    }
}

/// It waits for something.
async fn waits(stream: &mut LongStream) {
    poll_fn(|cx| {
        assert!(Pin::new(&mut *stream).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// How long it goes on, at most an hour.
async fn goes_on(stream: &mut LongStream) -> Option<Duration> {
    let before = now();
    let ended = timeout(Duration::from_secs(3600), stream).await;
    ended.ok().map(|()| now() - before)
}

async fn locally<T>(work: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(work).await
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_its_time_from_the_moment_on_at_which_the_weight_went_to_zero() {
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 50)));
        let mut stream = worker.opens();
        assert_eq!(goes_on(&mut stream).await, None);
        worker.installs("v1", Some(("v2", 0)));
        // Another table says the same.
        tokio::time::sleep(GRACE / 2).await;
        worker.installs("v1", None);
        let left = goes_on(&mut stream).await.unwrap();
        assert!((GRACE / 2..GRACE / 2 + SPREAD).contains(&left), "{left:?}");
        assert_eq!(worker.ended(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_weight_that_comes_back_in_time_ends_nothing() {
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 50)));
        let mut stream = worker.opens();
        waits(&mut stream).await;
        worker.installs("v1", Some(("v2", 0)));
        tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
        worker.installs("v1", Some(("v2", 1)));
        assert_eq!(goes_on(&mut stream).await, None);
        // And it has all of its time when the weight goes again.
        worker.installs("v1", Some(("v2", 0)));
        assert!(goes_on(&mut stream).await.unwrap() >= GRACE);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_promotion_ends_nobody_s_streams() {
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 100)));
        let mut stream = worker.opens();
        waits(&mut stream).await;
        worker.installs("v2", None);
        assert_eq!(goes_on(&mut stream).await, None);
        // The next release is not about it, whatever becomes of that.
        worker.installs("v2", Some(("v3", 50)));
        let mut next = worker.opens();
        worker.installs("v2", Some(("v3", 0)));
        assert!(goes_on(&mut next).await.is_some());
        worker.installs("v3", None);
        assert_eq!(goes_on(&mut stream).await, None);
        assert_eq!(worker.ended(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_comes_in_time_ends_nothing_either() {
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 100)));
        let mut stream = worker.opens();
        waits(&mut stream).await;
        worker.installs("v1", Some(("v2", 0)));
        tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
        worker.installs("v2", None);
        assert_eq!(goes_on(&mut stream).await, None);
        assert!(worker.withdrawals.still_open().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_another_one_takes_the_place_of_is_withdrawn() {
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 50)));
        let mut stream = worker.opens();
        waits(&mut stream).await;
        worker.installs("v1", Some(("v3", 50)));
        let mut next = worker.opens();
        assert!(goes_on(&mut stream).await.is_some());
        assert_eq!(goes_on(&mut next).await, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_when_the_weight_is_gone_has_its_time_too() {
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 50)));
        let (mut first, mut late) = (worker.opens(), worker.opens());
        waits(&mut first).await;
        worker.installs("v1", Some(("v2", 0)));
        assert!(goes_on(&mut first).await.is_some());
        drop(first);
        // It was on its way for an hour without having to wait.
        assert!(goes_on(&mut late).await.unwrap() >= GRACE);
        assert_eq!(worker.ended(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_are_ended_at_a_bounded_rate_and_within_the_spread() {
    const STREAMS: usize = 2_500;
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 50)));
        let mut streams: Vec<LongStream> = (0..STREAMS).map(|_| worker.opens()).collect();
        for stream in &mut streams {
            waits(stream).await;
        }
        // However often the weight goes and comes back before.
        for percent in [0, 50, 0, 50, 0] {
            worker.installs("v1", Some(("v2", percent)));
        }
        assert_eq!(
            worker.withdrawals.still_open(),
            [("shop/web/80/v2".to_owned(), STREAMS as u64)]
        );
        let withdrawn = now();
        let mut by_moment: BTreeMap<Instant, usize> = BTreeMap::new();
        for stream in streams {
            stream.await;
            *by_moment.entry(now()).or_default() += 1;
        }
        let most = withdrawal::at_once(STREAMS, SPREAD);
        assert!(most < 10, "{most}");
        assert!(by_moment.values().all(|count| *count <= most));
        let (first, last) = (by_moment.keys().next(), by_moment.keys().last());
        assert!(*first.unwrap() - withdrawn >= GRACE);
        // The clock leaps by whole milliseconds, once for each beat.
        assert!(*last.unwrap() - withdrawn <= LONGEST + SPREAD / 2);
        assert!(worker.withdrawals.still_open().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_whose_streams_are_over_is_forgotten() {
    locally(async {
        let mut worker = Worker::with("v1", Some(("v2", 50)));
        let mut stream = worker.opens();
        waits(&mut stream).await;
        worker.installs("v1", None);
        assert_eq!(worker.withdrawals.streams.borrow().len(), 1);
        drop(stream);
        worker.installs("v1", None);
        assert!(worker.withdrawals.streams.borrow().is_empty());
    })
    .await;
}
