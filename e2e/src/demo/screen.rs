//! One picture of a release: what is asked for, what every proxy uses, what the caller sees. Pure.

use std::time::Duration;

use aviary_crds::CanaryRolloutStatus;
use aviary_crds::status::{Phase, VerdictRecord};

use crate::app::stats::Stats;
use crate::harness::{Happened, ShareSeen};

/// The caller's newest answers that count as "now", in milliseconds; the last second is not complete.
const NOW: i64 = 4000;
const BAR: usize = 40;
const EVENTS: usize = 6;
/// Characters before what a line says.
const LABEL: usize = 13;

/// All that a picture is made of.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pub title: String,
    pub elapsed: Duration,
    /// The version that is released, as the app calls it.
    pub canary: String,
    pub steps: Vec<i32>,
    pub status: CanaryRolloutStatus,
    pub stats: Stats,
    /// Soaks of this release that are over.
    pub shares: Vec<ShareSeen>,
    pub events: Vec<Happened>,
    /// What kubectl printed.
    pub said: Vec<String>,
}

/// Lines of at most `width` characters.
pub fn render(frame: &Frame, width: usize) -> Vec<String> {
    let mut lines = vec![
        format!("{}   {}s", frame.title, frame.elapsed.as_secs()),
        String::new(),
    ];
    lines.push(format!("  steps      {}", steps(frame)));
    let phase = phase(&frame.status);
    for (n, part) in wrap(&phase, width.saturating_sub(LABEL))
        .into_iter()
        .enumerate()
    {
        let label = if n == 0 { "phase" } else { "" };
        lines.push(format!("  {label:<10} {part}"));
    }
    lines.push(format!("  revisions  {}", revisions(frame)));
    lines.push(format!("  weight     {}", weight(&frame.status)));
    lines.push(format!("  traffic    {}", traffic(frame)));
    lines.push(format!("  requests   {}", requests(&frame.stats)));
    lines.push(format!("  answers    {}", success(&frame.stats)));
    for (n, verdict) in newest_window(&frame.status.verdicts)
        .into_iter()
        .enumerate()
    {
        let label = if n == 0 { "judgement" } else { "" };
        lines.push(format!(
            "  {label:<10} {} {}: {}",
            verdict.check,
            verdict.verdict.name(),
            verdict.reason
        ));
    }
    section(&mut lines, "kubectl said", &frame.said);
    let events: Vec<String> = frame
        .events
        .iter()
        .map(|event| format!("{}: {}", event.reason, event.note))
        .collect();
    section(
        &mut lines,
        "events",
        &events[events.len().saturating_sub(EVENTS)..],
    );
    lines.into_iter().map(|line| cut(&line, width)).collect()
}

/// `[1%] -> 10%`: the present step in brackets, steps that are over with the share that was seen.
fn steps(frame: &Frame) -> String {
    let present = frame.status.step.as_ref().map(|step| step.weight);
    let shown = frame
        .steps
        .iter()
        .enumerate()
        .map(|(n, weight)| match frame.shares.get(n) {
            _ if present == Some(*weight) => format!("[{weight}%]"),
            Some(ShareSeen {
                seen: Some((share, _)),
                ..
            }) => format!("{weight}% (seen {:.1}%)", share * 100.0),
            Some(ShareSeen { seen: None, .. }) | None => format!("{weight}%"),
        });
    shown.collect::<Vec<_>>().join(" -> ")
}

fn phase(status: &CanaryRolloutStatus) -> String {
    let name = status.phase.map_or("?", Phase::name);
    match status.message.as_deref() {
        Some(message) => format!("{name}: {message}"),
        None => name.to_owned(),
    }
}

fn revisions(frame: &Frame) -> String {
    let status = &frame.status;
    let stable = status
        .stable
        .as_ref()
        .map_or("?", |stable| &stable.revision);
    let canary = status
        .canary
        .as_ref()
        .map_or("?", |canary| &canary.revision);
    format!("canary {canary} ({}), stable {stable}", frame.canary)
}

fn weight(status: &CanaryRolloutStatus) -> String {
    match &status.weight {
        Some(w) => format!(
            "wanted {}%, sent {}%, acknowledged by {} of {} proxies",
            w.desired, w.sent, w.acknowledged, w.proxies
        ),
        None => "none yet".to_owned(),
    }
}

fn traffic(frame: &Frame) -> String {
    let now = frame.stats.now;
    match frame.stats.share(&frame.canary, now - NOW, now - 1000) {
        Some((share, answers)) => {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let filled = ((share * BAR as f64).ceil() as usize).min(BAR);
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled));
            format!(
                "[{bar}] {:.1}% of the last {answers} answers are {}'s",
                share * 100.0,
                frame.canary
            )
        }
        None => "no answers yet".to_owned(),
    }
}

fn requests(stats: &Stats) -> String {
    let failed = stats.failed.total();
    format!(
        "{} sent, {failed} failed, {} of them lost on the way",
        stats.sent, stats.lost
    )
}

fn success(stats: &Stats) -> String {
    let versions = stats.versions.iter().map(|(version, count)| {
        #[allow(clippy::cast_precision_loss)]
        let rate = (count.answered - count.failed) as f64 / count.answered.max(1) as f64;
        format!(
            "{version}: {:.2}% of {} are good",
            rate * 100.0,
            count.answered
        )
    });
    versions.collect::<Vec<_>>().join(", ")
}

