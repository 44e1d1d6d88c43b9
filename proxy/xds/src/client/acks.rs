//! Acknowledgements that wait: a response is acknowledged when the snapshot that shows all of it is installed, because the
//! control plane takes the ACK of a weight for the moment from which the weight is true.

use super::{Answer, DeltaClient, Generation, Output, Shown};
use crate::Request;
use crate::kind::Kind;

#[derive(Debug)]
pub(super) struct Awaiting {
    kind: Kind,
    nonce: String,
    /// Name and version of each route in the response.
    routes: Vec<(String, String)>,
    /// The first snapshot that shows all of it, once there is one.
    shown_in: Option<Generation>,
}

impl Awaiting {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn new(kind: Kind, nonce: String, routes: Vec<(String, String)>) -> Awaiting {
        Awaiting {
            kind,
            nonce,
            routes,
            shown_in: None,
        }
    }
}

impl DeltaClient {
    pub(super) fn await_install(&mut self, awaiting: Awaiting) {
        if let Some(stream) = &mut self.stream {
            stream.awaiting.push(awaiting);
        }
    }

    /// Sends the acknowledgements that have become true, in the order of their responses.
    pub(super) fn acknowledge(&mut self, output: &mut Output) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let mut acknowledged = Vec::new();
        stream.awaiting.retain_mut(|awaiting| {
            if awaiting.shown_in.is_none()
                && awaiting
                    .routes
                    .iter()
                    .all(|(name, version)| self.is_settled(name, version))
            {
                awaiting.shown_in = Some(self.generation);
            }
            let done = awaiting
                .shown_in
                .is_some_and(|generation| generation <= self.installed);
            if done {
                acknowledged.push(awaiting.kind);
                output.requests.push(Request {
                    type_url: awaiting.kind.type_url().to_owned(),
                    response_nonce: awaiting.nonce.clone(),
                    ..Request::default()
                });
            }
            !done
        });
        self.stream = Some(stream);
        for kind in acknowledged {
            self.exchanged[kind].acknowledged += 1;
        }
    }

    /// The route is visible at every destination that it answers, or a newer answer has taken its place.
    fn is_settled(&self, name: &str, version: &str) -> bool {
        if self
            .routes
            .get(name)
            .is_none_or(|latest| latest.version != version)
        {
            return true;
        }
        let answered = self
            .destinations
            .values()
            .filter(|each| matches!(&each.answer, Answer::Route(route) if route == name));
        answered.into_iter().all(|each| match &each.shown {
            Some(Shown::Route(held)) => held.route.name == name && held.version == version,
            Some(Shown::PassThrough) | None => false,
        })
    }
}
