//! The long streams of canaries in one worker, and their end when a canary's weight goes to 0: [`traffic_core::withdrawal`] says whose and how soon.
//!
//! A stream is known here from the first time that it waits for something, and no earlier: a call that is answered at once costs nothing, nor does
//! one of stable's. Each revision that a route has as its canary has one list, whatever tables come and go, so a stream that was opened
//! long ago is found when the weight goes to 0.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep, sleep_until};
use traffic_core::config::Split;
use traffic_core::withdrawal::{self, BEAT, Fate, Grace};

use crate::metrics::ArmMetrics;
use crate::table::ReadyRoute;

/// Every canary's streams.
#[derive(Debug)]
pub struct Withdrawals {
    grace: Grace,
    /// By cluster.
    streams: RefCell<HashMap<String, Rc<Streams>>>,
}

/// The streams of one revision of one Service port, as long as it is a canary.
#[derive(Debug)]
pub struct Streams {
    route: String,
    revision: String,
    grace: Grace,
    /// Since when it has no weight.
    withdrawn: Cell<Option<Instant>>,
    /// Those that wait, the oldest first.
    open: RefCell<BTreeMap<u64, Open>>,
    opened: Cell<u64>,
    /// What ends them.
    ending: RefCell<Option<AbortHandle>>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    waker: Waker,
}

/// A stream that is ended when its revision is withdrawn: ready then. Known from the first poll on, until it is dropped.
#[derive(Debug)]
pub struct LongStream {
    streams: Rc<Streams>,
    metrics: Arc<ArmMetrics>,
    place: Place,
}

/// Where a stream is in the list.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// It has not waited for anything yet.
    None,
    At(u64),
    /// It was told that it is over.
    Over,
}

impl Withdrawals {
    pub fn new(grace: Grace) -> Withdrawals {
        Withdrawals {
            grace,
            streams: RefCell::default(),
        }
    }

    /// The streams of a route's canary; `None`: it has none.
    pub fn of(&self, ready: &ReadyRoute) -> Option<Rc<Streams>> {
        let arm = &ready.split.canary.as_ref()?.arm;
        let mut all = self.streams.borrow_mut();
        if let Some(known) = all.get(&arm.cluster) {
            return Some(known.clone());
        }
        let made = Rc::new(Streams {
            route: ready.route.name.clone(),
            revision: arm.revision.clone(),
            grace: self.grace,
            withdrawn: Cell::new(None),
            open: RefCell::default(),
            opened: Cell::new(0),
            ending: RefCell::default(),
        });
        all.insert(arm.cluster.clone(), made.clone());
        Some(made)
    }

    /// These routes hold from `now` on. To be called when their arms have what they need of this.
    pub fn follow<'r>(&self, routes: impl Iterator<Item = &'r Arc<ReadyRoute>>, now: Instant) {
        let mut all = self.streams.borrow_mut();
        if all.is_empty() {
            return;
        }
        let splits: HashMap<&str, &Split> = routes
            .map(|ready| (ready.route.name.as_str(), &ready.split))
            .collect();
        all.retain(|cluster, streams| {
            match withdrawal::fate(cluster, splits.get(streams.route.as_str()).copied()) {
                Fate::Stays => streams.restore(),
                Fate::Withdrawn => streams.withdraw(now),
                // They are stable's from now on: nobody here ends them any more.
                Fate::Promoted => {
                    streams.restore();
                    return false;
                }
            }
            Rc::strong_count(streams) > 1
        });
    }

    /// How many streams are open to revisions that are withdrawn, by cluster.
    pub fn still_open(&self) -> Vec<(String, u64)> {
        let all = self.streams.borrow();
        let withdrawn = all.iter().filter(|(_, it)| it.withdrawn.get().is_some());
        let open = withdrawn.map(|(cluster, it)| (cluster.clone(), it.open.borrow().len() as u64));
        open.filter(|(_, count)| *count > 0).collect()
    }
}