/// The judgements of the last window: one for each check.
fn newest_window(verdicts: &[VerdictRecord]) -> Vec<&VerdictRecord> {
    let newest = verdicts.last().map(|verdict| verdict.at.clone());
    verdicts
        .iter()
        .filter(|verdict| Some(&verdict.at) == newest.as_ref())
        .collect()
}

fn section(lines: &mut Vec<String>, title: &str, content: &[String]) {
    if !content.is_empty() {
        lines.push(String::new());
        lines.push(format!("  {title}"));
        lines.extend(content.iter().map(|line| format!("    {line}")));
    }
}

/// Breaks a text between its words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line at all times");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A line that wraps would break the redrawing.
fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars()
        .take(width.saturating_sub(3))
        .chain("...".chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use aviary_crds::status::{CanaryStatus, StableStatus, StepStatus, Verdict, WeightStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::app::stats::{Failed, Second, VersionCount};

    fn verdict(at: i64, check: &str) -> VerdictRecord {
        VerdictRecord {
            source: None,
            at: MicroTime(Timestamp::from_millisecond(at).unwrap()),
            weight: 10,
            check: check.to_owned(),
            verdict: Verdict::Pass,
            requests: Some(300),
            reason: format!("100.00% of 300 requests ({at})"),
        }
    }

    fn frame() -> Frame {
        let status = CanaryRolloutStatus {
            phase: Some(Phase::Soaking),
            message: Some(
                "step 2/4: revision 7d9f has weight 10%: 3s more, then weight 50%".to_owned(),
            ),
            stable: Some(StableStatus {
                revision: "5c4b".to_owned(),
                ..Default::default()
            }),
            canary: Some(CanaryStatus {
                revision: "7d9f".to_owned(),
                ..Default::default()
            }),
            step: Some(StepStatus {
                index: 1,
                position: "2/4".to_owned(),
                weight: 10,
                soak_ends_at: None,
                pause_ends_at: None,
            }),
            weight: Some(WeightStatus {
                desired: 10,
                sent: 10,
                acknowledged: 4,
                proxies: 5,
            }),
            verdicts: vec![
                verdict(1, "success-rate"),
                verdict(2, "success-rate"),
                verdict(2, "latency"),
            ],
            ..Default::default()
        };
        let mut stats = Stats {
            now: 10_000,
            sent: 2000,
            lost: 1,
            ..Stats::default()
        };
        stats.failed = Failed {
            status: 3,
            ..Failed::default()
        };
        for at in 6..9 {
            let versions = [("v1".to_owned(), 180), ("v2".to_owned(), 20)].into();
            stats.seconds.push_back(Second {
                at,
                sent: 200,
                failed: 0,
                versions,
            });
        }
        stats.versions.insert(
            "v2".to_owned(),
            VersionCount {
                answered: 200,
                failed: 2,
                ..VersionCount::default()
            },
        );
        Frame {
            title: "a good release: v2".to_owned(),
            elapsed: Duration::from_secs(42),
            canary: "v2".to_owned(),
            steps: vec![1, 10, 50, 100],
            status,
            stats,
            shares: vec![ShareSeen {
                weight: 1,
                seen: Some((0.0104, 1600)),
            }],
            events: vec![Happened {
                at: 1,
                reason: "ReleaseStarted".to_owned(),
                note: "releasing revision 7d9f".to_owned(),
            }],
            said: vec!["Warning: Deployment shop/payment: paused".to_owned()],
        }
    }

    #[test]
    fn a_picture_says_how_far_the_release_is_and_what_the_caller_sees() {
        let picture = render(&frame(), 200).join("\n");
        for part in [
            "a good release: v2   42s",
            "1% (seen 1.0%) -> [10%] -> 50% -> 100%",
            "Soaking: step 2/4",
            "canary 7d9f (v2), stable 5c4b",
            "wanted 10%, sent 10%, acknowledged by 4 of 5 proxies",
            "[####....................................] 10.0% of the last 600 answers are v2's",
            "2000 sent, 3 failed, 1 of them lost on the way",
            "v2: 99.00% of 200 are good",
            "judgement  success-rate Pass: 100.00% of 300 requests (2)",
            "           latency Pass",
            "Warning: Deployment shop/payment: paused",
            "ReleaseStarted: releasing revision 7d9f",
        ] {
            assert!(picture.contains(part), "{part} is not in\n{picture}");
        }
        assert!(
            !picture.contains("(1)"),
            "an older window is shown:\n{picture}"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [20, 60, 80] {
            assert!(
                render(&frame(), width)
                    .iter()
                    .all(|line| line.chars().count() <= width)
            );
        }
    }

    #[test]
    fn a_long_sentence_is_broken_between_words_and_nothing_of_it_is_lost() {
        let picture = render(&frame(), 40).join("\n");
        assert!(
            picture.contains(
                "  phase      Soaking: step 2/4: revision\n             7d9f has weight 10%: 3s"
            ),
            "{picture}"
        );
        assert!(picture.contains("weight 50%"), "{picture}");
    }

    #[test]
    fn a_release_that_has_not_begun_can_be_shown() {
        let picture = render(&Frame::default(), 80).join("\n");
        assert!(
            picture.contains("none yet") && picture.contains("no answers yet"),
            "{picture}"
        );
    }
}
