//! Which requests to a Service are sent again, as its annotations say. One that is wrong takes all of them out: a part of them would be another policy, and
//! sending nothing again is what happens without any.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use traffic_core::retry::budget::Terms;
use traffic_core::retry::conditions::Condition;
use traffic_core::retry::methods::{Method, Methods};
use traffic_core::retry::policy::{Contradiction, Retries, Times};

use super::{REQUEST_TIMEOUT, Unread, short, text, time};

pub(crate) const ON: &str = "aviary.dev/retry-on";
pub(crate) const LIMIT: &str = "aviary.dev/retry-limit";
pub(crate) const TIMEOUT: &str = "aviary.dev/retry-timeout";
pub(crate) const METHODS: &str = "aviary.dev/retry-methods";
pub(crate) const BUDGET: &str = "aviary.dev/retry-budget";

/// `whole`: how long a whole call may take.
pub(super) fn of(service: &Service, whole: Option<Duration>) -> (Option<Retries>, Vec<Unread>) {
    let mut unread = Vec::new();
    let mut note = |annotation, why| unread.push(Unread { annotation, why });
    let Some(on) = text(service, ON) else {
        for alone in [LIMIT, TIMEOUT, METHODS, BUDGET] {
            if text(service, alone).is_some() {
                note(
                    alone,
                    format!(
                        "nothing is sent again without {ON}: write what for, like connect-failure,reset,503"
                    ),
                );
            }
        }
        return (None, unread);
    };
    let mut or = |annotation, read: Result<(), String>| {
        if let Err(why) = read {
            note(annotation, why);
        }
    };
    let mut policy = Retries {
        on: [].into_iter().collect(),
        times: Times::ONCE,
        each: None,
        methods: Methods::default(),
        budget: Terms::default(),
    };
    or(
        ON,
        list(on).map(|on: Vec<Condition>| policy.on = on.into_iter().collect()),
    );
    if let Some(text) = text(service, LIMIT) {
        or(LIMIT, limit(text).map(|times| policy.times = times));
    }
    let (each, why) = time(text(service, TIMEOUT));
    policy.each = each;
    or(TIMEOUT, why.map_or(Ok(()), Err));
    if let Some(text) = text(service, METHODS) {
        let read = list(text).map(|all: Vec<Method>| policy.methods = all.into_iter().collect());
        or(METHODS, read);
    }
    if let Some(text) = text(service, BUDGET) {
        or(BUDGET, budget(text).map(|terms| policy.budget = terms));
    }
    if unread.is_empty()
        && let Err(contradiction) = policy.check(whole)
    {
        unread.push(contradicts(contradiction));
    }
    (unread.is_empty().then_some(policy), unread)
}

/// Words between commas, at least one.
fn list<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<Vec<T>, String> {
    let words = text.split(',').map(str::trim);
    words
        .map(|word| word.parse().map_err(|error: T::Err| error.to_string()))
        .collect()
}

fn limit(text: &str) -> Result<Times, String> {
    let times = text.parse().ok().and_then(Times::new);
    times.ok_or_else(|| {
        let most = Times::MOST;
        format!(
            "'{}' is no number from 1 to {most}: write how often a request is sent again at most",
            short(text)
        )
    })
}

/// `20%`, `10/s`, or `20% + 10/s`.
fn budget(text: &str) -> Result<Terms, String> {
    let read = || {
        let (mut percent, mut floor) = (None, None);
        for part in text.split('+').map(str::trim) {
            let (slot, number) = match (part.strip_suffix('%'), part.strip_suffix("/s")) {
                (Some(number), None) => (&mut percent, number),
                (None, Some(number)) => (&mut floor, number),
                (None, None) | (Some(_), Some(_)) => return None,
            };
            if slot.replace(number.trim().parse::<u32>().ok()?).is_some() {
                return None;
            }
        }
        Terms::new(percent.unwrap_or(0), floor.unwrap_or(0))
    };
    read().ok_or_else(|| {
        let (percent, floor) = (Terms::MOST_PERCENT, Terms::MOST_A_SECOND);
        format!("'{}' is no budget: write a share of the requests, so many a second besides, or both, like 20% + 10/s, up to {percent}% and {floor}/s", short(text))
    })
}

