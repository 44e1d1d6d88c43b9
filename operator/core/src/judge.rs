//! Three-valued judgement of a window: Pass, Fail, or NoEvidence.
//!
//! A share (successes, or requests that were fast enough) fails only when the requests are enough to be sure:
//! when the upper end of the one-sided 95 % Wilson score interval (E. B. Wilson, JASA 22, 1927) is below the
//! bound. A share below the bound that could still be chance is NoEvidence, and NoEvidence is never a failure.

/// The standard normal quantile of 0.95.
const Z: f64 = 1.644_853_626_951_472_7;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    Pass,
    Fail,
    NoEvidence,
}

/// What has to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At least this share (0..=1) is good.
    ShareAtLeast(f64),
    /// The number is in this range.
    Between {
        at_least: Option<f64>,
        at_most: Option<f64>,
    },
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// `good` of `total` requests.
    Share {
        good: f64,
        total: f64,
    },
    Number(f64),
    /// Nothing, and why.
    Absent(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reason: String,
}

pub fn judge(bound: Bound, measured: &Measured) -> Judgement {
    match (bound, measured) {
        (_, Measured::Absent(why)) => no_evidence(why.clone()),
        (Bound::ShareAtLeast(bound), Measured::Share { good, total }) => {
            share(bound, *good, *total)
        }
        (Bound::Between { at_least, at_most }, Measured::Number(value)) => {
            number(at_least, at_most, *value)
        }
        (Bound::ShareAtLeast(_), Measured::Number(_))
        | (Bound::Between { .. }, Measured::Share { .. }) => {
            no_evidence("the measurement is of another kind than the bound".to_owned())
        }
    }
}

/// The canary's judgement beside that of the stable revision in the same window. What stable suffers too is not the canary's
/// fault, unless the canary suffers more of it for sure.
pub fn beside(bound: Bound, canary: &Measured, stable: &Measured) -> Judgement {
    let (own, other) = (judge(bound, canary), judge(bound, stable));
    if own.verdict != Verdict::Fail
        || other.verdict != Verdict::Fail
        || worse(bound, canary, stable)
    {
        return own;
    }
    no_evidence(format!(
        "{}; stable fails it too: {}",
        own.reason, other.reason
    ))
}

/// Whether the canary is worse than stable, for sure: the one-sided 95 % intervals of their shares do not meet, or its number
/// is farther out of the bounds.
fn worse(bound: Bound, canary: &Measured, stable: &Measured) -> bool {
    match (bound, canary, stable) {
        (
            Bound::ShareAtLeast(_),
            Measured::Share { good, total },
            Measured::Share {
                good: stable_good,
                total: stable_total,
            },
        ) => {
            let share = |good: f64, total: f64| (good / total).clamp(0.0, 1.0);
            let most = wilson_upper(share(*good, *total), *total);
            // The lower end of a share is the upper end of what is missing from it.
            let missing = 1.0 - share(*stable_good, *stable_total);
            let least = 1.0 - wilson_upper(missing, *stable_total);
            most < least
        }
        (
            Bound::Between { at_least, at_most },
            Measured::Number(canary),
            Measured::Number(stable),
        ) => {
            let outside = |value: f64| {
                let over = at_most.map_or(0.0, |bound| value - bound);
                let under = at_least.map_or(0.0, |bound| bound - value);
                over.max(under)
            };
            outside(*canary) > outside(*stable)
        }
        // Who cannot be compared has no excuse.
        (Bound::ShareAtLeast(_) | Bound::Between { .. }, _, _) => true,
    }
}

/// All checks of a window together: one Fail fails it, and it passes only when all pass.
pub fn combine(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut all = None;
    for verdict in verdicts {
        all = Some(match (all, verdict) {
            (Some(Verdict::Fail), _) | (_, Verdict::Fail) => Verdict::Fail,
            (Some(Verdict::NoEvidence), _) | (_, Verdict::NoEvidence) => Verdict::NoEvidence,
            (None | Some(Verdict::Pass), Verdict::Pass) => Verdict::Pass,
        });
    }
    all.unwrap_or(Verdict::NoEvidence)
}

