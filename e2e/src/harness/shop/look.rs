//! What there is to see in a shop: objects, events, and the caller's statistics.

use std::time::Duration;

use aviary_crds::{CanaryRollout, CanaryRolloutStatus};
use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::{NAME, STEP, Shop, ShopError};
use crate::app::stats::Stats;
use crate::harness::wait::{Waited, eventually};

/// A label of the operator's on canary copies.
const COPIES: &str = "aviary.dev/canary-of=payment";

impl Shop {
    pub async fn status(&self) -> Result<CanaryRolloutStatus, ShopError> {
        let api: Api<CanaryRollout> = Api::namespaced(self.stage.client.clone(), &self.namespace);
        let rollout = api.get(NAME).await.map_err(|source| ShopError::Read {
            what: "the CanaryRollout",
            source,
        })?;
        Ok(rollout.status.unwrap_or_default())
    }

    pub async fn deployment(&self) -> Result<Deployment, ShopError> {
        let api: Api<Deployment> = Api::namespaced(self.stage.client.clone(), &self.namespace);
        api.get(NAME).await.map_err(|source| ShopError::Read {
            what: "the Deployment",
            source,
        })
    }

    /// The canary copies that exist.
    pub async fn copies(&self) -> Result<Vec<String>, ShopError> {
        let api: Api<Deployment> = Api::namespaced(self.stage.client.clone(), &self.namespace);
        let copies = api.list(&ListParams::default().labels(COPIES)).await;
        let copies = copies.map_err(|source| ShopError::Read {
            what: "the canary copies",
            source,
        })?;
        Ok(copies.iter().map(ResourceExt::name_any).collect())
    }

    /// Waits until no canary copy is left, nor a pod of one.
    pub async fn until_no_copy(&self) -> Result<(), ShopError> {
        let pods: Api<Pod> = Api::namespaced(self.stage.client.clone(), &self.namespace);
        let gone = || async {
            let copies = match self.copies().await {
                Ok(copies) if copies.is_empty() => {
                    pods.list(&ListParams::default().labels("aviary.dev/revision"))
                        .await
                }
                Ok(copies) => return Waited::not_yet(copies.join(", ")),
                Err(error) => return Waited::not_yet(error),
            };
            match copies {
                Ok(pods) if pods.items.is_empty() => Waited::There(()),
                Ok(pods) => Waited::not_yet(format!("{} pods", pods.items.len())),
                Err(error) => Waited::not_yet(error),
            }
        };
        Ok(eventually("no canary copy is left", STEP, gone).await?)
    }

    pub async fn pods(&self, labels: &str) -> Result<Vec<Pod>, ShopError> {
        let api: Api<Pod> = Api::namespaced(self.stage.client.clone(), &self.namespace);
        let pods = api.list(&ListParams::default().labels(labels)).await;
        Ok(pods
            .map_err(|source| ShopError::Read {
                what: "the pods",
                source,
            })?
            .items)
    }

    /// The CanaryRollout's events, oldest first. One that happens again is the same event with a later time.
    pub async fn events(&self) -> Result<Vec<Happened>, ShopError> {
        let api: Api<Event> = Api::namespaced(self.stage.client.clone(), &self.namespace);
        let of_the_rollout = ListParams::default().fields("involvedObject.kind=CanaryRollout");
        let events = api.list(&of_the_rollout).await;
        let events = events.map_err(|source| ShopError::Read {
            what: "the events",
            source,
        })?;
        let mut events: Vec<Happened> = events.items.into_iter().map(Happened::from).collect();
        events.sort_by_key(|event| event.at);
        Ok(events)
    }

    /// Waits for an event; returns its note.
    pub async fn until_event(&self, reason: &str) -> Result<String, ShopError> {
        let look = || async {
            match self.events().await {
                Ok(events) => match events.iter().rev().find(|event| event.reason == reason) {
                    Some(event) => Waited::There(event.note.clone()),
                    None => Waited::not_yet(
                        events
                            .iter()
                            .map(|e| e.reason.as_str())
                            .collect::<Vec<_>>()
                            .join(", "),
                    ),
                },
                Err(error) => Waited::not_yet(error),
            }
        };
        Ok(eventually(
            &format!("an event {reason}"),
            Duration::from_secs(180),
            look,
        )
        .await?)
    }

    /// What the caller has seen so far.
    pub async fn stats(&self) -> Result<Stats, ShopError> {
        self.stats_of("client").await
    }

    /// What the caller with this label `app` has seen so far, through the API server's proxy to its pod.
    pub async fn stats_of(&self, app: &str) -> Result<Stats, ShopError> {
        let pods = self.pods(&format!("app={app}")).await?;
        let pod = pods
            .iter()
            .find(|pod| pod.metadata.deletion_timestamp.is_none())
            .ok_or(ShopError::NoCaller)?;
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:9090/proxy/stats",
            self.namespace,
            pod.name_any()
        );
        let request = Request::get(path)
            .body(Vec::new())
            .expect("names of Kubernetes make a path");
        let text = self.stage.client.request_text(request).await;
        Ok(serde_json::from_str(&text.map_err(|source| {
            ShopError::Read {
                what: "the caller's statistics",
                source,
            }
        })?)?)
    }

    /// Where the caller shows its statistics to those who are in the cluster's network, API server or not.
    pub async fn stats_address(&self) -> Result<String, ShopError> {
        let pods = self.pods("app=client").await?;
        let address = pods
            .iter()
            .find_map(|pod| pod.status.as_ref()?.pod_ip.clone());
        Ok(format!(
            "http://{}:9090/stats",
            address.ok_or(ShopError::NoCaller)?
        ))
    }

    pub async fn until_stats(
        &self,
        what: &str,
        holds: impl Fn(&Stats) -> bool,
    ) -> Result<Stats, ShopError> {
        let look = || async {
            match self.stats().await {
                Ok(stats) if holds(&stats) => Waited::There(stats),
                Ok(stats) => Waited::not_yet(format!(
                    "{} sent, {:?}, {:?}",
                    stats.sent, stats.failed, stats.versions
                )),
                Err(error) => Waited::not_yet(error),
            }
        };
        Ok(eventually(what, Duration::from_secs(180), look).await?)
    }

    /// Waits until the caller has sent this many more, so that what came before has an answer.
    pub async fn until_sent_more(&self, requests: u64) -> Result<Stats, ShopError> {
        let sent = self.stats().await?.sent;
        self.until_stats("the caller goes on", |stats| stats.sent >= sent + requests)
            .await
    }
}

/// An event, and when it happened last: milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    pub at: i64,
    pub reason: String,
    pub note: String,
}

impl From<Event> for Happened {
    fn from(event: Event) -> Happened {
        let last = event
            .series
            .and_then(|series| series.last_observed_time)
            .or(event.event_time);
        Happened {
            at: last.map_or(0, |time| time.0.as_millisecond()),
            reason: event.reason.unwrap_or_default(),
            note: event.message.unwrap_or_default(),
        }
    }
}

/// A condition of a status by its type.
pub fn condition<'a>(status: &'a CanaryRolloutStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}
