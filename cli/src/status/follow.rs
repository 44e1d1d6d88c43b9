//! What is known of one release, kept up to date by watches.

use std::pin::Pin;

use aviary_crds::CanaryRollout;
use futures::stream::select;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object, watcher};

use crate::cluster::{Cluster, ClusterError, events_about};
use crate::template::Template;

/// What is known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// `None`: it was deleted.
    pub(super) rollout: Option<CanaryRollout>,
    /// `None`: the Deployment is not there.
    pub(super) template: Option<Template>,
    /// About the rollout, in no order; empty unless they are watched.
    pub(super) events: Vec<Event>,
}

/// What a watch brought.
enum News {
    Rollout(Option<Box<CanaryRollout>>),
    Deployment(Option<Template>),
    Said(Box<Event>),
    /// It is begun anew by itself.
    Lost(String),
}

/// One release.
pub(super) struct Followed {
    pub(super) known: Known,
    news: Pin<Box<dyn Stream<Item = News> + Send>>,
    lost: Option<String>,
}

impl Followed {
    /// Reads the rollout and the template that its Deployment asks for now, and watches both from then on.
    pub(super) async fn begin(cluster: &Cluster, name: &str) -> Result<Followed, ClusterError> {
        let rollout = cluster.rollout(name).await?;
        let template = cluster.template(&rollout).await?;
        let deployment = rollout.spec.target_ref.name.clone();
        let rollouts = watch_object(cluster.rollouts_api(), name).default_backoff();
        let rollouts = rollouts.map(|seen| match seen {
            Ok(rollout) => News::Rollout(rollout.map(Box::new)),
            Err(error) => lost(&error),
        });
        let deployments = watch_object(cluster.deployments_api(), &deployment).default_backoff();
        let deployments = deployments.map(|seen: Result<Option<DynamicObject>, _>| match seen {
            Ok(deployment) => News::Deployment(deployment.as_ref().and_then(Template::of)),
            Err(error) => lost(&error),
        });
        Ok(Followed {
            known: Known {
                rollout: Some(rollout),
                template,
                events: Vec::new(),
            },
            news: Box::pin(select(rollouts, deployments)),
            lost: None,
        })
    }

    /// Watches the Events about it, too. Whoever may not read them sees none.
    pub(super) fn with_events(mut self, cluster: &Cluster, name: &str) -> Followed {
        let about = watcher::Config::default().fields(&events_about(name));
        let events = watcher(cluster.events_api(), about)
            .default_backoff()
            .applied_objects();
        let events = events.filter_map(async |seen| Some(News::Said(Box::new(seen.ok()?))));
        self.news = Box::pin(select(self.news, Box::pin(events)));
        self
    }

    /// Waits until there is something new. Cancel safe.
    pub(super) async fn changed(&mut self) {
        match self.news.next().await {
            Some(News::Rollout(rollout)) => self.known.rollout = rollout.map(|it| *it),
            Some(News::Deployment(template)) => self.known.template = template,
            Some(News::Said(event)) => {
                let said = &mut self.known.events;
                said.retain(|it| it.name_any() != event.name_any());
                said.push(*event);
                return;
            }
            Some(News::Lost(why)) => {
                self.lost = Some(why);
                return;
            }
            // A watch does not end by itself.
            None => std::future::pending().await,
        }
        self.lost = None;
    }

    /// Why nothing is heard at present.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }
}

fn lost(error: &watcher::Error) -> News {
    use std::error::Error as _;
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        why = error.to_string();
        source = error.source();
    }
    News::Lost(why)
}
