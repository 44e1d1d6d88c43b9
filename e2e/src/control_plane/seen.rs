//! What the API server shows of one namespace, kept up to date by watches, and waiting for what it shows.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::gvk::GroupVersionKind;
use kube::runtime::reflector::store::{Store, Writer};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::harness::NotInTime;

const CANARY_OF: &str = "aviary.dev/canary-of";

/// Where the version of a template is read: the tag of its first image.
const IMAGE: &str = "/spec/template/spec/containers/0/image";

/// Watches one namespace until it is dropped.
pub(super) struct Views {
    rollouts: Store<DynamicObject>,
    deployments: Store<DynamicObject>,
    replica_sets: Store<DynamicObject>,
    pods: Store<DynamicObject>,
    events: Store<DynamicObject>,
    history: Arc<Mutex<Vec<Value>>>,
    news: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl Views {
    pub(super) fn start(client: &Client, namespace: &str) -> Views {
        let (tell, news) = watch::channel(0);
        let (tell, history) = (Arc::new(tell), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        let mut watch = |group: &str, version: &str, kind: &str| {
            let kind = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk(&kind);
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &resource);
            let writer = Writer::new(resource);
            let store = writer.as_reader();
            let (tell, history) = (Arc::clone(&tell), Arc::clone(&history));
            let of_rollouts = kind.kind == "CanaryRollout";
            tasks.spawn(async move {
                let changes = watcher(api, watcher::Config::default()).default_backoff();
                let mut changes = reflector(writer, changes).boxed();
                while let Some(change) = changes.next().await {
                    if let (
                        true,
                        Ok(watcher::Event::Apply(rollout) | watcher::Event::InitApply(rollout)),
                    ) = (of_rollouts, change)
                    {
                        let status = rollout.data.get("status").cloned().unwrap_or_default();
                        history
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(status);
                    }
                    tell.send_modify(|changes| *changes += 1);
                }
            });
            store
        };
        Views {
            rollouts: watch("aviary.dev", "v1alpha1", "CanaryRollout"),
            deployments: watch("apps", "v1", "Deployment"),
            replica_sets: watch("apps", "v1", "ReplicaSet"),
            pods: watch("", "v1", "Pod"),
            events: watch("events.k8s.io", "v1", "Event"),
            history,
            news,
            _tasks: tasks,
        }
    }

    pub(super) fn seen(&self) -> Seen {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        Seen {
            rollouts: self.rollouts.state(),
            deployments: self.deployments.state(),
            replica_sets: self.replica_sets.state(),
            pods: self.pods.state(),
            events: self.events.state(),
            history: history.clone(),
        }
    }

    /// Waits until `look` finds it.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, NotInTime> {
        let deadline = Instant::now() + within;
        let mut news = self.news.clone();
        loop {
            news.borrow_and_update();
            let seen = self.seen();
            if let Some(found) = look(&seen) {
                return Ok(found);
            }
            // The sender lives as long as this.
            if timeout_at(deadline, news.changed()).await.is_err() {
                return Err(NotInTime {
                    what: what.to_owned(),
                    within,
                    seen: seen.to_string(),
                });
            }
        }
    }
}

/// One ReplicaSet of the Deployment, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub replica_set: String,
    pub uid: String,
    pub version: String,
    /// It rises whenever it is scaled.
    pub generation: i64,
    pub wanted: u64,
    pub ready: u64,
}

/// What a namespace shows at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    rollouts: Vec<Arc<DynamicObject>>,
    deployments: Vec<Arc<DynamicObject>>,
    replica_sets: Vec<Arc<DynamicObject>>,
    pods: Vec<Arc<DynamicObject>>,
    events: Vec<Arc<DynamicObject>>,
    history: Vec<Value>,
}

impl Seen {
    pub fn rollout(&self, name: &str) -> Option<&DynamicObject> {
        find(&self.rollouts, name)
    }

    pub fn deployment(&self, name: &str) -> Option<&DynamicObject> {
        find(&self.deployments, name)
    }