impl Streams {
    /// One that has begun.
    pub fn open(self: &Rc<Streams>, metrics: &Arc<ArmMetrics>) -> LongStream {
        LongStream {
            streams: self.clone(),
            metrics: metrics.clone(),
            place: Place::None,
        }
    }

    /// A stream waits for something for the first time.
    fn note(self: &Rc<Streams>, waker: &Waker) -> u64 {
        let place = self.opened.get();
        self.opened.set(place + 1);
        let open = Open {
            since: now(),
            waker: waker.clone(),
        };
        self.open.borrow_mut().insert(place, open);
        if self.withdrawn.get().is_some() {
            self.start_ending();
        }
        place
    }

    fn withdraw(self: &Rc<Streams>, now: Instant) {
        if self.withdrawn.get().is_some() {
            return;
        }
        self.withdrawn.set(Some(now));
        let streams = self.open.borrow().len();
        if streams > 0 {
            tracing::info!(
                route = self.route,
                revision = self.revision,
                streams,
                ended_in = ?self.grace.least,
                "the canary has no weight any more: its long streams are ended, if that stays so"
            );
            self.start_ending();
        }
    }

    /// It has a weight.
    fn restore(&self) {
        if self.withdrawn.take().is_none() {
            return;
        }
        if let Some(ending) = self.ending.take() {
            ending.abort();
            tracing::info!(
                route = self.route,
                revision = self.revision,
                streams = self.open.borrow().len(),
                "the canary's long streams stay: it has a weight again, or is stable"
            );
        }
    }

    /// In a task of its own, which goes when the streams do, and begins again with the next one.
    fn start_ending(self: &Rc<Streams>) {
        let mut ending = self.ending.borrow_mut();
        if ending.is_none() {
            let task = spawn_local(end(Rc::downgrade(self)));
            *ending = Some(task.abort_handle());
        }
    }

    /// When the oldest stream is to be ended; `None`: there is none, or none is.
    fn due(&self) -> Option<Instant> {
        let withdrawn = self.withdrawn.get()?;
        let open = self.open.borrow();
        let (_, oldest) = open.first_key_value()?;
        Some(oldest.since.max(withdrawn) + self.grace.least)
    }

    /// Tells the oldest stream that it is over.
    fn end_one(&self) {
        let oldest = self.open.borrow_mut().pop_first();
        if let Some((_, open)) = oldest {
            open.waker.wake();
        }
    }
}

/// Ends what is due, a few at a time.
async fn end(streams: Weak<Streams>) {
    let mut ended = 0;
    while let Some(due) = streams.upgrade().and_then(|streams| streams.due()) {
        sleep_until(due.into()).await;
        let Some(all) = streams.upgrade() else { break };
        let at_once = withdrawal::at_once(all.open.borrow().len(), all.grace.spread);
        // The longer it takes the fewer are left, and the pace stays that of the beginning.
        while all.due().is_some_and(|due| due <= now()) {
            for _ in 0..at_once {
                if all.due().is_some_and(|due| due <= now()) {
                    all.end_one();
                    ended += 1;
                }
            }
            sleep(BEAT).await;
        }
    }
    if let Some(streams) = streams.upgrade() {
        streams.ending.take();
        if ended > 0 {
            tracing::info!(
                route = streams.route,
                revision = streams.revision,
                ended,
                "the long streams of a canary without a weight were ended"
            );
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Future for LongStream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        match this.place {
            Place::None => {
                this.place = Place::At(this.streams.note(cx.waker()));
                Poll::Pending
            }
            Place::At(place) => match this.streams.open.borrow_mut().get_mut(&place) {
                Some(open) => {
                    open.waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => {
                    this.place = Place::Over;
                    this.metrics.ended.fetch_add(1, Ordering::Relaxed);
                    Poll::Ready(())
                }
            },
            Place::Over => Poll::Ready(()),
        }
    }
}

impl Drop for LongStream {
    fn drop(&mut self) {
        if let Place::At(place) = self.place {
            self.streams.open.borrow_mut().remove(&place);
        }
    }
}

#[cfg(test)]
mod tests;
