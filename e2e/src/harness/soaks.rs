//! What the steps of a release were, and what share of the answers each gave to the canary: pure, from what was seen.

use aviary_crds::status::Phase;

use super::record::Moment;
use crate::app::stats::Stats;

/// A span of time in which every proxy used one weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soak {
    pub revision: String,
    /// In percent.
    pub weight: i32,
    /// By the operator's clock, in milliseconds since the Unix epoch. Without an end it still goes on.
    pub from: i64,
    pub to: Option<i64>,
}

/// The canary's share of the answers in a soak.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareSeen {
    pub weight: i32,
    /// 0 to 1, and of how many answers; `None` when no whole second of the soak has answers.
    pub seen: Option<(f64, u64)>,
}

impl ShareSeen {
    /// How far the share is from the weight, in percentage points.
    pub fn deviation(&self) -> Option<f64> {
        self.seen
            .map(|(share, _)| (share * 100.0 - f64::from(self.weight)).abs())
    }
}

/// The soaks of all releases among `moments`, in order.
pub fn soaks(moments: &[Moment]) -> Vec<Soak> {
    let mut soaks: Vec<Soak> = Vec::new();
    for moment in moments {
        let status = &moment.status;
        let began = status
            .phase_since
            .as_ref()
            .map(|since| since.0.as_millisecond());
        let soaking = match (status.phase, &status.canary, &status.weight, began) {
            (Some(Phase::Soaking), Some(canary), Some(weight), Some(from)) => {
                Some((canary, weight, from))
            }
            _ => None,
        };
        let open = soaks.last_mut().filter(|soak| soak.to.is_none());
        match (open, soaking) {
            (Some(soak), Some((_, weight, from))) if soak.from == from => {
                // Pods that were lost meanwhile lower what is sent: that is no time of the full weight.
                if weight.sent != weight.desired {
                    soak.to = Some(moment.at);
                }
            }
            (open, soaking) => {
                if let Some(soak) = open {
                    soak.to = Some(began.unwrap_or(moment.at).min(moment.at));
                }
                if let Some((canary, weight, from)) =
                    soaking.filter(|(_, weight, _)| weight.sent == weight.desired)
                {
                    soaks.push(Soak {
                        revision: canary.revision.clone(),
                        weight: weight.sent,
                        from,
                        to: None,
                    });
                }
            }
        }
    }
    soaks
}

/// What the caller saw of `version` in each soak that is over.
pub fn shares(soaks: &[Soak], stats: &Stats, version: &str) -> Vec<ShareSeen> {
    let over = soaks.iter().filter_map(|soak| soak.to.map(|to| (soak, to)));
    over.map(|(soak, to)| ShareSeen {
        weight: soak.weight,
        seen: stats.share(version, soak.from, to),
    })
    .collect()
}

/// The weights that the proxies were sent, one after the other.
pub fn weights(moments: &[Moment]) -> Vec<i32> {
    let mut weights: Vec<i32> = moments
        .iter()
        .filter_map(|m| m.status.weight.as_ref())
        .map(|w| w.sent)
        .collect();
    weights.dedup();
    weights
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aviary_crds::CanaryRolloutStatus;
    use aviary_crds::status::{CanaryStatus, WeightStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::app::stats::Second;

    fn moment(at: i64, phase: Phase, since: i64, desired: i32, sent: i32) -> Moment {
        let status = CanaryRolloutStatus {
            phase: Some(phase),
            phase_since: Some(MicroTime(Timestamp::from_millisecond(since).unwrap())),
            canary: Some(CanaryStatus {
                revision: "abc".to_owned(),
                ..Default::default()
            }),
            weight: Some(WeightStatus {
                desired,
                sent,
                acknowledged: 3,
                proxies: 3,
            }),
            ..Default::default()
        };
        Moment { at, status }
    }

    fn soak(weight: i32, from: i64, to: Option<i64>) -> Soak {
        Soak {
            revision: "abc".to_owned(),
            weight,
            from,
            to,
        }
    }

    #[test]
    fn a_soak_lasts_from_its_phase_to_the_next() {
        let moments = [
            moment(90, Phase::Shifting, 80, 1, 1),
            moment(1010, Phase::Soaking, 1000, 1, 1),
            moment(4000, Phase::Soaking, 1000, 1, 1),
            moment(7010, Phase::Scaling, 7000, 1, 1),
            moment(8010, Phase::Shifting, 8000, 10, 10),
            moment(9010, Phase::Soaking, 9000, 10, 10),
        ];
        assert_eq!(
            soaks(&moments),
            [soak(1, 1000, Some(7000)), soak(10, 9000, None)]
        );
        assert_eq!(weights(&moments), [1, 10]);
    }

    #[test]
    fn time_without_the_full_weight_belongs_to_no_soak() {
        let moments = [
            moment(1010, Phase::Soaking, 1000, 50, 50),
            moment(3000, Phase::Soaking, 1000, 50, 25),
            moment(5000, Phase::Soaking, 1000, 50, 50),
            moment(9010, Phase::Promoting, 9000, 100, 100),
        ];
        assert_eq!(soaks(&moments)[0], soak(50, 1000, Some(3000)));
        let late = [moment(1010, Phase::Soaking, 1000, 50, 0)];
        assert_eq!(soaks(&late), []);
    }

    #[test]
    fn a_share_is_compared_with_its_weight() {
        let mut stats = Stats::default();
        for at in 0..20 {
            let versions = BTreeMap::from([("v1".to_owned(), 88), ("v2".to_owned(), 12)]);
            stats.seconds.push_back(Second {
                at,
                sent: 100,
                failed: 0,
                versions,
            });
        }
        let seen = shares(
            &[soak(10, 1500, Some(7000)), soak(50, 8000, None)],
            &stats,
            "v2",
        );
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].seen, Some((0.12, 500)));
        assert!((seen[0].deviation().unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(
            shares(&[soak(10, 30_000, Some(40_000))], &stats, "v2")[0].deviation(),
            None
        );
    }
}
