//! The load reporting service on the sidecars' connection: who reports is known by the token, as on the stream of their
//! configuration, and what is reported goes to [`Outcomes`].

use std::time::Duration;

use aviary_xds::load;
use aviary_xds::load::grpc::Service;
use futures::StreamExt;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::door::{Door, Responses};
use super::{Ads, PodIdentity};
use crate::key::Key;
use crate::outcomes::{Speaker, Word};
use crate::serve::places::Place;

/// A proxy introduces itself as soon as its stream is there.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

pub(super) struct LoadService {
    pub(super) door: Door,
}

#[tonic::async_trait]
impl Service for LoadService {
    type StreamLoadStatsStream = Responses<load::Response>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<load::Request>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let (pod, stay) = self.door.enter(&request).await?;
        let key = Key::new(pod.namespace.clone(), pod.pod.clone());
        // One proxy speaks with one voice: a newer stream of the pod ends the older one.
        let place = self.door.ads.0.reports_of_pods.take(key.clone());
        let (answers, to_proxy) = tokio::sync::mpsc::channel(2);
        let (ads, stop) = (self.door.ads.clone(), self.door.stop.clone());
        tokio::spawn(async move {
            answers.send(Ok(load::wanted())).await.ok();
            let why = listen(&ads, &pod, request.into_inner(), &stop, &place).await;
            tracing::debug!(pod = %key, reason = why.message(), "load reports end");
            answers.try_send(Err(why)).ok();
            drop(stay);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(to_proxy))))
    }
}

async fn listen(
    ads: &Ads,
    pod: &PodIdentity,
    mut messages: Streaming<load::Request>,
    stop: &CancellationToken,
    place: &Place<Key>,
) -> Status {
    let key = Key::new(pod.namespace.clone(), pod.pod.clone());
    let (lost, mut speaker) = (place.lost(), Speaker::default());
    let silent_until = Instant::now() + FIRST_MESSAGE;
    let mut is_silent = true;
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return Status::unavailable("this control plane is shutting down: connect again"),
            () = lost.cancelled() => return Status::aborted("another stream reports for this pod"),
            () = tokio::time::sleep_until(silent_until), if is_silent => {
                return Status::deadline_exceeded("no message came within 10s of the stream's begin");
            }
            message = messages.next() => message,
        };
        is_silent = false;
        let reports = match message {
            None => return Status::ok("the proxy ended the stream"),
            Some(Err(status)) => return status,
            Some(Ok(message)) => {
                load::decode_wanted(&message, |cluster| ads.outcomes().is_followed(cluster))
            }
        };
        match reports {
            Ok((reports, unread)) => {
                ads.outcomes().unread(unread);
                let now = Timestamp::now().as_millisecond();
                let word = |rollout: &Key| ads.word_of(pod, &key, rollout);
                ads.outcomes().take(&mut speaker, &reports, now, &word);
            }
            Err(invalid) => return Status::invalid_argument(invalid.to_string()),
        }
    }
}

impl Ads {
    /// What a pod's reports of this rollout's requests are worth.
    fn word_of(&self, pod: &PodIdentity, key: &Key, rollout: &Key) -> Word {
        if !self.may_call(rollout, pod) {
            Word::Stranger
        } else if self.is_behind(rollout, key) {
            Word::Behind
        } else {
            Word::Counts
        }
    }
}
