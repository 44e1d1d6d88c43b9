//! Tells the control plane each second what became of first attempts, on a stream of the load reporting service beside the one of
//! configuration, on the same connection. Whatever happens to it, the stream of configuration goes on:
//!
//! ```text
//!   open ──asked──> tell, each second ──lost──> wait (0.1 s .. 5 s, jittered) ──┐
//!    ^ │                                                                        │
//!    │ └─not served──> nothing, as long as there is this connection             │
//!    └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What nobody takes is dropped, never gathered: at most what was drained twice is on its way. Of a second of which something was
//! dropped, or was drained before there was a stream, nothing is told any more: an end without its start would say nothing true.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aviary_xds::load::{self, Report};
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use traffic_core::outcome::Second;
use traffic_core::outcome::ledger::{SLOTS, TELLINGS};

use super::GOOD_STREAM;
use super::backoff::Backoff;
use super::connect::Connector;
use super::failure::Failure;
use crate::control::{Install, Outcome, Reporting};

/// How long after the end of a second it is told: drawn anew for each stream, so that the proxies of a cluster are not all heard at once. Long
/// enough for a request that came in its last moment to be written down.
const JITTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];
/// The longest time between two reports that a control plane may ask for: the workers keep no more.
const LONGEST: u64 = SLOTS - TELLINGS;

/// Messages on their way: what was drained at once.
type Batch = Vec<Report>;

pub(super) struct Reports {
    pub(super) connector: Arc<Connector>,
    /// The connection that has the stream of configuration.
    pub(super) channel: Channel,
    /// `<pod>.<namespace>`.
    pub(super) id: String,
    pub(super) install: Arc<dyn Install>,
}

impl Reports {
    /// For as long as it is polled.
    pub(super) async fn run(self) -> Infallible {
        let (mut backoff, mut last) = (Backoff::default(), None);
        loop {
            let started = Instant::now();
            let failure = self.stream().await;
            if let Failure::Unserved(reason) = &failure {
                tracing::debug!(reason, "the control plane takes no outcomes");
                return std::future::pending().await;
            }
            if started.elapsed() >= GOOD_STREAM {
                (backoff, last) = (Backoff::default(), None);
            }
            let wait = backoff.next(fastrand::f64());
            log(failure.to_string(), &mut last, wait);
            sleep(wait).await;
        }
    }

    /// One stream, to its end.
    async fn stream(&self) -> Failure {
        let (batches, outgoing) = mpsc::channel(1);
        let opened = self
            .connector
            .open_reports(self.channel.clone(), messages(&self.id, outgoing));
        let (first, responses) = match opened.await {
            Ok(opened) => opened,
            Err(failure) => return failure,
        };
        tracing::debug!("the control plane takes outcomes");
        let _open = Open::new(&*self.install);
        self.tell(&first, responses, batches).await
    }

    async fn tell(
        &self,
        first: &load::Response,
        mut responses: Streaming<load::Response>,
        batches: mpsc::Sender<Batch>,
    ) -> Failure {
        let [least, most] = JITTER;
        let jitter = least + (most - least).mul_f64(fastrand::f64());
        let mut interval = seconds(first);
        let mut horizon = Horizon::at(wall().as_secs());
        // What was gathered while nobody asked.
        drop(self.install.outcomes(horizon.now).await);
        let mut due = Instant::now() + until_due(wall(), interval, jitter);
        loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => interval = seconds(&response),
                    Ok(None) => return Failure::Ended,
                    Err(status) => return status.into(),
                },
                () = sleep_until(due) => {
                    let now = wall().as_secs();
                    let batch = horizon.beyond(now, self.install.outcomes(now).await);
                    self.send(batch, &batches, &mut horizon);
                    due = Instant::now() + until_due(wall(), interval, jitter);
                }
            }
        }
    }

    fn send(&self, batch: Batch, batches: &mpsc::Sender<Batch>, horizon: &mut Horizon) {
        let outcomes = batch.len();
        if outcomes == 0 {
            return;
        }
        match batches.try_send(batch) {
            Ok(()) => self.install.reporting(Reporting::Sent(outcomes)),
            Err(TrySendError::Full(_)) => {
                horizon.lost();
                self.install.reporting(Reporting::Dropped(outcomes));
            }
            // The stream has ended, as its responses are about to say.
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

/// Tells the data plane of the end, however it comes.
struct Open<'i>(&'i dyn Install);

impl Open<'_> {
    fn new(install: &dyn Install) -> Open<'_> {
        install.reporting(Reporting::Opened);
        Open(install)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.reporting(Reporting::Ended);
    }
}

/// From which second on everything is told.
#[derive(Debug, PartialEq, Eq)]
struct Horizon {
    since: Second,
    /// When was drained last.
    now: Second,
}

impl Horizon {
    fn at(now: Second) -> Horizon {
        Horizon { since: now, now }
    }

