//! A request that is kept waiting on purpose before it goes anywhere.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep_until;

use super::{Attempt, Exchange};
use crate::endpoint::{CallerFault, SendError};

impl Exchange {
    /// For as long as it is kept waiting. An error: its time is over before, or its caller has left, and nothing of it goes anywhere.
    pub(super) async fn wait(
        &self,
        delay: Duration,
        attempt: &mut impl Attempt,
    ) -> Result<(), SendError> {
        let until = self.arrived + delay;
        let deadline = self.deadline.filter(|deadline| deadline.at() <= until);
        let end = deadline.map_or(until, |deadline| deadline.at());
        let mut sleep = pin!(sleep_until(end.into()));
        let waited = poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(deadline.map_or(Ok(()), |over| Err(over.over()))),
            Poll::Pending => {
                let left = attempt.poll_left(cx);
                left.map(|()| Err(CallerFault::Left.into()))
            }
        })
        .await;
        match self.deadline {
            Some(deadline) => deadline.judge(waited),
            None => waited,
        }
    }
}