    /// A field of the status of CanaryRollout `web`, by JSON pointer; null when there is none.
    pub fn status(&self, pointer: &str) -> &Value {
        self.rollout("web")
            .and_then(|rollout| rollout.data.get("status")?.pointer(pointer))
            .unwrap_or(&Value::Null)
    }

    pub fn phase(&self) -> &str {
        self.status("/phase").as_str().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.status("/message").as_str().unwrap_or_default()
    }

    pub fn stable(&self) -> &str {
        self.status("/stable/revision").as_str().unwrap_or_default()
    }

    /// The weight that the proxies were sent last.
    pub fn weight(&self) -> i64 {
        self.status("/weight/sent").as_i64().unwrap_or(0)
    }

    /// A condition of a Deployment.
    pub fn condition_of(&self, deployment: &str, type_: &str) -> Option<&Value> {
        let conditions = self
            .deployment(deployment)?
            .data
            .pointer("/status/conditions")?;
        let mut conditions = conditions.as_array()?.iter();
        conditions.find(|condition| condition["type"] == type_)
    }

    /// At rest: everyone gets the stable revision.
    pub fn is_stable(&self) -> bool {
        self.phase() == "Stable" && self.condition("Ready") == "True"
    }

    /// The value of a condition: `True`, `False`, `Unknown`, or nothing.
    pub fn condition(&self, kind: &str) -> &str {
        self.of_condition(kind, "status")
    }

    pub fn reason(&self, kind: &str) -> &str {
        self.of_condition(kind, "reason")
    }

    /// Whether a condition or the message says it, in any case of letters.
    pub fn says(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let conditions = self.status("/conditions").as_array();
        let conditions = conditions.into_iter().flatten().flat_map(|condition| {
            ["type", "reason", "message"].map(|field| condition[field].as_str().unwrap_or_default())
        });
        conditions
            .chain([self.message()])
            .any(|said| said.to_lowercase().contains(&text))
    }

    fn of_condition(&self, kind: &str, field: &str) -> &str {
        let conditions = self.status("/conditions").as_array();
        conditions
            .and_then(|all| all.iter().find(|condition| condition["type"] == kind))
            .and_then(|condition| condition[field].as_str())
            .unwrap_or_default()
    }

    /// The notes of the Events with this reason.
    pub fn events(&self, reason: &str) -> Vec<&str> {
        self.events
            .iter()
            .filter(|event| event.data["reason"] == reason)
            .filter_map(|event| event.data["note"].as_str())
            .collect()
    }

    pub fn has_event(&self, reason: &str) -> bool {
        !self.events(reason).is_empty()
    }

    /// Whether an Event speaks of it, whatever its reason, in any case of letters.
    pub fn told_of(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let notes = self
            .events
            .iter()
            .flat_map(|event| [event.data["reason"].as_str(), event.data["note"].as_str()]);
        notes
            .flatten()
            .any(|note| note.to_lowercase().contains(&text))
    }

    pub fn is_paused(&self) -> bool {
        self.deployment("web")
            .is_some_and(|web| web.data.pointer("/spec/paused") == Some(&Value::Bool(true)))
    }

    /// The version that the Deployment asks for.
    pub fn version(&self) -> &str {
        self.deployment("web").map_or("", version)
    }

    /// Of Deployment `web`, oldest first.
    pub fn revisions(&self) -> Vec<Revision> {
        let uid = self.deployment("web").and_then(ResourceExt::uid);
        let mut ours: Vec<_> = self
            .replica_sets
            .iter()
            .filter(|set| {
                let mut owners = set.owner_references().iter();
                owners.any(|owner| Some(&owner.uid) == uid.as_ref())
            })
            .collect();
        ours.sort_by_key(|set| (set.creation_timestamp(), set.name_any()));
        let number = |set: &DynamicObject, pointer| {
            set.data
                .pointer(pointer)
                .and_then(Value::as_u64)
                .unwrap_or(0)
        };
        ours.into_iter()
            .map(|set| Revision {
                replica_set: set.name_any(),
                uid: set.uid().unwrap_or_default(),
                version: version(set).to_owned(),
                generation: set.metadata.generation.unwrap_or(0),
                wanted: number(set, "/spec/replicas"),
                ready: number(set, "/status/readyReplicas"),
            })
            .collect()
    }

