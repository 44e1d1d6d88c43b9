//! A request of a person that was heeded, or answers nothing, is taken away.

use aviary_crds::PROMOTE_ANNOTATION;
use kube::ResourceExt;
use rollout_core::state::State;
use rollout_core::{Exposed, waiting};
use serde_json::json;

use super::Effect;
use crate::rollout::events::Note;
use crate::rollout::look::Look;
use crate::rollout::request::{asked, asks, value, value_for};
use crate::rollout::write::{Kind, Verb, Write};

/// Takes a request away that was heeded by what is persisted, or answers nothing.
pub(super) fn clear(look: &Look, persisted: &State) -> Option<Effect> {
    let rollout = &look.rollout;
    let asked = asked(rollout)?;
    // What waits only if the guard doubts, or while nothing is ruled out, may yet be heeded.
    let waits = waiting(persisted, true, Exposed::default(), look.now);
    if asks(rollout, persisted) && waits.is_some() {
        return None;
    }
    let patch = json!({"metadata": {
        "annotations": {PROMOTE_ANNOTATION: null},
        "uid": rollout.uid(),
        // Another one may have come meanwhile.
        "resourceVersion": rollout.resource_version(),
    }});
    let heeded = persisted.run.as_ref().is_some_and(|run| {
        let at = run
            .answered
            .map(|weight| value(&run.canary.revision, weight));
        at.as_deref() == Some(asked)
    });
    let ignored = || {
        let now = value_for(persisted).map_or_else(
            || "no release is under way".to_owned(),
            |value| format!("the release is at {value}"),
        );
        Note::warning(
            "PromoteIgnored",
            format!(
                "the annotation {PROMOTE_ANNOTATION}={asked} answers nothing ({now}, and waits for nobody there): it was removed"
            ),
        )
    };
    Some(Effect {
        reason: "RequestNotRemoved",
        failing: format!(
            "the annotation {PROMOTE_ANNOTATION} of the CanaryRollout cannot be removed"
        ),
        write: Write {
            kind: Kind::CanaryRollout,
            key: look.key.clone(),
            verb: Verb::Patch(patch),
        },
        done: (!heeded).then(ignored),
    })
}

#[cfg(test)]
mod tests {
    use rollout_core::plan::Percent;
    use rollout_core::state::Phase;
    use rollout_core::time::Time;

    use super::*;
    use crate::key::Key;
    use crate::rollout::request::command;
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

    fn look(asked: &str) -> Look {
        let annotations = json!({"metadata": {"annotations": {PROMOTE_ANNOTATION: asked}}});
        testing::look(testing::rollout(annotations), Time(100_000))
    }

    #[test]
    fn only_the_present_revision_at_the_present_weight_is_asked() {
        let state = paused();
        for (asked, expected) in [
            ("new@10", true),
            ("new@100", false),
            ("new@0", false),
            ("new", false),
            ("old@10", false),
            ("", false),
            ("new@10%", false),
        ] {
            assert_eq!(asks(&look(asked).rollout, &state), expected, "{asked}");
        }
        let rests = testing::state(Phase::Stable);
        assert!(!asks(&look("new@10").rollout, &rests));
        assert!(!asks(&testing::rollout(json!({})), &state), "nobody asks");
    }

    #[test]
    fn the_command_asks_what_it_says() {
        let state = paused();
        let command = command(&Key::new("shop", "payment"), &state).unwrap();
        assert_eq!(
            command,
            "kubectl -n shop annotate canaryrollout payment aviary.dev/promote=new@10"
        );
    }

    #[test]
    fn a_request_stays_until_it_is_heeded_and_is_taken_away_then_without_a_word() {
        let state = paused();
        assert_eq!(clear(&look("new@10"), &state), None, "it is about to be");
        let mut heeded = state;
        heeded.phase = Phase::Scaling {
            step: 1,
            since: Time(100_000),
        };
        heeded.run.as_mut().unwrap().answered = Some(Percent::new(10).unwrap());
        let effect = clear(&look("new@10"), &heeded).unwrap();
        assert_eq!(effect.done, None);
        let Verb::Patch(patch) = effect.write.verb else {
            panic!("it is a patch");
        };
        assert_eq!(
            patch["metadata"]["annotations"],
            json!({PROMOTE_ANNOTATION: null})
        );
        assert_eq!(patch["metadata"]["resourceVersion"], "1");
    }

    #[test]
    fn a_request_that_answers_nothing_is_taken_away_and_people_are_told() {
        let mut soaks = paused();
        soaks.run.as_mut().unwrap().paused_since = None;
        soaks.run.as_mut().unwrap().passed = false;
        for (state, asked) in [
            (paused(), "old@10"),
            (soaks, "new@10"),
            (testing::state(Phase::Stable), "new@10"),
        ] {
            let effect = clear(&look(asked), &state).unwrap();
            let told = effect.done.unwrap();
            assert_eq!(told.reason, "PromoteIgnored");
            assert!(told.text.contains(asked), "{}", told.text);
        }
        let nobody = testing::look(testing::rollout(json!({})), Time(0));
        assert_eq!(clear(&nobody, &paused()), None);
    }
}
