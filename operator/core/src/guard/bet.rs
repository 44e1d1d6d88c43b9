//! One bet on one effect: what it earns is expected to be at most 1 while the canary's rate is at most stable's plus the
//! margin, whatever both rates are.
//!
//! The factor is the likelihood ratio of Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests
//! that allow for optional stopping" (JSPI 2024, arXiv 2106.02693), written as a bet: `A` on the canary's errors, `B = A n_c / n_s`
//! against stable's, around a point `(pi, pi + margin)`. By the inequality of arithmetic and geometric means the
//! expectation is at most `(1 + w (theta_c - theta_s - margin))^n` with the mean rates of the batch, so at most 1 for any
//! `pi` and any stakes that leave every factor positive.

use super::second::Counts;

/// By how much more than the margin the canary's rate may have grown.
pub(super) const EFFECTS: [f64; 8] = [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.40, 0.95];

/// A bet never stakes all of its capital.
const ALMOST_ALL: f64 = 0.999;
/// The highest rate that is bet on, unless half of what is left of 1 is more.
const HIGHEST: f64 = 0.98;

/// The natural logarithm of what a bet on `baseline + margin + effect` earns. Both arms have at least one request, `baseline`
/// and `margin` are below 1; 0 where the margin leaves nothing to bet on. Always finite.
pub(super) fn log_factor(
    baseline: f64,
    margin: f64,
    effect: f64,
    canary: Counts,
    stable: Counts,
) -> f64 {
    let ((n_c, x_c), (n_s, x_s)) = (canary.numbers(), stable.numbers());
    let worst = baseline + margin;
    if worst >= 1.0 - 1e-6 || n_c < 1.0 || n_s < 1.0 {
        return 0.0;
    }
    let wanted = (worst + effect).min(HIGHEST.max(worst + (1.0 - worst) / 2.0));
    let ratio = n_c / n_s;
    let pi = project(baseline, wanted, margin, ratio);
    let pi_c = pi + margin;
    let a = ((wanted - pi_c) / (pi_c * (1.0 - pi_c)))
        .max(0.0)
        .min(ALMOST_ALL / pi_c)
        .min(ALMOST_ALL / (1.0 - pi) / ratio);
    let b = a * ratio;
    x_c * (a * (1.0 - pi_c)).ln_1p()
        + (n_c - x_c) * (-a * pi_c).ln_1p()
        + x_s * (-b * (1.0 - pi)).ln_1p()
        + (n_s - x_s) * (b * pi).ln_1p()
}

/// The point `pi` of the boundary "canary = stable + margin" that is nearest to (`baseline`, `wanted`) in relative entropy
/// weighted by requests: the root, between `baseline` and `wanted - margin`, of an increasing function. Newton's steps, halved
/// where they would leave the bracket.
fn project(baseline: f64, wanted: f64, margin: f64, ratio: f64) -> f64 {
    let (mut low, mut high) = (baseline, wanted - margin);
    let mut pi = (ratio * high + low) / (ratio + 1.0);
    for _ in 0..60 {
        let pi_c = pi + margin;
        let (v_c, v_s) = (pi_c * (1.0 - pi_c), pi * (1.0 - pi));
        let (d_c, d_s) = (pi_c - wanted, pi - baseline);
        let value = ratio * d_c / v_c + d_s / v_s;
        if value > 0.0 {
            high = pi;
        } else {
            low = pi;
        }
        let slope = ratio * (v_c - d_c * (1.0 - 2.0 * pi_c)) / (v_c * v_c)
            + (v_s - d_s * (1.0 - 2.0 * pi)) / (v_s * v_s);
        let newton = pi - value / slope;
        let next = if newton > low && newton < high {
            newton
        } else {
            (low + high) / 2.0
        };
        let done = (next - pi).abs() < 1e-9 * pi + 1e-15;
        pi = next;
        if done {
            break;
        }
    }
    pi
}

#[cfg(test)]
mod tests;