fn contradicts(contradiction: Contradiction) -> Unread {
    let (annotation, why) = match contradiction {
        Contradiction::Nothing => (ON, "it names nothing: write what requests are sent again for, like connect-failure,reset,503".to_owned()),
        Contradiction::NoTime { each, whole } => (TIMEOUT, format!("one attempt may take {each:?}, and {REQUEST_TIMEOUT} lets the whole call take {whole:?}: write a shorter time here, or a longer one there")),
        Contradiction::TimeForNothing => (TIMEOUT, format!("an attempt that takes longer is a reset, and {ON} has none: write reset there, too")),
        Contradiction::NoCalls => (ON, format!("it names a status of gRPC, and calls of gRPC are POST, which are not sent again: write gRPC into {METHODS} if they may reach an application twice")),
    };
    Unread { annotation, why }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(annotations: Value) -> (Option<Retries>, Vec<String>) {
        let service = json!({"metadata": {"annotations": annotations}});
        let service = serde_json::from_value(service).unwrap();
        let (retries, unread) = of(&service, Some(Duration::from_secs(10)));
        let said = unread
            .into_iter()
            .map(|unread| format!("{} {}", unread.annotation, unread.why));
        (retries, said.collect())
    }

    #[test]
    fn without_a_word_nothing_is_sent_again() {
        assert_eq!(read(json!({})), (None, vec![]));
    }

    #[test]
    fn one_word_is_a_policy_and_the_others_change_it() {
        let least = Retries {
            on: [Condition::ConnectFailure, Condition::Status(503)]
                .into_iter()
                .collect(),
            times: Times::ONCE,
            each: None,
            methods: Methods::default(),
            budget: Terms::new(20, 10).unwrap(),
        };
        let on = "503, connect-failure";
        assert_eq!(read(json!({ON: on})), (Some(least), vec![]));
        let all = json!({
            ON: "reset,5xx,unavailable",
            LIMIT: "3",
            TIMEOUT: "1s500ms",
            METHODS: "GET,gRPC",
            BUDGET: "5%",
        });
        let conditions =
            ["reset", "5xx", "unavailable"].map(|word| word.parse::<Condition>().unwrap());
        let policy = Retries {
            on: conditions.into_iter().collect(),
            times: Times::new(3).unwrap(),
            each: Some(Duration::from_millis(1_500)),
            methods: [Method::Get, Method::Grpc].into_iter().collect(),
            budget: Terms::new(5, 0).unwrap(),
        };
        assert_eq!(read(all), (Some(policy), vec![]));
        for (text, percent, floor) in [("10/s", 0, 10), ("100%+1/s", 100, 1), ("3/s + 2 %", 2, 3)] {
            let (read, _) = read(json!({ON: "reset", BUDGET: text}));
            assert_eq!(
                read.unwrap().budget,
                Terms::new(percent, floor).unwrap(),
                "{text}"
            );
        }
    }

    #[test]
    fn one_that_is_wrong_takes_all_of_them_out_and_is_said_with_what_would_do() {
        for (annotations, says) in [
            (
                json!({ON: "sometimes"}),
                "aviary.dev/retry-on `sometimes` is nothing that is tried again: write connect-failure, reset,",
            ),
            (json!({ON: ""}), "aviary.dev/retry-on `` is nothing"),
            (
                json!({ON: "reset,,5xx"}),
                "aviary.dev/retry-on `` is nothing",
            ),
            (json!({ON: "404"}), "aviary.dev/retry-on `404` is nothing"),
            (
                json!({LIMIT: "2"}),
                "aviary.dev/retry-limit nothing is sent again without aviary.dev/retry-on",
            ),
            (
                json!({ON: "reset", LIMIT: "0"}),
                "aviary.dev/retry-limit '0' is no number from 1 to 5",
            ),
            (
                json!({ON: "reset", LIMIT: "6"}),
                "aviary.dev/retry-limit '6' is no number from 1 to 5",
            ),
            (
                json!({ON: "reset", TIMEOUT: "15"}),
                "aviary.dev/retry-timeout '15' is no duration",
            ),
            (
                json!({ON: "reset", TIMEOUT: "10s"}),
                "aviary.dev/retry-timeout one attempt may take 10s, and aviary.dev/request-timeout lets the whole call take 10s",
            ),
            (
                json!({ON: "5xx", TIMEOUT: "1s"}),
                "aviary.dev/retry-timeout an attempt that takes longer is a reset, and aviary.dev/retry-on has none",
            ),
            (
                json!({ON: "reset", METHODS: "POST,all"}),
                "aviary.dev/retry-methods `all` is no method: write GET,",
            ),
            (
                json!({ON: "unavailable"}),
                "aviary.dev/retry-on it names a status of gRPC, and calls of gRPC are POST",
            ),
            (
                json!({ON: "reset", BUDGET: "20"}),
                "aviary.dev/retry-budget '20' is no budget: write a share",
            ),
            (
                json!({ON: "reset", BUDGET: "101%"}),
                "aviary.dev/retry-budget '101%' is no budget",
            ),
            (
                json!({ON: "reset", BUDGET: "10% + 10%"}),
                "aviary.dev/retry-budget '10% + 10%' is no budget",
            ),
            (
                json!({ON: "reset", BUDGET: "0%"}),
                "aviary.dev/retry-budget '0%' is no budget",
            ),
        ] {
            let (retries, said) = read(annotations);
            assert_eq!(retries, None, "{says}");
            let [only] = &said[..] else {
                panic!("{said:?}")
            };
            assert!(only.starts_with(says), "{only}");
        }
    }
}
