//! A request of a person that was heeded, or answers nothing, is taken away.

use aviary_crds::{REQUEST_ANNOTATION, REQUESTED_BY_ANNOTATION};
use kube::ResourceExt;
use rollout_core::{By, Fate, fate};
use serde_json::json;

use super::Effect;
use crate::reason::Reason;
use crate::rollout::events::{self, Note};
use crate::rollout::look::Look;
use crate::rollout::persisted::Persisted;
use crate::rollout::request::{asked, because};
use crate::rollout::write::{Kind, Verb, Write};

/// Takes a request away that was heeded by what is persisted, or answers nothing; and the name of somebody who asks nothing
/// any more.
pub(super) fn clear(look: &Look, persisted: &Persisted) -> Option<Effect> {
    let rollout = &look.rollout;
    let has = |annotation| rollout.annotations().contains_key(annotation);
    if !has(REQUEST_ANNOTATION) && !has(REQUESTED_BY_ANNOTATION) {
        return None;
    }
    let done = match asked(rollout) {
        None => None,
        Some(Err(invalid)) => Some(ignored(look, &invalid.to_string())),
        Some(Ok(request)) => {
            let state = persisted.state();
            let spending = persisted.memory().spending.as_ref();
            let exposed = spending.map(|spending| spending.spent.exposed());
            match fate(state, &request, exposed.unwrap_or_default(), look.now) {
                Fate::Awaited => return None,
                Fate::Heeded => None,
                Fate::Refused(refusal) => {
                    let why = because(refusal, &request, state, &look.key);
                    Some(ignored(look, &why))
                }
            }
        }
    };
    let patch = json!({"metadata": {
        "annotations": {REQUEST_ANNOTATION: null, REQUESTED_BY_ANNOTATION: null},
        "uid": rollout.uid(),
        // Another one may have come meanwhile.
        "resourceVersion": rollout.resource_version(),
    }});
    Some(Effect {
        reason: Reason::RequestNotRemoved,
        failing: format!(
            "the annotation {REQUEST_ANNOTATION} of the CanaryRollout cannot be removed"
        ),
        write: Write {
            kind: Kind::CanaryRollout,
            key: look.key.clone(),
            verb: Verb::Patch(patch),
        },
        done,
    })
}

fn ignored(look: &Look, why: &str) -> Note {
    let annotations = look.rollout.annotations();
    let text = |annotation| annotations.get(annotation).cloned();
    let by = By {
        user: text(REQUESTED_BY_ANNOTATION),
    };
    let asked = text(REQUEST_ANNOTATION).unwrap_or_default();
    events::ignored(&asked, &by, why)
}

#[cfg(test)]
mod tests {
    use rollout_core::Request;
    use rollout_core::plan::Percent;
    use rollout_core::state::{Phase, State};
    use rollout_core::time::Time;

    use super::*;
    use crate::key::Key;
    use crate::rollout::request::{promote, resume};
    use crate::rollout::testing;

    /// Revision `new` in a soak of step 0, which has weight 10, passed and pauses.
    fn paused() -> State {
        let mut state = testing::state(Phase::Soaking {
            step: 0,
            since: Time(0),
        });
        let run = state.run.as_mut().unwrap();
        run.failed_in_a_row = 0;
        run.paused_since = Some(Time(90_000));
        run.plan = testing::pausing();
        state
    }

    fn look(annotations: serde_json::Value) -> Look {
        let annotations = json!({"metadata": {"annotations": annotations}});
        testing::look(testing::rollout(annotations), Time(100_000))
    }

    fn asking(asked: &str) -> Look {
        look(json!({REQUEST_ANNOTATION: asked, REQUESTED_BY_ANNOTATION: "alice"}))
    }

    fn cleared(look: &Look, state: &State) -> Option<Effect> {
        clear(look, &testing::persisted(state))
    }

    #[test]
    fn the_commands_ask_what_they_say() {
        let (key, state) = (Key::new("shop", "payment"), paused());
        let commands = [promote(&key, &state).unwrap(), resume(&key, "new")];
        assert_eq!(
            commands,
            [
                "kubectl -n shop annotate --overwrite canaryrollout payment aviary.dev/request=promote:new@10",
                "kubectl -n shop annotate --overwrite canaryrollout payment aviary.dev/request=resume:new",
            ]
        );
        for command in commands {
            let value = command.split_once('=').unwrap().1;
            let asked = asked(&asking(value).rollout).unwrap().unwrap();
            assert_eq!(asked.by.to_string(), "alice");
        }
    }

