//! All releases of a namespace, or of the cluster, as a table: pure.

use jiff::Timestamp;

use crate::text::{length, table};
use crate::view::View;

/// One line for each, and one above.
pub fn list(views: &[View], now: Timestamp, namespaces: bool) -> Vec<String> {
    let head = [
        "NAMESPACE",
        "NAME",
        "PHASE",
        "STEP",
        "WEIGHT",
        "STABLE",
        "CANARY",
        "NEXT",
    ];
    let skip = usize::from(!namespaces);
    let head = head[skip..].iter().map(ToString::to_string).collect();
    let rows = views.iter().map(|view| row(view, now).split_off(skip));
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn row(view: &View, now: Timestamp) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let running = view.canary.as_ref().filter(|it| it.runs);
    let weight = view.weight.as_ref().map(|it| {
        if it.acknowledged < it.proxies {
            format!("{}% ({}/{} proxies)", it.sent, it.acknowledged, it.proxies)
        } else {
            format!("{}%", it.sent)
        }
    });
    let next = match view.next.at {
        Some(at) if at > now => {
            format!("{}, in {}", view.next.what, length(at.duration_since(now)))
        }
        Some(_) | None => view.next.what.clone(),
    };
    vec![
        view.namespace.clone(),
        view.name.clone(),
        view.phase.clone(),
        or_none(view.step.as_ref().map(|it| it.position.clone())),
        or_none(weight),
        or_none(view.stable.clone()),
        or_none(running.map(|it| it.revision.clone())),
        next,
    ]
}
