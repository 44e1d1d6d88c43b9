//! A view as lines: pure. The screen shows them with their colours, a pipe gets their text.

mod style;

use jiff::Timestamp;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use crate::text::{clock, count, plural, share, since};
use crate::view::{Arm, CheckView, Compared, Failure, Step, View, Weight};
use style::{bad, faint, phase_style, verdict_style, warning};

/// Where texts begin.
const INDENT: usize = 10;
/// Texts are never narrower, however narrow the screen is.
const NARROWEST: usize = 30;

/// What stands beside one word.
struct Row {
    label: &'static str,
    text: String,
    style: Style,
}

/// All there is to see, in columns of at most `width`.
pub fn lines(view: &View, now: Timestamp, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title(view, now), Line::default()];
    let mut before = "";
    for row in rows(view, now) {
        let label = if row.label == before { "" } else { row.label };
        before = row.label;
        lines.extend(wrapped(label, &row, width));
    }
    lines
}

/// The same without colours.
pub fn plain(view: &View, now: Timestamp, width: usize) -> String {
    let lines = lines(view, now, width);
    let lines: Vec<String> = lines
        .iter()
        .map(|line| line.to_string().trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// One line that changes only when something happens, for logs.
pub fn progress(view: &View) -> String {
    let step = view.step.as_ref();
    let step = step.map_or_else(String::new, |step| format!(" step {}", step.position));
    let weight = view.weight.as_ref().map_or_else(String::new, |it| {
        let mut weight = format!(
            ": weight {}%, used by {} of {} proxies",
            it.sent, it.acknowledged, it.proxies
        );
        if it.sent != it.wanted {
            weight += &format!(", {}% wanted", it.wanted);
        }
        weight
    });
    let pods = view.canary.as_ref().filter(|it| it.runs).and_then(|it| {
        let (ready, needed) = (it.ready?, it.needed?);
        (ready < needed).then(|| format!(", {ready} of {needed} pods Ready"))
    });
    let failed = view.canary.as_ref().map_or(0, |it| it.failed_windows);
    let failed = if failed > 0 && view.weight.is_some() {
        format!(", {} failed in a row", plural(failed.into(), "window"))
    } else {
        String::new()
    };
    format!(
        "{}{step}{weight}{}{failed}",
        view.phase,
        pods.unwrap_or_default()
    )
}

fn title(view: &View, now: Timestamp) -> Line<'static> {
    let step = view.step.as_ref();
    let step = step.map_or_else(String::new, |step| format!(" {}", step.position));
    let since = view.phase_since.map_or_else(String::new, |at| {
        format!(" for {}", crate::text::since(at, now))
    });
    Line::from(vec![
        Span::styled(
            format!("{}/{}", view.namespace, view.name),
            Style::new().add_modifier(Modifier::BOLD),
        ),
        Span::raw("  "),
        Span::styled(
            format!("{}{step}", view.phase),
            phase_style(&view.phase).add_modifier(Modifier::BOLD),
        ),
        Span::styled(since, faint()),
    ])
}

fn rows(view: &View, now: Timestamp) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |label, style, text: String| rows.push(Row { label, text, style });
    let plain = Style::new();
    let failure = view.failure.as_ref();
    let is_news = is_taken_back(view);
    if let Some(failure) = failure.filter(|_| is_news) {
        row("failed", bad(), failed(failure, now));
    }
    if let Some(stable) = &view.stable {
        let everyone = if serves_everyone(view) {
            " serves everyone"
        } else {
            ""
        };
        row("stable", plain, format!("{stable}{everyone}"));
    }
    if let Some(canary) = &view.canary {
        let pods = match canary.ready.zip(canary.needed) {
            // They go.
            Some((ready, 0)) => format!(", {} left", plural(ready.into(), "pod")),
            Some((ready, needed)) => format!(", {ready} of {needed} pods Ready"),
            None => String::new(),
        };
        let began = canary.started_at.map_or_else(String::new, |at| {
            let began = since(at, now);
            if canary.runs {
                format!(", begun {began} ago")
            } else {
                format!(", released last, begun {began} ago")
            }
        });
        row("canary", plain, format!("{}{pods}{began}", canary.revision));
    }
    if let Some(newest) = view.newest.as_ref() {
        match newest.standing {
            "Unseen" => row(
                "newest",
                warning(),
                format!(
                    "{}: Deployment {} asks for it, and its release has not begun",
                    newest.revision, view.target
                ),
            ),
            "Blocked" => row(
                "newest",
                warning(),
                format!(
                    "{}: Deployment {} asks for it, and it is not released: the reason is below",
                    newest.revision, view.target
                ),
            ),
            _ => {}
        }
    }
    if let Some(step) = view.step.as_ref().filter(|step| !step.weights.is_empty()) {
        row("steps", plain, steps(step));
    }
    if let Some(weight) = &view.weight {
        let lags = weight.acknowledged < weight.proxies || weight.sent < weight.wanted;
        let style = if lags { warning() } else { plain };
        let text = format!(
            "wanted {}%, sent {}%, acknowledged by {} of {} proxies",
            weight.wanted, weight.sent, weight.acknowledged, weight.proxies
        );
        row("weight", style, text);
    }
    if let Some(paused) = &view.paused_by {
        let text = format!(
            "by {}, {} ago: nothing is raised until somebody resumes it",
            paused.user,
            since(paused.since, now)
        );
        row("paused", warning(), text);
    }
    for (text, style) in seen(view) {
        row("seen", style, text);
    }
    if let Some(guard) = &view.guard {
        // What it would see is beside the point once it has seen enough.
        let foresight = guard.foresight.as_deref().filter(|_| !is_news);
        let foresight = foresight.map_or_else(String::new, |text| format!("; {text}"));
        let text = format!(
            "{} of the evidence that it takes to roll back{foresight}",
            guard.evidence
        );
        row("guard", plain, text);
    }
    if let Some(budget) = &view.error_budget {
        let text = format!(
            "{} of {} of full outage spent; {} more of its requests could fail unseen",
            budget.spent, budget.budget, budget.undetected
        );
        row("budget", plain, text);
    }
    let name = view
        .checks
        .iter()
        .map(|it| it.check.len())
        .max()
        .unwrap_or(0);
    for check in view.checks.iter().filter(|it| !said_above(view, it)) {
        let source = check
            .source
            .map_or_else(String::new, |by| format!(", by {by}"));
        let text = format!(
            "{:name$}  {:10}  {} ({} ago at {}%{source})",
            check.check,
            check.verdict,
            check.reason,
            since(check.at, now),
            check.weight
        );
        row("checks", verdict_style(check.verdict), text);
    }
    if let Some(failure) = failure.filter(|_| !is_news) {
        // Of an earlier release, unless it is what this one waits for.
        let style = if view.phase == "Paused" {
            bad()
        } else {
            faint()
        };
        row("failed", style, failed(failure, now));
    }
    row("next", plain, next(view, now));
    if !view.message.is_empty() && !repeats_failure(view) {
        row("says", plain, view.message.clone());
    }
    for remark in &view.remarks {
        row("note", warning(), remark.clone());
    }
    for event in &view.events {
        let style = if event.warning { warning() } else { faint() };
        let times = if event.times > 1 {
            format!(" ({} times)", event.times)
        } else {
            String::new()
        };
        let at = clock(event.at, now);
        row(
            "events",
            style,
            format!("{at}  {}: {}{times}", event.reason, event.note),
        );
    }
    rows
}

