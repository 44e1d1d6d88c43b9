//! Every status of a CanaryRollout that the API server has shown, with the time at which it did.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aviary_crds::status::Phase;
use aviary_crds::{CanaryRollout, CanaryRolloutStatus};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A status, and when it was seen: milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub at: i64,
    pub status: CanaryRolloutStatus,
}

#[derive(Debug, thiserror::Error)]
#[error("not within {}s: {what}; the CanaryRollout is at: {there}", .within.as_secs())]
pub struct RecordError {
    pub what: String,
    pub within: Duration,
    pub there: String,
}

/// Watches one CanaryRollout until it is dropped.
pub struct Record {
    moments: Arc<Mutex<Vec<Moment>>>,
    news: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Record {
    pub fn start(client: &Client, namespace: &str, name: &str) -> Record {
        let api: Api<CanaryRollout> = Api::namespaced(client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let moments = Arc::new(Mutex::new(Vec::new()));
        let (tell, news) = watch::channel(0);
        let kept = Arc::clone(&moments);
        let task = tokio::spawn(async move {
            // A watch that breaks (an API server that is away) is taken up again.
            let mut seen = watcher(api, config)
                .default_backoff()
                .applied_objects()
                .boxed();
            while let Some(object) = seen.next().await {
                let Ok(rollout) = object else { continue };
                let status = rollout.status.unwrap_or_default();
                let mut moments = kept.lock().expect("nothing panics while it keeps a status");
                if moments
                    .last()
                    .is_none_or(|last: &Moment| last.status != status)
                {
                    moments.push(Moment { at: now(), status });
                    tell.send_replace(moments.len());
                }
            }
        });
        Record {
            moments,
            news,
            task,
        }
    }

    pub fn moments(&self) -> Vec<Moment> {
        self.moments
            .lock()
            .expect("nothing panics while it keeps a status")
            .clone()
    }

    /// What was seen from `mark` on, for stories that look at one release after another.
    pub fn since(&self, mark: usize) -> Vec<Moment> {
        self.moments().split_off(mark)
    }

    /// How much there is so far.
    pub fn mark(&self) -> usize {
        self.moments
            .lock()
            .expect("nothing panics while it keeps a status")
            .len()
    }

    /// The first moment from `mark` on for which `holds`; it may have passed already.
    pub async fn until(
        &self,
        mark: usize,
        what: &str,
        within: Duration,
        holds: impl Fn(&CanaryRolloutStatus) -> bool,
    ) -> Result<Moment, RecordError> {
        let mut news = self.news.clone();
        let mut looked_at = mark;
        let found = async {
            loop {
                news.borrow_and_update();
                let moments = self.since(looked_at);
                looked_at += moments.len();
                if let Some(found) = moments.into_iter().find(|moment| holds(&moment.status)) {
                    return found;
                }
                if news.changed().await.is_err() {
                    // The task has gone, which only a panic in it does: the deadline tells.
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(within, found).await.map_err(|_| RecordError {
            what: what.to_owned(),
            within,
            there: self
                .moments()
                .last()
                .map_or_else(|| "not there".to_owned(), |moment| describe(&moment.status)),
        })
    }
}

fn describe(status: &CanaryRolloutStatus) -> String {
    let phase = status.phase.map_or("no phase", Phase::name);
    format!(
        "{phase}: {}",
        status.message.as_deref().unwrap_or("no message")
    )
}

/// When the weight was 0 and every proxy had said so, after it had been more; `None` before that.
pub fn zero_on_every_proxy(moments: &[Moment]) -> Option<i64> {
    let had_weight = moments
        .iter()
        .position(|moment| moment.status.weight.as_ref().is_some_and(|w| w.sent > 0))?;
    let gone = moments[had_weight..]
        .iter()
        .find(|moment| match moment.status.phase {
            // The copy goes only after every proxy has acknowledged, and the release has failed only after that.
            Some(Phase::Failed | Phase::Stable) => true,
            Some(Phase::RollingBack) => moment
                .status
                .weight
                .as_ref()
                .is_some_and(|w| w.sent == 0 && w.desired == 0 && w.acknowledged == w.proxies),
            Some(
                Phase::Starting
                | Phase::Scaling
                | Phase::Shifting
                | Phase::Soaking
                | Phase::Paused
                | Phase::Promoting
                | Phase::Returning
                | Phase::Unsettled,
            )
            | None => false,
        });
    gone.map(|moment| moment.at)
}

pub(super) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use aviary_crds::status::WeightStatus;

    use super::*;

    fn moment(at: i64, phase: Phase, sent: i32, acknowledged: i32) -> Moment {
        let weight = WeightStatus {
            desired: sent,
            sent,
            acknowledged,
            proxies: 3,
        };
        Moment {
            at,
            status: CanaryRolloutStatus {
                phase: Some(phase),
                weight: Some(weight),
                ..Default::default()
            },
        }
    }

    #[test]
    fn zero_counts_when_the_last_proxy_has_said_so() {
        let moments = [
            moment(1, Phase::Starting, 0, 3),
            moment(2, Phase::Soaking, 10, 3),
            moment(3, Phase::RollingBack, 0, 2),
            moment(4, Phase::RollingBack, 0, 3),
            moment(5, Phase::Failed, 0, 3),
        ];
        assert_eq!(zero_on_every_proxy(&moments), Some(4));
        assert_eq!(zero_on_every_proxy(&moments[..3]), None);
        assert_eq!(zero_on_every_proxy(&moments[..1]), None);
    }
}
