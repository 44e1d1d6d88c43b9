//! Every history of a few requests, weighted by its chance: what a good release's capital is expected to be.

use super::*;

/// Seconds of (the canary's requests, stable's).
type Requests = &'static [(u64, u64)];

const REQUESTS: [Requests; 5] = [
    &[(1, 2), (1, 2), (1, 2)],
    &[(2, 3), (1, 1), (1, 4)],
    // A second without the canary, one without stable: batches of several.
    &[(1, 2), (0, 3), (1, 0), (1, 2)],
    &[(0, 1), (0, 1), (0, 2), (1, 1), (2, 1)],
    &[(3, 0), (0, 4), (1, 3)],
];

/// Stable's rate in each second; the canary's is higher by the margin.
const TRUTHS: [[f64; 5]; 5] = [
    [0.001; 5],
    [0.05; 5],
    [0.3; 5],
    [0.9; 5],
    // A common incident.
    [0.01, 0.9, 0.9, 0.01, 0.5],
];

fn chance(n: u64, x: u64, rate: f64) -> f64 {
    let choose = (1..=x).fold(1.0, |all, i| all * (n + 1 - i) as f64 / i as f64);
    choose * rate.powi(x as i32) * (1.0 - rate).powi((n - x) as i32)
}

/// The expected capital after the rest of the seconds, all under one weight.
fn expected(process: EProcess, margin: f64, done: usize, requests: Requests, truth: &[f64]) -> f64 {
    let Some(&(n_c, n_s)) = requests.get(done) else {
        return process.wealth().exp();
    };
    let turn = if done == 0 {
        Turn::Begins
    } else {
        Turn::GoesOn
    };
    let rate = truth[done].min(1.0 - margin);
    let mut sum = 0.0;
    for x_c in 0..=n_c {
        for x_s in 0..=n_s {
            let mut next = process;
            next.see(turn, margin, Counts::new(n_c, x_c), Counts::new(n_s, x_s));
            let chance = chance(n_c, x_c, rate + margin) * chance(n_s, x_s, rate);
            sum += chance * expected(next, margin, done + 1, requests, truth);
        }
    }
    sum
}

#[test]
fn a_good_releases_capital_is_never_expected_to_grow() {
    for known in [0, 5, 200] {
        let mut process = EProcess::new();
        for second in 0..known {
            let errors = if second % 7 == 0 { 4 } else { 0 };
            process.see(Turn::Alone, 0.0, Counts::default(), Counts::new(40, errors));
        }
        for margin in [0.005, 0.05] {
            for requests in REQUESTS {
                // A batch of several seconds needs one rate, or the same mean of both arms.
                let steady = requests.iter().any(|(n_c, n_s)| n_c * n_s == 0);
                for truth in &TRUTHS[..if steady { 4 } else { 5 }] {
                    let capital = expected(process, margin, 0, requests, truth);
                    assert!(capital <= 1.0 + 1e-7, "{capital}: {requests:?} {truth:?}");
                    assert!(capital > 0.3, "{capital}");
                }
            }
        }
    }
}
