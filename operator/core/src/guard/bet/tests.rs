use super::*;

/// The chance of each number of errors among requests with these rates.
fn chances(rates: &[f64]) -> Vec<f64> {
    let mut chances = vec![1.0];
    for rate in rates {
        let mut next = vec![0.0; chances.len() + 1];
        for (errors, chance) in chances.iter().enumerate() {
            next[errors] += chance * (1.0 - rate);
            next[errors + 1] += chance * rate;
        }
        chances = next;
    }
    chances
}

/// What a bet is expected to earn when requests have these rates: every outcome, weighted by its chance.
fn expected(baseline: f64, margin: f64, effect: f64, canary: &[f64], stable: &[f64]) -> f64 {
    let (c, s) = (chances(canary), chances(stable));
    let mut sum = 0.0;
    for (x_c, chance_c) in c.iter().enumerate() {
        for (x_s, chance_s) in s.iter().enumerate() {
            let canary = Counts::new(canary.len() as u64, x_c as u64);
            let stable = Counts::new(stable.len() as u64, x_s as u64);
            let earned = log_factor(baseline, margin, effect, canary, stable).exp();
            sum += chance_c * chance_s * earned;
        }
    }
    sum
}

const MARGINS: [f64; 6] = [0.0, 0.001, 0.005, 0.01, 0.05, 0.5];
const BASELINES: [f64; 6] = [1e-5, 0.001, 0.01, 0.1, 0.4, 0.9];
const REQUESTS: [(usize, usize); 9] = [
    (1, 1),
    (1, 3),
    (3, 1),
    (2, 9),
    (4, 4),
    (9, 2),
    (5, 12),
    (1, 40),
    (11, 30),
];

/// Stable's true rates: where a margin has to be kept.
fn truths(margin: f64) -> impl Iterator<Item = f64> {
    [0.0, 0.0005, 0.003, 0.02, 0.1, 0.3, 0.5, 0.8, 1.0]
        .into_iter()
        .map(move |share| share * (1.0 - margin))
}

#[test]
fn no_bet_is_expected_to_earn_while_the_canary_keeps_the_margin() {
    let mut most = 0.0_f64;
    for margin in MARGINS {
        for baseline in BASELINES {
            for effect in EFFECTS {
                for (n_c, n_s) in REQUESTS {
                    for truth in truths(margin) {
                        for kept in [1.0, 0.9, 0.0] {
                            let canary = vec![truth + margin * kept; n_c];
                            let stable = vec![truth; n_s];
                            let earned = expected(baseline, margin, effect, &canary, &stable);
                            assert!(
                                earned <= 1.0 + 1e-9,
                                "{earned}: baseline {baseline}, margin {margin}, effect {effect}, {n_c}/{n_s} at {truth}"
                            );
                            most = most.max(earned);
                        }
                    }
                }
            }
        }
    }
    assert!(most > 0.999_999, "the bound is reached: {most}");
}

/// A common incident within a batch: both arms' requests have rates of all kinds, and only their means keep the margin.
#[test]
fn rates_may_differ_from_request_to_request() {
    for margin in [0.0, 0.005, 0.05] {
        for baseline in BASELINES {
            for effect in EFFECTS {
                let canary = [0.9 + margin, 0.3 + margin, margin];
                let stable = [1.0, 0.2, 0.0];
                let earned = expected(baseline, margin, effect, &canary, &stable);
                assert!(
                    earned <= 1.0 + 1e-9,
                    "{earned}: {baseline} {margin} {effect}"
                );
            }
        }
    }
}

/// It is a test: a canary that is worse is expected to lose.
#[test]
fn a_bet_on_a_canary_that_is_worse_earns() {
    for (effect, baseline) in [(0.08_f64, 0.001), (0.4, 0.01), (0.95, 0.001)] {
        let canary = vec![baseline + 0.005 + effect.min(0.9); 6];
        let stable = vec![baseline; 12];
        assert!(expected(baseline, 0.005, effect, &canary, &stable) > 1.2);
    }
    let log = |errors| {
        log_factor(
            0.001,
            0.005,
            0.95,
            Counts::new(50, errors),
            Counts::new(450, 0),
        )
    };
    assert!(log(50) > 100.0 && log(0) < -100.0);
}

#[test]
fn extreme_counts_give_a_finite_factor() {
    let all = [1, 2, 1000, 1_000_000, 60_000_000];
    for margin in MARGINS {
        for baseline in BASELINES {
            for effect in EFFECTS {
                for n_c in all {
                    for n_s in all {
                        for (x_c, x_s) in [(0, 0), (n_c, 0), (0, n_s), (n_c, n_s), (1, 1)] {
                            let log = log_factor(
                                baseline,
                                margin,
                                effect,
                                Counts::new(n_c, x_c),
                                Counts::new(n_s, x_s),
                            );
                            assert!(log.is_finite(), "{margin} {baseline} {effect} {n_c} {n_s}");
                        }
                    }
                }
            }
        }
    }
}
