//! Which streams are told of a change: those that subscribe to what changed, and nobody else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aviary_xds::{Kind, Request};
use tokio::sync::Notify;

use super::registry::{Accepts, StreamId};

/// The names in a request.
pub(super) struct Asked {
    subscribe: Vec<String>,
    unsubscribe: Vec<String>,
}

impl Asked {
    pub(super) fn in_request(request: &Request) -> Asked {
        Asked {
            subscribe: request.resource_names_subscribe.clone(),
            unsubscribe: request.resource_names_unsubscribe.clone(),
        }
    }

    /// With this name in the place of another one.
    pub(super) fn renaming(mut self, from: &str, to: &str) -> Asked {
        let names = self.subscribe.iter_mut().chain(&mut self.unsubscribe);
        names
            .filter(|name| name.as_str() == from)
            .for_each(|name| to.clone_into(name));
        self
    }

    /// What the proxy says by asking for this name, or no longer; `None`: nothing.
    pub(super) fn of(&self, name: &str) -> Option<Accepts> {
        let has = |names: &[String]| names.iter().any(|each| each == name);
        if has(&self.subscribe) {
            Some(Accepts::Tls)
        } else {
            has(&self.unsubscribe).then_some(Accepts::Unknown)
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Interests {
    streams: HashMap<StreamId, Arc<Notify>>,
    by_name: HashMap<(Kind, String), HashSet<StreamId>>,
}

impl Interests {
    pub(super) fn enter(&mut self, stream: StreamId) -> Arc<Notify> {
        Arc::clone(self.streams.entry(stream).or_default())
    }

    /// What the stream asks for with this request, which was accepted, and what it asks for no longer.
    pub(super) fn follow(&mut self, stream: StreamId, kind: Kind, asked: Asked) {
        for name in &asked.unsubscribe {
            self.drop(stream, kind, name);
        }
        for name in asked.subscribe {
            let streams = self.by_name.entry((kind, name)).or_default();
            streams.insert(stream);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.by_name.is_empty()
    }

    /// The stream is over; `names` is all that it subscribed to.
    pub(super) fn leave<'a>(
        &mut self,
        stream: StreamId,
        names: impl Iterator<Item = (Kind, &'a String)>,
    ) {
        self.streams.remove(&stream);
        names.for_each(|(kind, name)| self.drop(stream, kind, name));
    }

    fn drop(&mut self, stream: StreamId, kind: Kind, name: &str) {
        let name = (kind, name.to_owned());
        if let Some(streams) = self.by_name.get_mut(&name) {
            streams.remove(&stream);
            if streams.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    pub(super) fn wake(&self, changed: &HashSet<(Kind, String)>) {
        let concerned: HashSet<&StreamId> = changed
            .iter()
            .filter_map(|name| self.by_name.get(name))
            .flatten()
            .collect();
        for stream in concerned {
            if let Some(stream) = self.streams.get(stream) {
                stream.notify_one();
            }
        }
    }

    pub(super) fn wake_everyone(&self) {
        self.streams.values().for_each(|stream| stream.notify_one());
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::*;

    fn asked(subscribe: &[&str], unsubscribe: &[&str]) -> Asked {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Asked {
            subscribe: names(subscribe),
            unsubscribe: names(unsubscribe),
        }
    }

    #[tokio::test]
    async fn only_who_subscribes_to_what_changed_is_woken_and_nothing_is_left_of_who_is_gone() {
        let (mut registry, mut interests) = (Registry::default(), Interests::default());
        let (a, b) = (registry.next_stream(), registry.next_stream());
        let (woken_a, woken_b) = (interests.enter(a), interests.enter(b));
        interests.follow(a, Kind::Route, asked(&["x", "y"], &[]));
        interests.follow(b, Kind::Route, asked(&["y"], &[]));
        interests.follow(b, Kind::Cluster, asked(&["x"], &[]));
        let is_woken =
            |stream: &Arc<Notify>| futures::FutureExt::now_or_never(stream.notified()).is_some();
        let changed = |name: &str| HashSet::from([(Kind::Route, name.to_owned())]);
        interests.wake(&changed("x"));
        assert!(is_woken(&woken_a) && !is_woken(&woken_b));
        interests.follow(a, Kind::Route, asked(&[], &["y"]));
        interests.wake(&changed("y"));
        assert!(!is_woken(&woken_a) && is_woken(&woken_b));
        let names = |names: [(Kind, &str); 2]| names.map(|(kind, name)| (kind, name.to_owned()));
        for (stream, names) in [
            (a, names([(Kind::Route, "x"), (Kind::Route, "y")])),
            (b, names([(Kind::Route, "y"), (Kind::Cluster, "x")])),
        ] {
            interests.leave(stream, names.iter().map(|(kind, name)| (*kind, name)));
        }
        assert!(interests.is_empty());
    }
}
