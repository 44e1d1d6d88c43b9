//! What is put into requests to a Service on purpose, as its annotations say. One that is wrong takes all of them out.

use std::sync::Arc;
use std::time::Duration;

use aviary_crds::units;
use k8s_openapi::api::core::v1::Service;
use traffic_core::config::Weight;
use traffic_core::fault::{Abort, Delay, Faults, LONGEST_DELAY, Only};

use super::{Unread, short, text};

pub(crate) const DELAY: &str = "aviary.dev/fault-delay";
pub(crate) const ABORT: &str = "aviary.dev/fault-abort";
pub(crate) const HEADER: &str = "aviary.dev/fault-header";

pub(super) fn of(service: &Service) -> (Option<Arc<Faults>>, Vec<Unread>) {
    let mut unread = Vec::new();
    let mut note = |annotation, why: String| unread.push(Unread { annotation, why });
    let read = |annotation| text(service, annotation).map(|text| (annotation, text));
    let delay = read(DELAY).and_then(|(annotation, text)| {
        let read = delay(text);
        if read.is_none() {
            let most = LONGEST_DELAY.as_secs();
            note(annotation, format!("'{}' is no delay: write a share of the requests and how long they wait, like 10% 2s, up to {most}s", short(text)));
        }
        read
    });
    let abort = read(ABORT).and_then(|(annotation, text)| {
        let read = abort(text);
        if read.is_none() {
            note(annotation, format!("'{}' is no abort: write a share of the requests and the status that they are answered with, like 5% 503, from 400 to 599", short(text)));
        }
        read
    });
    let only = read(HEADER).and_then(|(annotation, text)| {
        let read = header(text);
        if let Err(why) = &read {
            note(annotation, why.clone());
        }
        read.ok()
    });
    if only.is_some() && text(service, DELAY).or(text(service, ABORT)).is_none() {
        note(
            HEADER,
            format!("nothing is put in without {DELAY} or {ABORT}"),
        );
    }
    let faults = Faults::new(delay, abort, only).filter(|_| unread.is_empty());
    (faults.map(Arc::new), unread)
}

fn delay(text: &str) -> Option<Delay> {
    let (share, time) = shared(text)?;
    let time: Duration = units::duration(time).ok()?;
    Delay::new(share, time)
}

fn abort(text: &str) -> Option<Abort> {
    let (share, status) = shared(text)?;
    Abort::new(share, status.parse().ok()?)
}

/// A share of the requests, and something else.
fn shared(text: &str) -> Option<(Weight, &str)> {
    let mut words = text.split_ascii_whitespace();
    let (share, rest) = (words.next()?, words.next()?);
    let share = Weight::new(units::percent(share).ok()?).ok()?;
    words.next().is_none().then_some((share, rest))
}

fn header(text: &str) -> Result<Only, String> {
    match text.split_once('=') {
        Some((name, value)) if !value.trim().is_empty() => {
            Only::header(name.trim(), value).map_err(|error| error.to_string())
        }
        Some(_) | None => Err(format!(
            "'{}' is no header: write its name and the value that requests with a fault have, like x-test=slow",
            short(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(annotations: Value) -> (Option<Arc<Faults>>, Vec<String>) {
        let service = json!({"metadata": {"annotations": annotations}});
        let (faults, unread) = of(&serde_json::from_value(service).unwrap());
        let said = unread
            .into_iter()
            .map(|unread| format!("{} {}", unread.annotation, unread.why));
        (faults, said.collect())
    }

    #[test]
    fn each_annotation_is_one_fault_and_the_header_says_of_whom() {
        assert_eq!(read(json!({})), (None, vec![]));
        let share = |units| Weight::new(units).unwrap();
        let delay = Delay::new(share(10_500), Duration::from_millis(1_500));
        let abort = Abort::new(share(100_000), 503);
        let only = Only::header("x-test", "slow");
        for (annotations, faults) in [
            (
                json!({DELAY: "10.5% 1s500ms"}),
                Faults::new(delay, None, None),
            ),
            (json!({ABORT: "100%  503"}), Faults::new(None, abort, None)),
            (
                json!({DELAY: "10.5% 1500ms", ABORT: "100% 503", HEADER: "X-Test = slow"}),
                Faults::new(delay, abort, only.ok()),
            ),
        ] {
            assert_eq!(read(annotations), (faults.map(Arc::new), vec![]));
        }
    }

    #[test]
    fn one_that_is_wrong_takes_all_of_them_out_and_is_said_with_what_would_do() {
        for (annotation, wrong, says) in [
            (DELAY, "2s", "'2s' is no delay: write a share"),
            (
                DELAY,
                "10% 61s",
                "'10% 61s' is no delay: write a share of the requests and how long they wait, like 10% 2s, up to 60s",
            ),
            (DELAY, "0% 1s", "'0% 1s' is no delay"),
            (DELAY, "10% 0s", "'10% 0s' is no delay"),
            (DELAY, "101% 1s", "'101% 1s' is no delay"),
            (DELAY, "10% 1s 1s", "'10% 1s 1s' is no delay"),
            (HEADER, "x-test", "'x-test' is no header: write its name"),
            (HEADER, "x-test=", "'x-test=' is no header"),
            (
                HEADER,
                "x test=1",
                "header: 'x test' is no name of a header",
            ),
        ] {
            let (faults, said) = read(json!({ABORT: "1% 500", annotation: wrong}));
            assert_eq!(faults, None, "{wrong}");
            let [only] = &said[..] else {
                panic!("{said:?}")
            };
            assert!(only.starts_with(&format!("{annotation} {says}")), "{only}");
        }
        for wrong in ["503", "5% 200", "5% 600", "5% many", "5 503"] {
            let (faults, said) = read(json!({ABORT: wrong}));
            assert_eq!(faults, None);
            assert!(said[0].contains("like 5% 503, from 400 to 599"), "{said:?}");
        }
        let (faults, said) = read(json!({HEADER: "x-test=slow"}));
        assert_eq!(faults, None);
        assert!(said[0].contains("nothing is put in without"), "{said:?}");
    }
}
