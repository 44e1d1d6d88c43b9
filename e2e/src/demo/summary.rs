//! What the demo has shown, in numbers: pure, from what was seen.

use std::fmt::Write;
use std::time::Duration;

use crate::app::stats::Stats;
use crate::harness::ShareSeen;

/// The demo's caller, requests a second.
const RATE: f64 = 200.0;
/// Five windows of a minute that fail, judged when each is over, and a sixth until the traffic is back; at its first step.
const FLAGGER: &str = "99% over windows of a minute, five failures, first step 10%";
const FLAGGER_SECONDS: f64 = 360.0;
const FLAGGER_WEIGHT: f64 = 0.1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Promoted,
    RolledBack,
}

impl Ending {
    fn words(self) -> &'static str {
        match self {
            Ending::Promoted => "promoted",
            Ending::RolledBack => "rolled back",
        }
    }
}

/// One release and how it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    pub version: String,
    pub what: String,
    pub expected: Ending,
    /// `None`: it did not come to an end.
    pub ended: Option<Ending>,
    pub shares: Vec<ShareSeen>,
    pub took: Duration,
    /// What was seen when its weight went to 0.
    pub why: Option<String>,
    /// Of its requests, how many fail, in percent.
    pub errors: f64,
    /// When every proxy had acknowledged weight 0, in milliseconds since the Unix epoch.
    pub zero: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub releases: Vec<Release>,
    pub stats: Stats,
    pub took: Duration,
}

impl Summary {
    /// Whether both releases ended as they should.
    pub fn is_as_expected(&self) -> bool {
        !self.releases.is_empty()
            && self
                .releases
                .iter()
                .all(|release| release.ended == Some(release.expected))
    }

    pub fn render(&self) -> String {
        let mut text = String::from("Summary\n");
        for release in &self.releases {
            release.describe(&self.stats, &mut text);
        }
        let Stats {
            sent, failed, lost, ..
        } = &self.stats;
        let own = failed.total().saturating_sub(*lost);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  requests: {sent} sent; {own} were failed by the app itself, {lost} were lost by the mesh",
        );
        let _ = writeln!(text, "  wall time: {:.0}s", self.took.as_secs_f64());
        text
    }
}

impl Release {
    fn describe(&self, stats: &Stats, text: &mut String) {
        let ended = self.ended.map_or("did not come to an end", Ending::words);
        let verdict = if self.ended == Some(self.expected) {
            "as it should be"
        } else {
            "NOT AS IT SHOULD BE"
        };
        let took = self.took.as_secs_f64();
        let _ = writeln!(
            text,
            "  {} ({}): {ended}, {verdict}, after {took:.0}s",
            self.version, self.what
        );
        for share in &self.shares {
            let _ = match share.seen {
                Some((seen, answers)) => {
                    writeln!(
                        text,
                        "    weight {:>3}%: {:.2}% of {answers} answers",
                        share.weight,
                        seen * 100.0
                    )
                }
                None => writeln!(
                    text,
                    "    weight {:>3}%: not long enough to measure",
                    share.weight
                ),
            };
        }
        let Some(count) = stats.versions.get(&self.version) else {
            return;
        };
        if let (Some(bad), Some(zero)) = (count.first_bad, self.zero) {
            let _ = writeln!(
                text,
                "    from its first bad answer to weight 0 on every proxy: {:.1}s; it got its last request {:.1}s after the first bad answer, and failed {} of {}",
                seconds(zero - bad),
                seconds(count.last - bad),
                count.failed,
                count.answered,
            );
            if let Some(why) = &self.why {
                let _ = writeln!(text, "    seen: {why}");
            }
            let _ = writeln!(
                text,
                "    Flagger with the settings of its documentation ({FLAGGER}) would have taken {FLAGGER_SECONDS:.0}s and about {:.0} failed requests: by arithmetic, it does not run here",
                FLAGGER_SECONDS * RATE * FLAGGER_WEIGHT * self.errors / 100.0
            );
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds.max(0) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::stats::{Failed, VersionCount};

    fn summary() -> Summary {
        let mut stats = Stats {
            sent: 20_000,
            lost: 2,
            ..Stats::default()
        };
        stats.failed = Failed {
            status: 40,
            grpc: 7,
            ..Failed::default()
        };
        let v3 = VersionCount {
            answered: 900,
            failed: 45,
            first: 100_000,
            last: 108_500,
            first_bad: Some(100_500),
        };
        stats.versions.insert("v3".to_owned(), v3);
        stats.versions.insert(
            "v2".to_owned(),
            VersionCount {
                answered: 9000,
                ..VersionCount::default()
            },
        );
        let release = |version: &str, what: &str, ending| Release {
            version: version.to_owned(),
            what: what.to_owned(),
            expected: ending,
            ended: Some(ending),
            shares: vec![ShareSeen {
                weight: 10,
                seen: Some((0.1004, 1600)),
            }],
            took: Duration::from_secs(60),
            why: None,
            errors: 0.0,
            zero: None,
        };
        let good = release("v2", "a good one", Ending::Promoted);
        let bad = Release {
            zero: Some(109_750),
            why: Some("guard: 9 of 60".to_owned()),
            errors: 5.0,
            ..release("v3", "5% errors", Ending::RolledBack)
        };
        Summary {
            releases: vec![good, bad],
            stats,
            took: Duration::from_secs(150),
        }
    }

    #[test]
    fn the_summary_counts_requests_shares_and_the_time_to_zero() {
        let text = summary().render();
        for part in [
            "v2 (a good one): promoted, as it should be, after 60s",
            "v3 (5% errors): rolled back, as it should be, after 60s",
            "weight  10%: 10.04% of 1600 answers",
            "from its first bad answer to weight 0 on every proxy: 9.2s; it got its last request 8.0s after the first bad answer, and failed 45 of 900",
            "    seen: guard: 9 of 60\n",
            "five failures, first step 10%) would have taken 360s and about 360 failed requests: by arithmetic",
            "20000 sent; 45 were failed by the app itself, 2 were lost by the mesh",
            "wall time: 150s",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_demo_is_as_expected_only_when_every_release_ended_as_it_should() {
        assert!(summary().is_as_expected());
        let mut wrong = summary();
        wrong.releases[1].ended = Some(Ending::Promoted);
        assert!(!wrong.is_as_expected());
        assert!(wrong.render().contains("promoted, NOT AS IT SHOULD BE"));
        wrong.releases[1].ended = None;
        assert!(!wrong.is_as_expected());
        wrong.releases.clear();
        assert!(!wrong.is_as_expected());
    }
}
