//! Waiting for conditions, with deadlines that say what was waited for and what was there instead.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("not within {}s: {what}; last seen: {seen}", .within.as_secs())]
pub struct NotInTime {
    pub what: String,
    pub within: Duration,
    pub seen: String,
}

/// What a look has shown.
pub enum Waited<T> {
    There(T),
    /// What is there instead.
    NotYet(String),
}

impl<T> Waited<T> {
    pub fn not_yet(seen: impl Display) -> Waited<T> {
        Waited::NotYet(seen.to_string())
    }
}

/// Looks again and again until it is there.
pub async fn eventually<T, F>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T, NotInTime>
where
    F: Future<Output = Waited<T>>,
{
    let deadline = Instant::now() + within;
    let mut seen = "nothing".to_owned();
    loop {
        // A look can hang, for example on an API server that is gone.
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Waited::There(found)) => return Ok(found),
            Ok(Waited::NotYet(instead)) => seen = instead,
            Err(_) => {
                return Err(NotInTime {
                    what: what.to_owned(),
                    within,
                    seen,
                });
            }
        }
        if Instant::now() + PAUSE > deadline {
            return Err(NotInTime {
                what: what.to_owned(),
                within,
                seen,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_there_at_last_is_returned() {
        let mut looks = 0;
        let found = eventually("three looks", Duration::from_secs(5), || {
            looks += 1;
            let looks = looks;
            async move {
                if looks == 3 {
                    Waited::There(looks)
                } else {
                    Waited::not_yet(looks)
                }
            }
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_an_error_that_says_what_was_seen_instead() {
        let never = eventually("a miracle", Duration::from_secs(5), || async {
            Waited::<()>::not_yet("rain")
        });
        assert_eq!(
            never.await.unwrap_err().to_string(),
            "not within 5s: a miracle; last seen: rain"
        );
        let hangs = eventually(
            "an answer",
            Duration::from_secs(5),
            std::future::pending::<Waited<()>>,
        );
        assert_eq!(
            hangs.await.unwrap_err().to_string(),
            "not within 5s: an answer; last seen: nothing"
        );
    }
}
