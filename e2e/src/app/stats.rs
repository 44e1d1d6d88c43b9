//! What the caller saw: counters by version and by kind of failure, and the last minutes second by second.
//!
//! A request belongs to the second in which it was sent, not answered, so that the share of a version in a span of
//! seconds is the share that was decided in them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Seconds and failures that are kept.
const SECONDS: usize = 300;
const NOTES: usize = 20;

/// What `GET /stats` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Milliseconds since the Unix epoch, as all times here.
    pub now: i64,
    pub sent: u64,
    pub failed: Failed,
    /// Failed requests that no version answered: they were lost on the way, and are not the app's own failures.
    pub lost: u64,
    pub kinds: BTreeMap<Kind, Count>,
    pub versions: BTreeMap<String, VersionCount>,
    /// The newest failures, newest last.
    pub notes: VecDeque<Note>,
    /// The last seconds, newest last; the newest ones are not complete.
    pub seconds: VecDeque<Second>,
}

/// Failed requests by how they failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// An HTTP status other than 2xx.
    pub status: u64,
    /// A gRPC status other than 0, or none.
    pub grpc: u64,
    pub connect: u64,
    /// The connection broke, or what came was no answer.
    pub reset: u64,
    pub timeout: u64,
}

impl Failed {
    pub fn total(self) -> u64 {
        let Failed {
            status,
            grpc,
            connect,
            reset,
            timeout,
        } = self;
        status + grpc + connect + reset + timeout
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Get,
    Post,
    Grpc,
    /// A stream of gRPC of some seconds.
    Stream,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub sent: u64,
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionCount {
    pub answered: u64,
    pub failed: u64,
    /// When the first and the last request that it answered were sent.
    pub first: i64,
    pub last: i64,
    /// When its first bad answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub at: i64,
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub what: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the Unix epoch.
    pub at: i64,
    pub sent: u64,
    pub failed: u64,
    /// Answered requests by version.
    pub versions: BTreeMap<String, u64>,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub kind: Kind,
    pub sent: i64,
    pub ended: i64,
    /// Who answered, if anybody did.
    pub version: Option<String>,
    pub failure: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Status(u16),
    Grpc(String),
    Connect(String),
    Reset(String),
    Timeout,
}

impl Failure {
    /// Whether the app itself can have answered this: everything else broke on the way.
    fn is_an_answer(&self) -> bool {
        match self {
            Failure::Status(_) | Failure::Grpc(_) => true,
            Failure::Connect(_) | Failure::Reset(_) | Failure::Timeout => false,
        }
    }

    fn describe(&self) -> String {
        match self {
            Failure::Status(code) => format!("status {code}"),
            Failure::Grpc(code) => format!("grpc-status {code}"),
            Failure::Connect(why) => format!("no connection: {why}"),
            Failure::Reset(why) => format!("reset: {why}"),
            Failure::Timeout => "no answer in time".to_owned(),
        }
    }
}

impl Stats {
    pub fn note_sent(&mut self, kind: Kind, at: i64) {
        self.sent += 1;
        self.kinds.entry(kind).or_default().sent += 1;
        if let Some(second) = self.second(at) {
            second.sent += 1;
        }
    }

    pub fn note_ended(&mut self, ended: Ended) {
        let Ended {
            kind,
            sent,
            ended,
            version,
            failure,
        } = ended;
        if let Some(second) = self.second(sent) {
            second.failed += u64::from(failure.is_some());
            if let Some(version) = &version {
                *second.versions.entry(version.clone()).or_default() += 1;
            }
        }
        if let Some(version) = &version {
            let count = self.versions.entry(version.clone()).or_default();
            if count.answered == 0 {
                count.first = sent;
            }
            count.answered += 1;
            count.last = count.last.max(sent);
            if failure.is_some() {
                count.failed += 1;
                count.first_bad.get_or_insert(ended);
            }
        }
        if let Some(failure) = failure {
            self.note_failure(kind, ended, version, &failure);
        }
    }

    fn note_failure(&mut self, kind: Kind, at: i64, version: Option<String>, failure: &Failure) {
        self.kinds.entry(kind).or_default().failed += 1;
        if version.is_none() || !failure.is_an_answer() {
            self.lost += 1;
        }
        *match failure {
            Failure::Status(_) => &mut self.failed.status,
            Failure::Grpc(_) => &mut self.failed.grpc,
            Failure::Connect(_) => &mut self.failed.connect,
            Failure::Reset(_) => &mut self.failed.reset,
            Failure::Timeout => &mut self.failed.timeout,
        } += 1;
        if self.notes.len() == NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(Note {
            at,
            kind,
            version,
            what: failure.describe(),
        });
    }

    /// The second of a time; `None` when it is too old to be kept. Requests are sent in the order of time.
    fn second(&mut self, at: i64) -> Option<&mut Second> {
        let at = at.div_euclid(1000);
        if self.seconds.back().is_none_or(|newest| newest.at < at) {
            if self.seconds.len() == SECONDS {
                self.seconds.pop_front();
            }
            self.seconds.push_back(Second {
                at,
                ..Second::default()
            });
        }
        self.seconds.iter_mut().rev().find(|second| second.at == at)
    }

    /// The share of `version` among the answers to what was sent in the whole seconds of `[from, to)`, and how many
    /// answers that is of; `None` without any.
    pub fn share(&self, version: &str, from: i64, to: i64) -> Option<(f64, u64)> {
        let (from, to) = (
            from.div_euclid(1000) + i64::from(from.rem_euclid(1000) > 0),
            to.div_euclid(1000),
        );
        let within = self
            .seconds
            .iter()
            .filter(|second| (from..to).contains(&second.at));
        let (mut of_version, mut all) = (0, 0);
        for second in within {
            of_version += second.versions.get(version).copied().unwrap_or(0);
            all += second.versions.values().sum::<u64>();
        }
        (all > 0).then(|| (of_version as f64 / all as f64, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(sent: i64, version: Option<&str>, failure: Option<Failure>) -> Ended {
        Ended {
            kind: Kind::Get,
            sent,
            ended: sent + 5,
            version: version.map(str::to_owned),
            failure,
        }
    }

    #[test]
    fn a_failure_with_a_version_is_the_apps_own_and_one_without_is_lost() {
        let mut stats = Stats::default();
        stats.note_ended(ended(1000, Some("v2"), Some(Failure::Status(500))));
        stats.note_ended(ended(
            1000,
            Some("v2"),
            Some(Failure::Grpc("13".to_owned())),
        ));
        assert_eq!((stats.lost, stats.failed.total()), (0, 2));
        stats.note_ended(ended(1000, None, Some(Failure::Status(503))));
        // The headers came, the rest did not.
        stats.note_ended(ended(
            1000,
            Some("v2"),
            Some(Failure::Reset("mid-way".to_owned())),
        ));
        stats.note_ended(ended(1000, None, Some(Failure::Timeout)));
        assert_eq!((stats.lost, stats.failed.total()), (3, 5));
        assert_eq!(stats.versions["v2"].failed, 3);
    }

    #[test]
    fn the_first_bad_answer_of_a_version_is_kept() {
        let mut stats = Stats::default();
        stats.note_ended(ended(1000, Some("v2"), None));
        stats.note_ended(ended(2000, Some("v2"), Some(Failure::Status(500))));
        stats.note_ended(ended(3000, Some("v2"), Some(Failure::Status(500))));
        assert_eq!(stats.versions["v2"].first_bad, Some(2005));
        assert_eq!(
            (stats.versions["v2"].first, stats.versions["v2"].last),
            (1000, 3000)
        );
    }

    #[test]
    fn a_share_is_of_what_was_sent_in_whole_seconds() {
        let mut stats = Stats::default();
        for second in 10..14 {
            for n in 0..10 {
                stats.note_sent(Kind::Get, second * 1000 + n);
                let version = if n == 0 || second == 10 { "v2" } else { "v1" };
                stats.note_ended(ended(second * 1000 + n, Some(version), None));
            }
        }
        assert_eq!(stats.share("v2", 10_400, 14_000), Some((0.1, 30)));
        assert_eq!(stats.share("v2", 10_000, 13_999), Some((12.0 / 30.0, 30)));
        assert_eq!(stats.share("v2", 20_000, 30_000), None);
    }

    #[test]
    fn old_seconds_and_old_failures_are_forgotten_and_counters_are_not() {
        let mut stats = Stats::default();
        for second in 0..1000 {
            stats.note_sent(Kind::Post, second * 1000);
            stats.note_ended(ended(second * 1000, None, Some(Failure::Timeout)));
        }
        assert_eq!((stats.seconds.len(), stats.notes.len()), (SECONDS, NOTES));
        assert_eq!(stats.seconds.back().map(|second| second.at), Some(999));
        stats.note_ended(ended(0, Some("v1"), None));
        assert_eq!((stats.sent, stats.lost), (1000, 1000));
        assert_eq!(stats.versions["v1"].answered, 1);
    }
}