/// The upper end of the one-sided 95 % Wilson score interval of a share.
pub fn wilson_upper(share: f64, total: f64) -> f64 {
    let z2 = Z * Z;
    let centre = share + z2 / (2.0 * total);
    let spread = Z * (share * (1.0 - share) / total + z2 / (4.0 * total * total)).sqrt();
    ((centre + spread) / (1.0 + z2 / total)).min(1.0)
}

fn share(bound: f64, good: f64, total: f64) -> Judgement {
    if !good.is_finite() || !total.is_finite() || good < 0.0 {
        return no_evidence("the counts are not numbers".to_owned());
    }
    if total < 0.5 {
        return no_evidence("no request reached the canary in this window".to_owned());
    }
    // Prometheus extrapolates, so a count can exceed the total by a fraction.
    let share = (good / total).clamp(0.0, 1.0);
    let shown = format!("{:.2}% of {total:.0} requests", share * 100.0);
    let bound_shown = format!("{}%", trim(bound * 100.0));
    if share >= bound {
        return Judgement {
            verdict: Verdict::Pass,
            reason: format!("{shown}, at least {bound_shown} asked for"),
        };
    }
    if wilson_upper(share, total) < bound {
        return Judgement {
            verdict: Verdict::Fail,
            reason: format!("{shown}, at least {bound_shown} asked for"),
        };
    }
    no_evidence(format!(
        "{shown} is below {bound_shown}, but too few to be sure"
    ))
}

fn number(at_least: Option<f64>, at_most: Option<f64>, value: f64) -> Judgement {
    if !value.is_finite() {
        return no_evidence(format!("the query gave {value}, which is no number"));
    }
    let low = at_least.is_some_and(|bound| value < bound);
    let high = at_most.is_some_and(|bound| value > bound);
    let asked = match (at_least, at_most) {
        (Some(low), Some(high)) => format!("between {} and {}", trim(low), trim(high)),
        (Some(low), None) => format!("at least {}", trim(low)),
        (None, Some(high)) => format!("at most {}", trim(high)),
        (None, None) => return no_evidence("the check has no bound".to_owned()),
    };
    let verdict = if low || high {
        Verdict::Fail
    } else {
        Verdict::Pass
    };
    Judgement {
        verdict,
        reason: format!("{}, {asked} asked for", trim(value)),
    }
}

fn no_evidence(reason: String) -> Judgement {
    Judgement {
        verdict: Verdict::NoEvidence,
        reason,
    }
}