    #[test]
    fn a_request_stays_until_it_is_heeded_and_is_taken_away_then_without_a_word() {
        let mut state = paused();
        for awaited in [
            "promote:new@10",
            "abort:new",
            "pause:new",
            "promote-now:new",
        ] {
            assert_eq!(
                cleared(&asking(awaited), &state),
                None,
                "{awaited} is about to be"
            );
        }
        state.heeded = Some(Request {
            verb: rollout_core::Verb::Promote,
            revision: "new".to_owned(),
            weight: Percent::new(10).ok(),
            by: By {
                user: Some("alice".to_owned()),
            },
        });
        let effect = cleared(&asking("promote:new@10"), &state).unwrap();
        assert_eq!(effect.done, None);
        let Verb::Patch(patch) = effect.write.verb else {
            panic!("it is a patch");
        };
        assert_eq!(
            patch["metadata"]["annotations"],
            json!({REQUEST_ANNOTATION: null, REQUESTED_BY_ANNOTATION: null})
        );
        assert_eq!(patch["metadata"]["resourceVersion"], "1");
    }

    #[test]
    fn a_request_that_answers_nothing_is_taken_away_and_people_are_told_whose_and_why() {
        let mut soaks = paused();
        soaks.run.as_mut().unwrap().paused_since = None;
        soaks.run.as_mut().unwrap().passed = false;
        let stable = testing::state(Phase::Stable);
        for (state, asked, why) in [
            (
                &paused(),
                "promote:old@10",
                "the release is of revision new, at weight 10%",
            ),
            (
                &paused(),
                "promote:new@100",
                "revision new has weight 10%: promote:new@10",
            ),
            (
                &soaks,
                "promote:new@10",
                "revision new has weight 10% and waits for nobody there; it goes on by itself when that is earned",
            ),
            (
                &stable,
                "abort:new",
                "revision new waits to be released and has no weight; put the stable template back to call it off",
            ),
            (
                &paused(),
                "resume:new",
                "nobody has paused the release of revision new",
            ),
            (&paused(), "retry:new", "revision new has not failed"),
            (
                &paused(),
                "restart:old",
                "restarting without a new revision is not supported yet; kubectl rollout restart releases the same version with new pods, step by step",
            ),
            (
                &paused(),
                "undo:older",
                "going back to an older revision is not supported yet; apply its manifest, and once it is being released skip its judgement: kubectl -n shop annotate --overwrite canaryrollout payment aviary.dev/request=promote-now:older",
            ),
            (
                &paused(),
                "new@10",
                "'new@10' has no verb: write VERB:REVISION, for example abort:7f9c2a41d0",
            ),
        ] {
            let told = cleared(&asking(asked), state).unwrap().done.unwrap();
            assert_eq!(told.reason, "RequestIgnored");
            assert_eq!(
                told.text,
                format!("aviary.dev/request={asked} of alice was not heeded and is removed: {why}")
            );
        }
        let nobody = look(json!({}));
        assert_eq!(cleared(&nobody, &paused()), None);
    }

    #[test]
    fn whoever_is_not_known_is_said_to_be_so() {
        let look = look(json!({REQUEST_ANNOTATION: "abort:old"}));
        let told = cleared(&look, &paused()).unwrap().done.unwrap();
        assert!(
            told.text.contains(" of somebody, unknown was not"),
            "{}",
            told.text
        );
    }

    #[test]
    fn a_name_that_asks_nothing_goes_without_a_word() {
        let look = look(json!({REQUESTED_BY_ANNOTATION: "alice"}));
        assert_eq!(cleared(&look, &paused()).unwrap().done, None);
    }

    #[test]
    fn every_refusal_has_words_of_its_own() {
        let (state, key) = (paused(), Key::new("shop", "payment"));
        let request = asked(&asking("abort:new").rollout).unwrap().unwrap();
        let words = rollout_core::Refusal::ALL.map(|each| because(each, &request, &state, &key));
        let all: std::collections::BTreeSet<&String> = words.iter().collect();
        assert_eq!(all.len(), words.len());
    }
}