    /// How many Ready pods of a version the Deployment itself has.
    pub fn ready(&self, version: &str) -> u64 {
        let ours = self.revisions();
        ours.iter()
            .filter(|revision| revision.version == version)
            .map(|revision| revision.ready)
            .sum()
    }

    /// The versions that the Deployment wants pods of.
    pub fn wanted(&self) -> BTreeSet<String> {
        let ours = self.revisions().into_iter();
        ours.filter(|revision| revision.wanted > 0)
            .map(|revision| revision.version)
            .collect()
    }

    /// The canary copies.
    pub fn copies(&self) -> Vec<&DynamicObject> {
        self.deployments
            .iter()
            .filter(|deployment| deployment.labels().contains_key(CANARY_OF))
            .map(AsRef::as_ref)
            .collect()
    }

    /// Whether there is one copy, of this version.
    pub fn copies_are(&self, version: &str) -> bool {
        matches!(self.copies()[..], [copy] if self::version(copy) == version)
    }

    /// Whether one of the copies is of this version; those before it may be on their way out.
    pub fn has_copy_of(&self, version: &str) -> bool {
        let mut copies = self.copies().into_iter();
        copies.any(|copy| self::version(copy) == version)
    }

    pub fn pods(&self) -> impl Iterator<Item = &DynamicObject> {
        self.pods.iter().map(AsRef::as_ref)
    }

    /// Every status that CanaryRollouts of this namespace had, in order.
    pub fn history(&self) -> &[Value] {
        &self.history
    }

    /// The highest weight that a revision ever had by status.
    pub fn highest_weight_of(&self, revision: &str) -> i64 {
        self.history
            .iter()
            .filter(|status| status["canary"]["revision"] == revision)
            .filter_map(|status| status["weight"]["sent"].as_i64())
            .max()
            .unwrap_or(0)
    }
}

/// For the person who reads why a wait was in vain.
impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for rollout in &self.rollouts {
            let status = &rollout.data["status"];
            write!(
                f,
                "\n  CanaryRollout {}: {} weight {} stable {} canary {} verdict {}: {}",
                rollout.name_any(),
                status["phase"],
                status["weight"],
                status["stable"]["revision"],
                status["canary"]["revision"],
                status["verdict"],
                status["message"]
            )?;
            for condition in status["conditions"].as_array().into_iter().flatten() {
                let mut line = String::new();
                write!(
                    line,
                    "{}={} {}",
                    condition["type"], condition["status"], condition["reason"]
                )?;
                write!(
                    f,
                    "\n    {} {}",
                    line.replace('"', ""),
                    condition["message"]
                )?;
            }
        }
        for deployment in &self.deployments {
            write!(
                f,
                "\n  Deployment {}: {} of {} Ready, paused {}, {}",
                deployment.name_any(),
                deployment.data["status"]["readyReplicas"],
                deployment.data["spec"]["replicas"],
                deployment.data["spec"]["paused"],
                version(deployment)
            )?;
        }
        for revision in self.revisions() {
            write!(f, "\n  {revision:?}")?;
        }
        for event in &self.events {
            if event.data["regarding"]["kind"] != "Pod"
                && event.data["regarding"]["kind"] != "ReplicaSet"
            {
                write!(
                    f,
                    "\n  Event {}: {}",
                    event.data["reason"], event.data["note"]
                )?;
            }
        }
        Ok(())
    }
}

fn find<'a>(objects: &'a [Arc<DynamicObject>], name: &str) -> Option<&'a DynamicObject> {
    let mut objects = objects.iter();
    objects
        .find(|object| object.name_any() == name)
        .map(AsRef::as_ref)
}

fn version(of: &DynamicObject) -> &str {
    let image = of.data.pointer(IMAGE).and_then(Value::as_str);
    image
        .and_then(|image| image.rsplit(':').next())
        .unwrap_or_default()
}
