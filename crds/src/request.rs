//! What a person asks of a release that is under way: the annotation [`REQUEST_ANNOTATION`] on its CanaryRollout.
//!
//! ```text
//! aviary.dev/request: VERB:REVISION            abort:7f9c2a41d0
//! aviary.dev/request: VERB:REVISION@WEIGHT     promote:7f9c2a41d0@50
//! ```
//!
//! A request is bound to a revision, and `promote` to the weight that the revision has, so that it is heeded once and never by
//! another release or another step. It is in nobody's manifest, so GitOps neither reverts nor repeats it; the operator removes
//! it. Who asked is [`REQUESTED_BY_ANNOTATION`]: an annotation has no identity, the admission of it has.

use std::fmt;
use std::str::FromStr;

/// Annotation on a CanaryRollout: a [`Request`]. The operator removes it, with an Event that says what came of it.
pub const REQUEST_ANNOTATION: &str = "aviary.dev/request";
/// Annotation on a CanaryRollout: the user who asked, as the API server authenticated them. Only the operator's webhook sets
/// it; without it, nobody knows who asked.
pub const REQUESTED_BY_ANNOTATION: &str = "aviary.dev/requested-by";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// What waits at this weight goes on: a pause, missing evidence, failed windows, a failing stable revision.
    Promote,
    /// Without analysis and without the remaining steps: full capacity, then 100 %, then promotion.
    PromoteNow,
    /// Weight 0 at once, and never again for this run.
    Abort,
    /// A revision that failed is tried again from its first step.
    Retry,
    /// The weight stays as it is until [`Verb::Resume`]; it may still go to 0.
    Pause,
    /// The end of a [`Verb::Pause`].
    Resume,
    /// Back to a revision that was stable before, at full capacity and without analysis.
    Undo,
    /// The pods of the stable revision are replaced, a few at a time, without a new revision.
    Restart,
}

impl Verb {
    pub const ALL: [Verb; 8] = [
        Verb::Promote,
        Verb::PromoteNow,
        Verb::Abort,
        Verb::Retry,
        Verb::Pause,
        Verb::Resume,
        Verb::Undo,
        Verb::Restart,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Verb::Promote => "promote",
            Verb::PromoteNow => "promote-now",
            Verb::Abort => "abort",
            Verb::Retry => "retry",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Undo => "undo",
            Verb::Restart => "restart",
        }
    }

    /// Whether a request names the weight that the revision has: what goes on from one step must not go on from the next.
    fn has_weight(self) -> bool {
        match self {
            Verb::Promote => true,
            Verb::PromoteNow
            | Verb::Abort
            | Verb::Retry
            | Verb::Pause
            | Verb::Resume
            | Verb::Undo
            | Verb::Restart => false,
        }
    }

    /// What a request of this verb looks like.
    fn form(self) -> String {
        let weight = if self.has_weight() { "@WEIGHT" } else { "" };
        format!("{self}:REVISION{weight}")
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Verb {
    type Err = InvalidRequest;

    fn from_str(name: &str) -> Result<Verb, InvalidRequest> {
        let named = Verb::ALL.into_iter().find(|verb| verb.name() == name);
        named.ok_or_else(|| InvalidRequest::Verb(name.to_owned()))
    }
}

/// A verb, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub verb: Verb,
    pub revision: String,
    /// Percent, 0..=100: of [`Verb::Promote`] the weight that the revision has, of every other verb `None`.
    pub weight: Option<u8>,
}

/// Why a text is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    #[error("'{0}' has no verb: write VERB:REVISION, for example abort:7f9c2a41d0")]
    NoVerb(String),
    #[error("'{0}' is no verb: write {verbs}", verbs = verbs())]
    Verb(String),
    #[error(
        "'{revision}' is no revision: write {form}, with the revision that status shows, for example 7f9c2a41d0",
        form = verb.form()
    )]
    Revision { verb: Verb, revision: String },
    #[error(
        "{verb}:{revision} has no weight: write {verb}:{revision}@WEIGHT, with the weight that the revision has, for example {verb}:{revision}@50"
    )]
    NoWeight { verb: Verb, revision: String },
    #[error(
        "'{weight}' is no weight: write {verb}:{revision}@WEIGHT, with whole percent from 0 to 100, for example {verb}:{revision}@50"
    )]
    Weight {
        verb: Verb,
        revision: String,
        weight: String,
    },
    #[error("{verb} has no weight: write {verb}:{revision}")]
    NeedlessWeight { verb: Verb, revision: String },
}

fn verbs() -> String {
    let [before @ .., last] = Verb::ALL.map(Verb::name);
    format!("{} or {last}", before.join(", "))
}

