//! Sends a request to the API server.

use std::error::Error;
use std::fmt;

use aviary_crds::FIELD_MANAGER;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use kube_runtime::events::{Event, Recorder, Reporter};

use super::events::Note;
use super::write::{Verb, Write, WriteError, Written};
use crate::reason::Tone;
use crate::tenure::Tenure;
use crate::text::cut;

/// The most of an error's text that is kept, in bytes.
const TEXT: usize = 300;

#[derive(Clone)]
pub struct Performer {
    client: Client,
    recorder: Recorder,
    tenure: Tenure,
}

impl fmt::Debug for Performer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Performer").finish_non_exhaustive()
    }
}

impl Performer {
    /// `instance` names this process in Events. Nothing is sent once the `tenure` is over.
    pub fn new(client: Client, instance: Option<String>, tenure: Tenure) -> Performer {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance,
        };
        Performer {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            tenure,
        }
    }

    pub async fn perform(&self, write: Write) -> Written {
        if !self.tenure.holds() {
            return Err(WriteError::Unavailable(
                "this replica of the operator does not hold the Lease any more".to_owned(),
            ));
        }
        let Write { kind, key, verb } = write;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &kind.resource());
        let name = key.name.as_str();
        let answer = match verb {
            Verb::Get => api.get(name).await.map(Some),
            Verb::Create(object) => api.create(&created(), &typed(object)?).await.map(Some),
            Verb::Patch(body) => api
                .patch(name, &managed(), &Patch::Merge(body))
                .await
                .map(Some),
            Verb::ReplaceStatus(object) => api
                .replace_status(name, &created(), &typed(object)?)
                .await
                .map(Some),
            Verb::PatchStatus(body) => api
                .patch_status(name, &managed(), &Patch::Merge(body))
                .await
                .map(Some),
            Verb::ApplyStatus(body) => api
                .patch_status(name, &managed().force(), &Patch::Apply(body))
                .await
                .map(Some),
            Verb::Delete {
                uid,
                resource_version,
            } => {
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: Some(uid),
                        resource_version,
                    }),
                    ..DeleteParams::background()
                };
                match api.delete(name, &params).await {
                    // What is gone already is what was asked for.
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                    other => other.map(|_| None),
                }
            }
            Verb::Tell { about, note } => {
                let about: ObjectReference = serde_json::from_value(*about)
                    .map_err(|error| WriteError::Refused(error.to_string()))?;
                self.recorder
                    .publish(&event(note), &about)
                    .await
                    .map(|()| None)
            }
        };
        match answer {
            Ok(None) => Ok(None),
            Ok(Some(object)) => serde_json::to_value(object)
                .map(Some)
                .map_err(|error| WriteError::Unavailable(error.to_string())),
            Err(error) => Err(classify(&error)),
        }
    }
}

fn typed(object: serde_json::Value) -> Result<DynamicObject, WriteError> {
    serde_json::from_value(object).map_err(|error| WriteError::Refused(error.to_string()))
}

/// The recorder counts events of one reason and action as repetitions of the first, whatever their notes say; so the
/// action says what the note says.
fn event(note: Note) -> Event {
    Event {
        type_: match note.tone {
            Tone::Normal => kube_runtime::events::EventType::Normal,
            Tone::Warning => kube_runtime::events::EventType::Warning,
        },
        reason: note.reason.name().to_owned(),
        action: cut(note.text.clone(), 120),
        note: Some(note.text),
        secondary: None,
    }
}

fn classify(error: &kube::Error) -> WriteError {
    let kube::Error::Api(status) = error else {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        return WriteError::Unavailable(cut(text, TEXT));
    };
    let text = cut(status.message.clone(), TEXT);
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => WriteError::Exists,
        (409, _) => WriteError::Conflict,
        (404 | 410, _) => WriteError::Gone,
        (429 | 408, _) => WriteError::Unavailable(text),
        (400..=499, _) => WriteError::Refused(text),
        (_, _) => WriteError::Unavailable(text),
    }
}

fn managed() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn created() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::rollout::write::Kind;

    #[tokio::test]
    async fn nothing_is_sent_once_the_tenure_is_over() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Nobody listens there, so what is sent fails with other words.
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let (client, tenure) = (Client::try_from(nowhere).unwrap(), Tenure::unlimited());
        let performer = Performer::new(client, None, tenure.clone());
        let read = || Write {
            kind: Kind::Deployment,
            key: Key::new("shop", "web"),
            verb: Verb::Get,
        };
        let said = |written: Written| match written {
            Err(WriteError::Unavailable(text)) => text,
            other => panic!("{other:?}"),
        };
        let sent = said(performer.perform(read()).await);
        assert!(!sent.contains("Lease"), "{sent}");
        tenure.end();
        let refused = said(performer.perform(read()).await);
        assert!(refused.contains("does not hold the Lease"), "{refused}");
    }

    #[test]
    fn an_answer_is_told_apart_by_what_can_be_done_about_it() {
        let answer = |code: u16, reason: &str| {
            classify(&kube::Error::Api(Box::new(kube::core::Status {
                code,
                reason: reason.to_owned(),
                message: "why".to_owned(),
                ..kube::core::Status::default()
            })))
        };
        assert_eq!(answer(409, "AlreadyExists"), WriteError::Exists);
        assert_eq!(answer(409, "Conflict"), WriteError::Conflict);
        assert_eq!(answer(404, "NotFound"), WriteError::Gone);
        for code in [429, 500, 503, 504] {
            assert_eq!(answer(code, ""), WriteError::Unavailable("why".to_owned()));
        }
        for code in [400, 403, 422] {
            assert_eq!(answer(code, ""), WriteError::Refused("why".to_owned()));
        }
    }
}