    /// What may be told of what was drained now.
    fn beyond(&mut self, now: Second, drained: Vec<Outcome>) -> Batch {
        if now < self.now {
            // The clock was set back.
            *self = Horizon::at(now);
        }
        self.now = now;
        let fresh = drained
            .into_iter()
            .filter(|outcome| outcome.second >= self.since);
        fresh
            .map(|outcome| Report {
                cluster: outcome.cluster,
                second: outcome.second,
                counts: outcome.counts,
            })
            .collect()
    }

    /// What was drained last is not told.
    fn lost(&mut self) {
        self.since = self.now;
    }
}

/// All that is said on a stream. A batch is encoded when the one before is gone.
fn messages(id: &str, batches: mpsc::Receiver<Batch>) -> impl Stream<Item = load::Request> + use<> {
    let hello = stream::iter([load::hello(id)]);
    let batches = ReceiverStream::new(batches);
    hello.chain(batches.flat_map(|batch| {
        let messages: Vec<load::Request> = load::encode(&batch).collect();
        stream::iter(messages)
    }))
}

/// How often to report, in whole seconds.
fn seconds(response: &load::Response) -> u64 {
    let said = load::interval(response).unwrap_or_default();
    said.as_secs().clamp(1, LONGEST)
}

/// From `wall` to the next report: `jitter` after a whole second, `interval` seconds after the last one that was.
fn until_due(wall: Duration, interval: u64, jitter: Duration) -> Duration {
    let last = wall.saturating_sub(jitter).as_secs();
    (Duration::from_secs(last + interval) + jitter).saturating_sub(wall)
}

fn wall() -> Duration {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    wall.unwrap_or_default()
}

fn log(reason: String, last: &mut Option<String>, retry_in: Duration) {
    if last.as_ref() == Some(&reason) {
        tracing::debug!(reason, ?retry_in, "still nobody takes outcomes");
        return;
    }
    tracing::warn!(
        reason,
        ?retry_in,
        "the control plane takes no outcomes; what this pod sees is not judged meanwhile"
    );
    *last = Some(reason);
}

#[cfg(test)]
mod tests {
    use traffic_core::outcome::Counts;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn drained(seconds: &[Second]) -> Vec<Outcome> {
        let outcome = |second| Outcome {
            cluster: "shop/web/80/v1".to_owned(),
            second,
            counts: Counts::default(),
        };
        seconds.iter().copied().map(outcome).collect()
    }

    fn told(horizon: &mut Horizon, now: Second, seconds: &[Second]) -> Vec<Second> {
        let batch = horizon.beyond(now, drained(seconds));
        batch.into_iter().map(|report| report.second).collect()
    }

    #[test]
    fn a_second_is_told_from_its_start_on_or_not_at_all() {
        let mut horizon = Horizon::at(100);
        assert_eq!(told(&mut horizon, 101, &[98, 99, 100]), [100]);
        assert_eq!(told(&mut horizon, 102, &[99, 100, 101]), [100, 101]);
        horizon.lost();
        assert_eq!(told(&mut horizon, 103, &[100, 101, 102]), [102]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_silence_the_proxy() {
        let mut horizon = Horizon::at(100);
        assert_eq!(told(&mut horizon, 101, &[100]), [100]);
        assert_eq!(told(&mut horizon, 50, &[48, 49]), [0; 0]);
        assert_eq!(told(&mut horizon, 51, &[49, 50]), [50]);
    }

    #[test]
    fn reports_are_due_a_little_after_each_interval() {
        let jitter = 200 * MS;
        for (wall, interval, due) in [
            (10_000, 1, 10_200),
            (10_199, 1, 10_200),
            (10_200, 1, 11_200),
            (10_900, 1, 11_200),
            (10_200, 3, 13_200),
            (10_900, 3, 13_200),
        ] {
            let wait = until_due(wall * MS, interval, jitter);
            assert_eq!(wait, (due - wall) * MS, "{wall} {interval}");
        }
    }

    #[test]
    fn a_control_plane_may_ask_for_more_seconds_at_once_but_for_no_more_than_are_kept() {
        assert_eq!(seconds(&load::wanted()), 1);
        assert_eq!(seconds(&load::Response::default()), 1);
        let mut rare = load::wanted();
        for (asked, every) in [(0, 1), (3, 3), (3_600, LONGEST)] {
            if let Some(interval) = &mut rare.load_reporting_interval {
                interval.seconds = asked;
            }
            assert_eq!(seconds(&rare), every);
        }
    }

    #[tokio::test]
    async fn a_stream_begins_with_who_speaks_and_carries_a_batch_in_as_few_messages_as_can_be() {
        let (batches, outgoing) = mpsc::channel(1);
        let batch = Horizon::at(0).beyond(1, drained(&vec![0; load::MOST_REPORTS + 1]));
        batches.try_send(batch.clone()).unwrap();
        let full = batches.try_send(batch.clone()).unwrap_err();
        assert!(matches!(full, TrySendError::Full(_)));
        drop(batches);
        let said: Vec<load::Request> = messages("web-1.shop", outgoing).collect().await;
        assert_eq!(said[0], load::hello("web-1.shop"));
        let read: Vec<Vec<Report>> = said[1..].iter().map(|m| load::decode(m).unwrap()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read.concat(), batch);
    }
}