fn failed(failure: &Failure, now: Timestamp) -> String {
    let at = failure
        .at
        .map_or_else(String::new, |at| format!(" at {}", clock(at, now)));
    let why = if failure.message.is_empty() {
        String::new()
    } else {
        format!(": {}", failure.message)
    };
    format!("{}{at}, {}{why}", failure.revision, failure.cause)
}

/// Every proxy gives the stable revision all requests.
fn serves_everyone(view: &View) -> bool {
    let taken_back = |it: &Weight| it.sent == 0 && it.acknowledged >= it.proxies;
    match view.phase.as_str() {
        "Stable" | "Failed" => true,
        "RollingBack" => view.weight.as_ref().is_some_and(taken_back),
        _ => false,
    }
}

fn is_taken_back(view: &View) -> bool {
    matches!(view.phase.as_str(), "Failed" | "RollingBack")
}

/// It is what the release was rolled back for.
fn said_above(view: &View, check: &CheckView) -> bool {
    let failure = view.failure.as_ref().filter(|_| is_taken_back(view));
    failure.is_some_and(|it| !check.reason.is_empty() && it.message.contains(&check.reason))
}

/// The operator's sentence about a release that has failed has the reason again, who serves, and what to do.
fn repeats_failure(view: &View) -> bool {
    let failure = view.failure.as_ref().filter(|_| view.phase == "Failed");
    failure.is_some_and(|it| !it.message.is_empty() && view.message.contains(&it.message))
}

/// `1% > [10%] > 50% > 100%`
fn steps(step: &Step) -> String {
    let weights = step.weights.iter().enumerate().map(|(at, weight)| {
        if at == step.index {
            format!("[{weight}%]")
        } else {
            format!("{weight}%")
        }
    });
    weights.collect::<Vec<String>>().join(" > ")
}

fn seen(view: &View) -> Vec<(String, Style)> {
    let Some(all) = &view.seen else {
        return Vec::new();
    };
    let (of, since) = match &view.seen_at_weight {
        Some(of) => (of, "since the present weight"),
        None => (all, "since the release began"),
    };
    let Compared { canary, stable } = of;
    let requests = canary.requests + stable.requests;
    let Some(share) = share(canary.requests, requests) else {
        return vec![("no request yet".to_owned(), warning())];
    };
    let whole = format!(
        "{share} of {} went to the canary, {since}",
        plural(requests, "request")
    );
    let arm = |name: &str, arm: &Arm| {
        let succeeded = crate::text::share(arm.requests - arm.failed, arm.requests);
        let succeeded = succeeded.map_or_else(String::new, |it| format!(", {it} succeeded"));
        let style = if arm.failed > 0 {
            warning()
        } else {
            Style::new()
        };
        (
            format!(
                "{name}: {}, {} failed{succeeded}",
                plural(arm.requests, "request"),
                count(arm.failed)
            ),
            style,
        )
    };
    vec![
        (whole, Style::new()),
        arm("canary", canary),
        arm("stable", stable),
    ]
}

fn next(view: &View, now: Timestamp) -> String {
    let next = &view.next;
    match next.at {
        Some(at) if at > now => format!(
            "{}, in {} ({})",
            next.what,
            crate::text::length(at.duration_since(now)),
            clock(at, now)
        ),
        Some(_) | None => next.what.clone(),
    }
}

/// Between words; what follows a row's first line stands under its text.
fn wrapped(label: &str, row: &Row, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(INDENT).max(NARROWEST);
    let mut texts = vec![String::new()];
    for word in row.text.split(' ') {
        let line = texts.last_mut().expect("there is one from the beginning");
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > room {
            texts.push(word.to_owned());
        } else {
            if length > 0 || !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    let first = std::iter::once(label).chain(std::iter::repeat(""));
    first
        .zip(texts)
        .map(|(label, text)| {
            Line::from(vec![
                Span::styled(format!("{label:INDENT$}"), faint()),
                Span::styled(text, row.style),
            ])
        })
        .collect()
}
