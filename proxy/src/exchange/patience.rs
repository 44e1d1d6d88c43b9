//! How long a request may go on: to the end of its time, and, once there is the head of its answer, not for long without a byte.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};
use traffic_core::bounds::Timeout;

use crate::endpoint::{CallerFault, SendError};

/// When the time of a request is over, by whose word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    timeout: Timeout,
    arrived: Instant,
    at: Instant,
}

impl Deadline {
    /// Of a request that came at `arrived`. `None`: nobody says one, or it is never.
    pub(super) fn of(timeout: Option<Timeout>, arrived: Instant) -> Option<Deadline> {
        let timeout = timeout?;
        let at = arrived.checked_add(timeout.after)?;
        Some(Deadline {
            timeout,
            arrived,
            at,
        })
    }

    pub(super) fn at(self) -> Instant {
        self.at
    }

    /// Whichever is first.
    pub(super) fn earlier(one: Option<Deadline>, other: Option<Deadline>) -> Option<Deadline> {
        one.into_iter().chain(other).min_by_key(|each| each.at)
    }

    /// Whether a caller that leaves now has waited for as long as it said.
    pub(super) fn is_over_for_caller(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.arrived);
        self.timeout.is_over_for_caller(elapsed)
    }

    pub(super) fn over(self) -> SendError {
        SendError::TimedOut(self.timeout)
    }

    /// What an attempt has come to: one whose caller has left at the end of its own time was not answered.
    pub(super) fn judge<T>(self, done: Result<T, SendError>) -> Result<T, SendError> {
        match done {
            Err(SendError::Caller(CallerFault::Left))
                if self.is_over_for_caller(Instant::now()) =>
            {
                Err(self.over())
            }
            done => done,
        }
    }
}

/// The one timer of a request, for all of its attempts and its answer. There is none until somebody waits for it.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Deadline) -> Poll<SendError> {
        let sleep = self.until(deadline.at.into());
        sleep.as_mut().poll(cx).map(|()| deadline.over())
    }

    fn until(&mut self, at: tokio::time::Instant) -> &mut Pin<Box<Sleep>> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep
    }
}

#[derive(Debug)]
pub(super) struct Patience {
    deadline: Option<(Deadline, Timer)>,
    idle: Option<Idle>,
}

#[derive(Debug)]
struct Idle {
    longest: Duration,
    /// Bytes that had moved when it was looked at last, and when that was.
    moved: u64,
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Patience {
    /// `None`: it is endless.
    pub(super) fn of(
        (deadline, timer): (Option<Deadline>, Timer),
        idle: Option<Duration>,
        now: Instant,
    ) -> Option<Box<Patience>> {
        if deadline.is_none() && idle.is_none() {
            return None;
        }
        Some(Box::new(Patience {
            deadline: deadline.map(|of| (of, timer)),
            idle: idle.map(|longest| Idle {
                longest,
                moved: 0,
                since: now,
                sleep: Box::pin(sleep_until((now + longest).into())),
            }),
        }))
    }

    /// Whether a caller that leaves now has waited for as long as it said.
    pub(super) fn is_over_for_caller(&self, now: Instant) -> bool {
        let deadline = self.deadline.as_ref();
        deadline.is_some_and(|(deadline, _)| deadline.is_over_for_caller(now))
    }

    /// Ready when it is over. `moved`: bytes, both ways, since the beginning.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        if let Some((deadline, timer)) = &mut self.deadline
            && timer.poll(cx, *deadline).is_ready()
        {
            return Poll::Ready(());
        }
        match &mut self.idle {
            Some(idle) => idle.poll(cx, moved),
            None => Poll::Pending,
        }
    }
}

impl Idle {
    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        if moved != self.moved {
            (self.moved, self.since) = (moved, Instant::now());
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            // The timer is set once for many bytes.
            let until = tokio::time::Instant::from_std(self.since + self.longest);
            if self.sleep.deadline() >= until {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(until);
        }
        Poll::Pending
    }
}