impl Request {
    /// `weight`: percent, 0..=100, for [`Verb::Promote`] alone.
    pub fn try_new(
        verb: Verb,
        revision: &str,
        weight: Option<u8>,
    ) -> Result<Request, InvalidRequest> {
        let revision = revision.to_owned();
        if !is_revision(&revision) {
            return Err(InvalidRequest::Revision { verb, revision });
        }
        match (verb.has_weight(), weight) {
            (true, None) => Err(InvalidRequest::NoWeight { verb, revision }),
            (false, Some(_)) => Err(InvalidRequest::NeedlessWeight { verb, revision }),
            (true, Some(101..)) => Err(InvalidRequest::Weight {
                verb,
                revision,
                weight: weight.unwrap_or_default().to_string(),
            }),
            (true, Some(_)) | (false, None) => Ok(Request {
                verb,
                revision,
                weight,
            }),
        }
    }
}

/// What may be the value of a label: revisions are. So nothing in it ends a request, or a command that quotes one.
fn is_revision(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len()) && text.bytes().all(plain)
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.verb, self.revision)?;
        self.weight.map_or(Ok(()), |weight| write!(f, "@{weight}"))
    }
}

impl FromStr for Request {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Request, InvalidRequest> {
        let (verb, about) = text
            .split_once(':')
            .ok_or_else(|| InvalidRequest::NoVerb(text.to_owned()))?;
        let verb: Verb = verb.parse()?;
        let Some((revision, weight)) = about.split_once('@') else {
            return Request::try_new(verb, about, None);
        };
        let digits = !weight.is_empty() && weight.bytes().all(|byte| byte.is_ascii_digit());
        match weight.parse() {
            Ok(weight) if digits => Request::try_new(verb, revision, Some(weight)),
            Ok(_) | Err(_) => Err(InvalidRequest::Weight {
                verb,
                revision: revision.to_owned(),
                weight: weight.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_written_as_it_is_read() {
        for verb in Verb::ALL {
            assert_eq!(verb.name().parse(), Ok(verb));
            let weight = (verb == Verb::Promote).then_some(50);
            let request = Request::try_new(verb, "7f9c2a41d0", weight).unwrap();
            assert_eq!(
                request.to_string().parse(),
                Ok(request.clone()),
                "{request}"
            );
        }
        assert_eq!(
            "promote:7f9c2a41d0@50".parse(),
            Ok(Request {
                verb: Verb::Promote,
                revision: "7f9c2a41d0".to_owned(),
                weight: Some(50)
            })
        );
        assert_eq!(
            "promote-now:7f9c2a41d0".parse(),
            Ok(Request {
                verb: Verb::PromoteNow,
                revision: "7f9c2a41d0".to_owned(),
                weight: None
            })
        );
    }

    #[test]
    fn a_weight_is_a_whole_percentage() {
        for weight in 0..=100 {
            let text = format!("promote:abc@{weight}");
            assert_eq!(text.parse::<Request>().unwrap().weight, Some(weight));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_would_be_one() {
        for (text, message) in [
            (
                "",
                "'' has no verb: write VERB:REVISION, for example abort:7f9c2a41d0",
            ),
            (
                "abort",
                "'abort' has no verb: write VERB:REVISION, for example abort:7f9c2a41d0",
            ),
            (
                "Abort:abc",
                "'Abort' is no verb: write promote, promote-now, abort, retry, pause, resume, undo or restart",
            ),
            (
                ":abc",
                "'' is no verb: write promote, promote-now, abort, retry, pause, resume, undo or restart",
            ),
            (
                "abort:",
                "'' is no revision: write abort:REVISION, with the revision that status shows, for example 7f9c2a41d0",
            ),
            (
                "promote:a b@50",
                "'a b' is no revision: write promote:REVISION@WEIGHT, with the revision that status shows, for example 7f9c2a41d0",
            ),
            (
                "abort:abc:def",
                "'abc:def' is no revision: write abort:REVISION, with the revision that status shows, for example 7f9c2a41d0",
            ),
            (
                "promote:abc",
                "promote:abc has no weight: write promote:abc@WEIGHT, with the weight that the revision has, for example promote:abc@50",
            ),
            (
                "promote:abc@50%",
                "'50%' is no weight: write promote:abc@WEIGHT, with whole percent from 0 to 100, for example promote:abc@50",
            ),
            (
                "promote:abc@+5",
                "'+5' is no weight: write promote:abc@WEIGHT, with whole percent from 0 to 100, for example promote:abc@50",
            ),
            (
                "promote:abc@101",
                "'101' is no weight: write promote:abc@WEIGHT, with whole percent from 0 to 100, for example promote:abc@50",
            ),
            (
                "promote:abc@300",
                "'300' is no weight: write promote:abc@WEIGHT, with whole percent from 0 to 100, for example promote:abc@50",
            ),
            ("abort:abc@50", "abort has no weight: write abort:abc"),
        ] {
            let refused = text.parse::<Request>().unwrap_err();
            assert_eq!(refused.to_string(), message, "{text}");
        }
    }

    #[test]
    fn a_revision_is_what_a_label_can_hold() {
        let of = |length| Request::try_new(Verb::Abort, &"a".repeat(length), None);
        assert!(of(63).is_ok());
        assert!(of(64).is_err());
    }
}
