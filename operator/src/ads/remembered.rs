//! Answers about tokens, for a moment: a proxy opens two streams with one token, and the API server is asked once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::authenticate::{Authenticated, Authenticator, PodIdentity};

/// So long is a token believed that was good.
const BELIEVED: Duration = Duration::from_secs(10);
/// More than this are not remembered: then the API server is asked.
const MOST: usize = 4096;

pub(super) struct Remembered {
    inner: Arc<dyn Authenticator>,
    good: Mutex<HashMap<Box<str>, (PodIdentity, Instant)>>,
}

impl Remembered {
    pub(super) fn new(inner: Arc<dyn Authenticator>) -> Remembered {
        Remembered {
            inner,
            good: Mutex::default(),
        }
    }

    fn known(&self, token: &str) -> Option<PodIdentity> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        good.retain(|_, (_, since)| now - *since < BELIEVED);
        good.get(token).map(|(pod, _)| pod.clone())
    }

    fn remember(&self, token: &str, pod: &PodIdentity) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() < MOST {
            good.insert(token.into(), (pod.clone(), Instant::now()));
        }
    }
}

impl Authenticator for Remembered {
    fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a> {
        Box::pin(async move {
            if let Some(pod) = self.known(token) {
                return Ok(pod);
            }
            let pod = self.inner.authenticate(token).await?;
            self.remember(token, &pod);
            Ok(pod)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::authenticate::AuthError;
    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Authenticator for Counting {
        fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let answer = match token {
                "bad" => Err(AuthError::Refused("no".to_owned())),
                good => Ok(PodIdentity {
                    namespace: "shop".to_owned(),
                    pod: good.to_owned(),
                    uid: String::new(),
                    service_account: String::new(),
                }),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_token_is_asked_about_once_in_a_while_and_a_bad_one_each_time() {
        let counting = Arc::new(Counting::default());
        let remembered = Remembered::new(counting.clone());
        let asked = || counting.0.swap(0, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(remembered.authenticate("a").await.unwrap().pod, "a");
            assert_eq!(remembered.authenticate("b").await.unwrap().pod, "b");
        }
        assert_eq!(asked(), 2);
        tokio::time::advance(BELIEVED).await;
        remembered.authenticate("a").await.unwrap();
        assert_eq!(asked(), 1);
        for _ in 0..3 {
            remembered.authenticate("bad").await.unwrap_err();
        }
        assert_eq!(asked(), 3);
    }
}
