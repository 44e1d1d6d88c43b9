//! One proxy's stream: moves messages between the transport and the [`DeltaServer`], and tells the registry what it learned.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aviary_xds::resources::INBOUND;
use aviary_xds::server::{ProtocolError, Urgency, is_heartbeat};
use aviary_xds::{DeltaServer, Kind, Request, Resources, Response};
use jiff::Timestamp;
use rollout_core::time::Time;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::debounce::Debounce;
use super::interests::Asked;
use super::registry::{Accepts, StreamId};
use super::view::View;
use super::{Ads, PodIdentity};
use crate::key::Key;
use crate::serve::places::Place;

/// A proxy asks for something as soon as its stream is there.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How soon it is looked again whether weights may be lent for longer.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Session {
    ads: Ads,
    pod: Key,
    uid: Box<str>,
    service_account: Box<str>,
    accepts: Accepts,
    stream: StreamId,
    /// Something that it subscribes to changed.
    news: Arc<Notify>,
    /// Ends the stream when another one speaks for the pod, or the pod is gone.
    end: CancellationToken,
    entered: Entered,
    server: DeltaServer,
    /// The edition of the server that the registry knows.
    reported: u64,
    responses: mpsc::Sender<Result<Response, Status>>,
    debounce: Debounce,
    /// Newer streams of the pod are too many for this one to stay. Cancelled when the place of the stream is lost.
    lost: CancellationToken,
    _place: Place<Key>,
}

/// Whether the registry knows the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entered {
    No,
    Yes,
}

impl Session {
    pub(super) fn new(
        ads: Ads,
        pod: PodIdentity,
        responses: mpsc::Sender<Result<Response, Status>>,
    ) -> Session {
        let PodIdentity {
            namespace,
            pod,
            uid,
            service_account,
        } = pod;
        let pod = Key::new(namespace, pod);
        let place = ads.0.streams_of_pods.take(pod.clone());
        let stream = ads.registry().next_stream();
        let news = ads.interests().enter(stream);
        let server = DeltaServer::of(pod.to_string());
        Session {
            ads,
            pod,
            uid: uid.into(),
            service_account: service_account.into(),
            accepts: Accepts::Unknown,
            stream,
            news,
            end: CancellationToken::new(),
            entered: Entered::No,
            server,
            reported: 0,
            responses,
            debounce: Debounce::default(),
            lost: place.lost(),
            _place: place,
        }
    }

    pub(super) async fn run(mut self, requests: Streaming<Request>, stop: CancellationToken) {
        tracing::info!("proxy connected");
        let reason = self.exchange(requests, stop).await;
        // A peer that takes no more messages does not get the reason either.
        self.responses.try_send(Err(reason.clone())).ok();
        let now = Time(Timestamp::now().as_millisecond());
        self.ads.interests().leave(self.stream, self.server.names());
        self.ads.learn(&self.pod, |registry| {
            registry.leave(&self.pod, self.stream, now)
        });
        tracing::info!(reason = reason.message(), "proxy disconnected");
    }

    /// Nothing was asked for yet.
    fn is_silent(&self) -> bool {
        self.server.edition() == 0
    }

    /// Until the stream is over; says why it is.
    async fn exchange(
        &mut self,
        mut requests: Streaming<Request>,
        stop: CancellationToken,
    ) -> Status {
        let responses = self.responses.clone();
        let silent_until = Instant::now() + FIRST_REQUEST;
        loop {
            let now = Instant::now();
            let send_at = self.send_newest_at(now);
            self.report();
            let due = send_at.is_some_and(|at| at <= now);
            tokio::select! {
                () = stop.cancelled() => return Status::unavailable("this control plane is shutting down: connect again"),
                () = self.end.cancelled() => return Status::aborted("another stream speaks for this pod, or the pod is gone"),
                () = tokio::time::sleep_until(silent_until), if self.is_silent() => {
                    return Status::deadline_exceeded("no request came within 10s of the stream's begin");
                }
                () = self.lost.cancelled() => {
                    return Status::resource_exhausted("newer streams of this pod took the place of this one");
                }
                () = responses.closed() => return Status::cancelled("the proxy closed the stream"),
                request = requests.message() => match request {
                    Ok(Some(request)) => if let Err(error) = self.receive(request) {
                        return error;
                    },
                    Ok(None) => return Status::ok("the proxy ended the stream"),
                    Err(error) => return error,
                },
                () = self.news.notified() => self.debounce.touch(Instant::now()),
                permit = responses.reserve(), if due => match permit {
                    Ok(permit) => {
                        // Of the newest world, which may have come while the transport was busy.
                        if let Some(response) = self.next() {
                            let counters = &self.ads.0.counters;
                            let counter = if is_heartbeat(&response) { &counters.heartbeats } else { &counters.pushes };
                            counter.fetch_add(1, Ordering::Relaxed);
                            permit.send(Ok(response));
                        }
                    }
                    Err(_) => return Status::cancelled("the proxy closed the stream"),
                },
                () = sleep_until(send_at), if !due && send_at.is_some() => {}
            }
        }
    }

