//! Notifications: what happens to releases, told to chat rooms and to other programs. Whoever runs the operator says to whom
//! ([`config`]); no CanaryRollout does.
//!
//! ```text
//!   driver -> offer (never waits; a full queue drops) -> one queue and one task for each receiver -> send, with retries
//! ```
//!
//! Nothing of a release depends on it, and what cannot be sent is counted and logged.

pub mod config;
mod send;
mod text;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use rollout_core::time::Time;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::key::Key;
use crate::metrics::{Metrics, Shown};
use crate::rollout::events::Note;
use config::{Config, On, Receiver};

/// Notifications that wait for one receiver; beyond, the newest is dropped.
const QUEUE: usize = 256;
/// How often one is tried, and the first pause; each is twice the one before.
const TRIES: u32 = 5;
const FIRST: Duration = Duration::from_secs(1);

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub on: On,
    /// The reason of the Event.
    pub reason: String,
    pub rollout: Key,
    pub text: String,
    /// Seconds since the epoch.
    pub at: i64,
}

impl Notification {
    /// Of a note about a release, if anybody may want to be told of it.
    pub fn of(rollout: &Key, reason: &str, text: &str, at: i64) -> Option<Notification> {
        let on = match reason {
            "ReleaseStarted" => On::Started,
            "WeightRaised" => On::WeightRaised,
            "Paused" | "PausedByPerson" | "FailurePaused" => On::Paused,
            "RolledBack" => On::RolledBack,
            "Promoted" => On::Promoted,
            _ => return None,
        };
        Some(Notification {
            on,
            reason: reason.to_owned(),
            rollout: rollout.clone(),
            text: text.to_owned(),
            at,
        })
    }
}

/// Of a look at a release whose condition Stalled has become True, `before` which it was `None`; what a process sees first was
/// told by the one before. What has a notification of its own is not told twice.
pub fn stalled(
    rollout: &Key,
    before: Option<Option<String>>,
    shown: &Shown,
    message: Option<&String>,
    now: Time,
) -> Option<Notification> {
    let reason = shown.stalled.clone()?;
    let told = matches!(reason.as_str(), "Failed" | "FailurePaused");
    let is_new = before == Some(None);
    (is_new && !told).then(|| Notification {
        on: On::Stalled,
        reason,
        rollout: rollout.clone(),
        text: message.cloned().unwrap_or_default(),
        at: now.0 / 1000,
    })
}

/// Where notifications go. Clones are the same.
#[derive(Clone)]
pub struct Notifier {
    lines: Arc<[Line]>,
    metrics: Metrics,
}

struct Line {
    receiver: Receiver,
    queue: mpsc::Sender<Notification>,
}

impl Notifier {
    /// To nobody.
    pub fn nobody(metrics: Metrics) -> Notifier {
        Notifier {
            lines: Arc::new([]),
            metrics,
        }
    }

    /// Starts a task for each receiver, which ends with `stop`.
    pub fn start(
        config: Config,
        http: &reqwest::Client,
        metrics: Metrics,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Notifier {
        let lines = config.receivers.into_iter().map(|receiver| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            let work = deliver(http.clone(), receiver.clone(), waiting, metrics.clone());
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => stop.cancelled().await,
                }
            });
            Line { receiver, queue }
        });
        Notifier {
            lines: lines.collect(),
            metrics: metrics.clone(),
        }
    }

    /// Of these notes, those that somebody may want to be told of.
    pub fn notes(&self, rollout: &Key, notes: &[Note]) {
        let at = Timestamp::now().as_second();
        for Note { reason, text, .. } in notes {
            let notification = Notification::of(rollout, reason.name(), text, at);
            notification.iter().for_each(|it| self.offer(it));
        }
    }

    /// Never waits.
    pub fn offer(&self, notification: &Notification) {
        for Line { receiver, queue } in &*self.lines {
            if !receiver.wants(notification) {
                continue;
            }
            if queue.try_send(notification.clone()).is_err() {
                self.metrics.notified("dropped");
                tracing::warn!(
                    receiver = receiver.name,
                    rollout = %notification.rollout,
                    reason = notification.reason,
                    "a notification is dropped: too many wait for this receiver"
                );
            }
        }
    }
}

async fn deliver(
    http: reqwest::Client,
    receiver: Receiver,
    mut waiting: mpsc::Receiver<Notification>,
    metrics: Metrics,
) {
    while let Some(notification) = waiting.recv().await {
        let mut pause = FIRST;
        for attempt in 1..=TRIES {
            let error = match send::send(&http, &receiver, &notification).await {
                Ok(()) => {
                    metrics.notified("sent");
                    break;
                }
                Err(error) => error,
            };
            if attempt == TRIES {
                metrics.notified("failed");
                tracing::warn!(
                    receiver = receiver.name,
                    rollout = %notification.rollout,
                    reason = notification.reason,
                    %error,
                    "a notification could not be sent"
                );
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

#[cfg(test)]
mod tests;
