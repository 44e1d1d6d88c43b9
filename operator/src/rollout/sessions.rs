//! The sessions of all rollouts, each with what the views have of it.

use std::collections::HashMap;
use std::sync::Arc;

use kube::ResourceExt;
use rollout_core::time::Time;

use super::session::Session;
use super::views::Views;
use crate::key::Key;

#[derive(Default)]
pub(super) struct Sessions(HashMap<Key, Session>);

impl Sessions {
    pub(super) fn get(&self, key: &Key) -> Option<&Session> {
        self.0.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Session> {
        self.0.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    /// Those that wait for proxies.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Key> {
        self.0
            .iter()
            .filter(|(_, session)| session.waits())
            .map(|(key, _)| key)
    }

    /// The session of this rollout has what the views have: it is begun, told, or told that there is nothing any more.
    pub(super) fn refresh(&mut self, views: &Views, key: &Key, now: Time) {
        let seen = views.rollout(key);
        let read = seen.as_ref().map(|seen| seen.0.as_ref());
        let begun = match (read, self.0.get_mut(key)) {
            (Some(Ok(rollout)), Some(session)) if session.uid() == rollout.metadata.uid => {
                session.seen(rollout);
                None
            }
            // Another one of the same name, or the first.
            (Some(Ok(rollout)), _) => Some(Session::new(Arc::clone(rollout), now)),
            (Some(Err(illegible)), Some(session)) => {
                session.seen_illegible(&illegible.error);
                None
            }
            (Some(Err(illegible)), None) => {
                Session::illegible(&illegible.metadata, &illegible.error, now)
            }
            (None, Some(session)) => {
                let left = session.is_unknown().then(|| left_behind(views, key, now));
                let left = left.flatten();
                if left.is_none() {
                    session.seen_gone();
                }
                left
            }
            (None, None) => left_behind(views, key, now),
        };
        self.0.extend(begun.map(|session| (key.clone(), session)));
    }
}

/// Something of a rollout that was gone before this process started.
fn left_behind(views: &Views, key: &Key, now: Time) -> Option<Session> {
    let original = views.originals_of(key).into_iter().next();
    let copy = views.copies_of(key).into_iter().next();
    let deployment = match (original, copy) {
        (Some(original), _) => original.name_any(),
        (None, Some(copy)) => copy.owner_references().first()?.name.clone(),
        (None, None) => return None,
    };
    Session::left_behind(key, &deployment, now)
}