    fn next(&mut self) -> Option<Response> {
        let ads = self.ads.clone();
        let world = ads.world();
        self.server.next(world.as_ref()?, Instant::now().into_std())
    }

    fn send_newest_at(&mut self, now: Instant) -> Option<Instant> {
        let ads = self.ads.clone();
        let world = ads.world();
        self.send_at(world.as_ref(), now)
    }

    /// When there is something to send; `None` if there is nothing.
    fn send_at(&mut self, resources: Option<&Resources>, now: Instant) -> Option<Instant> {
        let Some(resources) = resources else {
            self.debounce.clear();
            return None;
        };
        self.server.renews(self.ads.may_renew());
        match self.server.urgency(resources, now.into_std()) {
            Urgency::Nothing => {
                self.debounce.clear();
                if self.ads.may_renew() {
                    self.server.heartbeat_at(resources).map(Instant::from_std)
                } else {
                    Some(now + RENEW_AGAIN)
                }
            }
            Urgency::CanWait => Some(self.debounce.deadline(now)),
            Urgency::Now => Some(now),
        }
    }

    fn receive(&mut self, request: Request) -> Result<(), Status> {
        let asked = Asked::in_request(&request);
        let received = self.server.on_request(request).map_err(refusal)?;
        let accepts = match received.kind {
            Kind::Route => asked.of(INBOUND),
            Kind::Cluster | Kind::Endpoints | Kind::Listener => None,
        };
        let asked = match received.kind {
            Kind::Listener => asked.renaming(INBOUND, &self.pod.to_string()),
            Kind::Cluster | Kind::Endpoints | Kind::Route => asked,
        };
        // What was refused is followed by nobody: it would stay when the stream is gone.
        self.ads
            .interests()
            .follow(self.stream, received.kind, asked);
        if let Some(node) = received.node {
            tracing::debug!(
                id = node.id,
                version = node.version,
                revocations = node.revocations.len(),
                "node"
            );
            let key = &self.ads.0.key;
            let (own, others): (Vec<_>, Vec<_>) = node
                .revocations
                .into_iter()
                .partition(|signed| key.verify(signed));
            if !others.is_empty() {
                tracing::warn!(
                    revocations = others.len(),
                    "the proxy reports revocations without our signature: they do not count"
                );
            }
            let own: Vec<_> = own.into_iter().map(|signed| signed.revocation).collect();
            let of = own
                .iter()
                .map(|revocation| revocation.rollout.clone())
                .collect();
            self.ads.registry().report_revocations(own);
            self.ads.touched(of, &self.pod);
        }
        if received.kind == Kind::Route && self.entered == Entered::No {
            self.entered = Entered::Yes;
            let view = View::of(&self.server);
            let end = self.end.clone();
            self.accepts = accepts.unwrap_or(Accepts::Unknown);
            self.ads.learn(&self.pod, |registry| {
                registry.enter(&self.pod, self.stream, end, (&self.service_account, view));
                registry.accepts(&self.pod, self.stream, &self.uid, self.accepts);
                true
            });
        } else if let Some(accepts) = accepts.filter(|accepts| *accepts != self.accepts) {
            self.accepts = accepts;
            self.ads.learn(&self.pod, |registry| {
                registry.accepts(&self.pod, self.stream, &self.uid, accepts)
            });
        }
        if let Some(report) = received.report {
            let now = Instant::now();
            let at = |age: Duration| now.checked_sub(age).unwrap_or(now);
            let callers = report.into_iter().map(|(caller, age)| (caller, at(age)));
            let callers = callers.collect();
            self.ads.registry().called(&self.pod, self.stream, callers);
        }
        if let Some(text) = received.rejection {
            tracing::warn!(kind = %received.kind, reason = &*text, "the proxy rejected its configuration and keeps the last one");
            self.ads
                .0
                .counters
                .rejections
                .fetch_add(1, Ordering::Relaxed);
            self.ads.learn(&self.pod, |registry| {
                registry.rejected(&self.pod, self.stream)
            });
        }
        Ok(())
    }

    fn report(&mut self) {
        if self.reported == self.server.edition() {
            return;
        }
        self.reported = self.server.edition();
        let view = View::of(&self.server);
        self.ads.learn(&self.pod, |registry| {
            registry.update(&self.pod, self.stream, view)
        });
    }
}

fn refusal(error: ProtocolError) -> Status {
    let text = error.to_string();
    match error {
        ProtocolError::UnknownType(_)
        | ProtocolError::Wildcard(_)
        | ProtocolError::Listener(_)
        | ProtocolError::Node(_) => Status::invalid_argument(text),
        ProtocolError::Limit(_) => Status::resource_exhausted(text),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