/// A number as people write it: three decimals, or three digits where it is less than one; no trailing zeros.
fn trim(value: f64) -> String {
    // As many zeros follow the point as the logarithm says.
    let zeros = -value.abs().log10().floor() - 1.0;
    let decimals = if value != 0.0 && zeros > 0.0 {
        3.0 + zeros
    } else {
        3.0
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most twelve
    let text = format!("{value:.*}", decimals.min(12.0) as usize);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share_verdict(bound: f64, good: f64, total: f64) -> Verdict {
        judge(Bound::ShareAtLeast(bound), &Measured::Share { good, total }).verdict
    }

    #[test]
    fn a_share_fails_only_when_the_requests_are_enough_to_be_sure() {
        assert_eq!(share_verdict(0.99, 100.0, 100.0), Verdict::Pass);
        assert_eq!(share_verdict(0.99, 99.0, 100.0), Verdict::Pass);
        assert_eq!(share_verdict(0.99, 98.0, 100.0), Verdict::NoEvidence);
        assert_eq!(share_verdict(0.99, 95.0, 100.0), Verdict::Fail);
        assert_eq!(
            share_verdict(0.99, 0.0, 1.0),
            Verdict::Fail,
            "a refused first request is a sure sign at 99%"
        );
        assert_eq!(
            share_verdict(0.50, 0.0, 1.0),
            Verdict::NoEvidence,
            "one request cannot refute 50%"
        );
    }

    #[test]
    fn a_bound_that_the_interval_just_reaches_is_not_refuted() {
        let just = wilson_upper(0.9, 100.0);
        assert_eq!(share_verdict(just, 90.0, 100.0), Verdict::NoEvidence);
        assert_eq!(share_verdict(just + 1e-9, 90.0, 100.0), Verdict::Fail);
    }

    #[test]
    fn a_number_is_shown_so_that_it_can_be_told_from_its_bound() {
        for (value, shown) in [
            (0.0, "0"),
            (-0.0, "0"),
            (7.0, "7"),
            (1.5, "1.5"),
            (99.999, "99.999"),
            (0.05, "0.05"),
            (0.0512, "0.0512"),
            (-0.000_5, "-0.0005"),
            (0.000_000_001, "0.000000001"),
            (1e-300, "0"),
            (1e15, "1000000000000000"),
        ] {
            assert_eq!(trim(value), shown);
        }
        let bound = Bound::Between {
            at_least: None,
            at_most: Some(0.000_5),
        };
        let judgement = judge(bound, &Measured::Number(0.000_6));
        assert_eq!(judgement.verdict, Verdict::Fail);
        assert_eq!(judgement.reason, "0.0006, at most 0.0005 asked for");
    }

    /// Over every count of up to 60 requests: more successes never make the verdict worse.
    #[test]
    fn more_successes_never_make_a_share_worse() {
        let rank = |v: Verdict| match v {
            Verdict::Fail => 0,
            Verdict::NoEvidence => 1,
            Verdict::Pass => 2,
        };
        for total in 1..=60_u32 {
            let verdicts: Vec<i32> = (0..=total)
                .map(|good| rank(share_verdict(0.9, f64::from(good), f64::from(total))))
                .collect();
            assert!(verdicts.is_sorted(), "{total}: {verdicts:?}");
        }
    }

    #[test]
    fn the_wilson_bound_agrees_with_published_values() {
        // Agresti and Coull's example: 95 % one-sided for 0 of 10 successes is z^2 / (10 + z^2).
        let z2 = Z * Z;
        assert!((wilson_upper(0.0, 10.0) - z2 / (10.0 + z2)).abs() < 1e-12);
        assert!((wilson_upper(0.5, 100.0) - 0.580_7).abs() < 1e-3);
        assert_eq!(wilson_upper(1.0, 5.0), 1.0);
    }

    #[test]
    fn nothing_measured_is_no_evidence_and_keeps_its_reason() {
        let got = judge(
            Bound::ShareAtLeast(0.99),
            &Measured::Absent("Prometheus is away".to_owned()),
        );
        assert_eq!(
            got,
            Judgement {
                verdict: Verdict::NoEvidence,
                reason: "Prometheus is away".to_owned()
            }
        );
        let share =
            |good, total| judge(Bound::ShareAtLeast(0.99), &Measured::Share { good, total });
        for (good, total) in [
            (f64::NAN, 10.0),
            (10.0, f64::NAN),
            (f64::INFINITY, f64::INFINITY),
            (-1.0, 10.0),
        ] {
            let got = share(good, total);
            assert_eq!(got.verdict, Verdict::NoEvidence);
            assert_eq!(got.reason, "the counts are not numbers");
        }
        for (good, total) in [(0.0, 0.0), (0.4, 0.4), (0.0, 0.49)] {
            let got = share(good, total);
            assert_eq!(got.verdict, Verdict::NoEvidence);
            assert_eq!(got.reason, "no request reached the canary in this window");
        }
        assert_eq!(share(0.5, 0.5).verdict, Verdict::Pass);
    }

    #[test]
    fn numbers_are_held_against_both_bounds_and_nan_is_no_evidence() {
        let bound = Bound::Between {
            at_least: Some(1.0),
            at_most: Some(2.0),
        };
        let verdict = |value| judge(bound, &Measured::Number(value)).verdict;
        assert_eq!(verdict(1.0), Verdict::Pass);
        assert_eq!(verdict(2.0), Verdict::Pass);
        assert_eq!(verdict(0.99), Verdict::Fail);
        assert_eq!(verdict(2.01), Verdict::Fail);
        assert_eq!(verdict(f64::NAN), Verdict::NoEvidence);
        assert_eq!(verdict(f64::INFINITY), Verdict::NoEvidence);
        let got = judge(
            Bound::Between {
                at_least: None,
                at_most: Some(100.0),
            },
            &Measured::Number(140.0),
        );
        assert_eq!(got.reason, "140, at most 100 asked for");
    }

    fn shares(canary: (f64, f64), stable: (f64, f64)) -> Verdict {
        let measured = |(good, total)| Measured::Share { good, total };
        beside(
            Bound::ShareAtLeast(0.99),
            &measured(canary),
            &measured(stable),
        )
        .verdict
    }

    #[test]
    fn a_canary_is_not_to_blame_for_what_stable_suffers_too() {
        let bad = (900.0, 1000.0);
        assert_eq!(shares(bad, (9000.0, 10_000.0)), Verdict::NoEvidence);
        assert_eq!(
            shares(bad, (8000.0, 10_000.0)),
            Verdict::NoEvidence,
            "better"
        );
        assert_eq!(
            shares(bad, (9990.0, 10_000.0)),
            Verdict::Fail,
            "stable is fine"
        );
        assert_eq!(shares(bad, (0.0, 0.0)), Verdict::Fail, "nobody knows");
        let good = (1000.0, 1000.0);
        assert_eq!(shares(good, (9000.0, 10_000.0)), Verdict::Pass, "a fix");
        let reason = beside(
            Bound::ShareAtLeast(0.99),
            &Measured::Share {
                good: 90.0,
                total: 100.0,
            },
            &Measured::Share {
                good: 900.0,
                total: 1000.0,
            },
        )
        .reason;
        assert_eq!(
            reason,
            "90.00% of 100 requests, at least 99% asked for; stable fails it too: 90.00% of 1000 requests, at least 99% asked for"
        );
    }

    /// A stable that always misses the bound by a little is no licence.
    #[test]
    fn a_canary_that_is_worse_than_a_failing_stable_for_sure_fails() {
        let stable = (9800.0, 10_000.0);
        assert_eq!(shares((0.0, 10.0), stable), Verdict::Fail);
        assert_eq!(shares((500.0, 1000.0), stable), Verdict::Fail);
        assert_eq!(shares((960.0, 1000.0), stable), Verdict::Fail);
        assert_eq!(
            shares((975.0, 1000.0), stable),
            Verdict::NoEvidence,
            "within chance"
        );
        // More failures never make it better.
        for total in [20_u32, 100, 1000] {
            let verdicts: Vec<bool> = (0..=total)
                .map(|good| shares((f64::from(good), f64::from(total)), stable) != Verdict::Fail)
                .collect();
            assert!(verdicts.is_sorted(), "{total}");
        }
    }

    #[test]
    fn numbers_beside_stable_are_compared_by_how_far_they_are_out() {
        let verdict = |at_least, at_most, canary, stable| {
            let bound = Bound::Between { at_least, at_most };
            beside(bound, &Measured::Number(canary), &Measured::Number(stable)).verdict
        };
        assert_eq!(
            verdict(None, Some(100.0), 140.0, 150.0),
            Verdict::NoEvidence
        );
        assert_eq!(
            verdict(None, Some(100.0), 140.0, 140.0),
            Verdict::NoEvidence
        );
        assert_eq!(verdict(None, Some(100.0), 141.0, 140.0), Verdict::Fail);
        assert_eq!(verdict(None, Some(100.0), 140.0, 99.0), Verdict::Fail);
        assert_eq!(verdict(Some(10.0), None, 5.0, 4.0), Verdict::NoEvidence);
        assert_eq!(verdict(Some(10.0), None, 3.0, 4.0), Verdict::Fail);
        assert_eq!(
            verdict(Some(10.0), Some(20.0), 3.0, 30.0),
            Verdict::NoEvidence
        );
        assert_eq!(verdict(Some(10.0), Some(20.0), 3.0, 21.0), Verdict::Fail);
        assert_eq!(verdict(None, Some(100.0), 90.0, 150.0), Verdict::Pass);
        assert_eq!(verdict(Some(-10.0), None, -20.0, -15.0), Verdict::Fail);
    }

    #[test]
    fn one_failed_check_fails_the_window_and_only_all_passes_pass_it() {
        use Verdict::{Fail, NoEvidence, Pass};
        assert_eq!(combine([Pass, Pass]), Pass);
        assert_eq!(combine([Pass, NoEvidence]), NoEvidence);
        assert_eq!(combine([NoEvidence, Fail, Pass]), Fail);
        assert_eq!(combine([]), NoEvidence);
    }
}
