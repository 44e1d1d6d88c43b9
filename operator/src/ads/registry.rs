//! What every proxy has been sent and has said about it, by pod.
//!
//! A pod whose stream ended stays, with what it had: its proxy goes on routing with it. It leaves when its pod is gone
//! ([`Registry::forget`]) or when a new stream of the pod takes its place. A new stream is entered with its first request for
//! routes, so that a reconnecting pod is a laggard until it has said what it uses.

use std::collections::{BTreeMap, BTreeSet};

use aviary_xds::server::{SentRoute, Verdict};
use aviary_xds::{DeltaServer, Kind, Resources};
use tokio_util::sync::CancellationToken;
use traffic_core::config::Revocation;

/// How many laggards are named.
const NAMED: usize = 10;
/// Revocations are kept as long as the process runs; a proxy that reports without end must not fill it.
const MOST_REVOCATIONS: usize = 100_000;

/// How far the proxies are with one rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// Proxies that route to it: those with an open stream, and those whose stream is lost and whose pod is not known to be gone.
    pub proxies: u32,
    /// Of these, connected ones that have installed the current version of every route of the rollout that they use.
    pub acknowledged: u32,
    /// The others, as `<namespace>/<pod>`, sorted: the first ten.
    pub laggards: Vec<String>,
    /// The newest NACK about what is served now.
    pub rejected: Option<Rejection>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// `<namespace>/<pod>`.
    pub pod: String,
    /// What the proxy said.
    pub text: String,
}

/// Names one stream of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId(u64);

/// What one stream has sent and heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// By subscribed name.
    routes: BTreeMap<String, Option<SentRoute>>,
    rejected_clusters: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    /// By namespace and name.
    pods: BTreeMap<(String, String), Pod>,
    revoked: BTreeSet<Revocation>,
    last_stream: u64,
    last_rejection: u64,
}

#[derive(Debug)]
struct Pod {
    stream: StreamId,
    link: Link,
    view: View,
    /// Orders NACKs; 0 if there was none.
    rejected_at: u64,
}

#[derive(Debug)]
enum Link {
    /// Cancelling the token ends the stream.
    Open(CancellationToken),
    Lost,
}

impl View {
    pub(super) fn of(server: &DeltaServer) -> View {
        View {
            routes: server.routes(),
            rejected_clusters: server.rejected_clusters(),
        }
    }
}

impl Registry {
    pub(super) fn next_stream(&mut self) -> StreamId {
        self.last_stream += 1;
        StreamId(self.last_stream)
    }

    /// The stream now speaks for its pod; an older one is ended.
    pub(super) fn enter(
        &mut self,
        key: &(String, String),
        stream: StreamId,
        end: CancellationToken,
        view: View,
    ) {
        let pod = Pod {
            stream,
            link: Link::Open(end),
            view,
            rejected_at: 0,
        };
        if let Some(Pod {
            link: Link::Open(older),
            ..
        }) = self.pods.insert(key.clone(), pod)
        {
            older.cancel();
        }
    }

    /// Whether anything changed.
    pub(super) fn update(&mut self, key: &(String, String), stream: StreamId, view: View) -> bool {
        let Some(pod) = self.pods.get_mut(key).filter(|pod| pod.stream == stream) else {
            return false;
        };
        let changed = pod.view != view;
        pod.view = view;
        changed
    }

    pub(super) fn rejected(&mut self, key: &(String, String), stream: StreamId) {
        if let Some(pod) = self.pods.get_mut(key).filter(|pod| pod.stream == stream) {
            self.last_rejection += 1;
            pod.rejected_at = self.last_rejection;
        }
    }

    pub(super) fn leave(&mut self, key: &(String, String), stream: StreamId) {
        if let Some(pod) = self.pods.get_mut(key).filter(|pod| pod.stream == stream) {
            pod.link = Link::Lost;
        }
    }

    /// Whether there was such a pod.
    pub(super) fn forget(&mut self, namespace: &str, pod: &str) -> bool {
        let gone = self.pods.remove(&(namespace.to_owned(), pod.to_owned()));
        if let Some(Pod {
            link: Link::Open(stream),
            ..
        }) = &gone
        {
            stream.cancel();
        }
        gone.is_some()
    }

    pub(super) fn report_revocations(&mut self, revocations: Vec<Revocation>) {
        let room = MOST_REVOCATIONS.saturating_sub(self.revoked.len());
        self.revoked.extend(revocations.into_iter().take(room));
    }

    pub(super) fn revoked(&self) -> Vec<Revocation> {
        self.revoked.iter().cloned().collect()
    }

    pub(super) fn connected(&self) -> BTreeSet<(String, String)> {
        let open = self
            .pods
            .iter()
            .filter(|(_, pod)| matches!(pod.link, Link::Open(_)));
        open.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn acks(&self, rollout: &str, resources: &Resources) -> Acks {
        let mut acks = Acks::default();
        let mut newest = 0;
        for ((namespace, name), pod) in &self.pods {
            let Some(standing) = pod.view.standing(rollout, resources) else {
                continue;
            };
            acks.proxies += 1;
            let name = || format!("{namespace}/{name}");
            match (standing.acknowledged, &pod.link) {
                (true, Link::Open(_)) => acks.acknowledged += 1,
                (true, Link::Lost) | (false, Link::Open(_) | Link::Lost) => {
                    // The map is sorted, so are the names.
                    if acks.laggards.len() < NAMED {
                        acks.laggards.push(name());
                    }
                }
            }
            if let Some(text) = standing.rejection.filter(|_| pod.rejected_at > newest) {
                newest = pod.rejected_at;
                acks.rejected = Some(Rejection {
                    pod: name(),
                    text: text.to_owned(),
                });
            }
        }
        acks
    }
}

/// Where one proxy stands with one rollout.
struct Standing<'a> {
    acknowledged: bool,
    rejection: Option<&'a str>,
}

impl View {
    /// `None`: it uses no route of the rollout.
    fn standing(&self, rollout: &str, resources: &Resources) -> Option<Standing<'_>> {
        let mut standing = None;
        for (name, sent) in &self.routes {
            let Some(current) = resources.resolve(Kind::Route, name) else {
                continue;
            };
            if current.rollout.as_deref() != Some(rollout) {
                continue;
            }
            let standing = standing.get_or_insert(Standing {
                acknowledged: true,
                rejection: None,
            });
            let sent = sent
                .as_ref()
                .filter(|sent| sent.name == current.name && sent.version == current.version);
            match sent.map(|sent| &sent.verdict) {
                Some(Verdict::Accepted) => {}
                Some(Verdict::Rejected(text)) => {
                    standing.acknowledged = false;
                    standing.rejection = Some(text);
                }
                // A route whose clusters were rejected is never shown, so it is never acknowledged.
                Some(Verdict::Pending) | None => {
                    standing.acknowledged = false;
                    let rejected = current
                        .clusters
                        .iter()
                        .find_map(|name| self.rejected_clusters.get(name));
                    standing.rejection = standing.rejection.or(rejected.map(String::as_str));
                }
            }
        }
        standing
    }
}
