//! How long it takes the guard to see a fault, roughly: what people want to know before they wait for it.

use super::bet::EFFECTS;
use super::limits::Limits;

/// An alarm takes at least so many bad seconds.
const LEAST: f64 = 3.0;

/// Seconds until the guard sees a canary that fails this share of its requests, at so many a second, beside a stable revision
/// that fails `stable`: what it has to win, by what it wins with each request. That is the relative entropy of the canary's
/// rate against the highest one that is allowed (S. Kullback and R. Leibler, 1951), as if stable's rate were known; at high
/// rates it takes a few seconds more. `None`: it never does.
pub fn seconds_to_see(limits: Limits, stable: f64, per_second: f64, fails: f64) -> Option<f64> {
    let allowed = (stable + limits.margin()).clamp(1e-9, 1.0);
    if fails <= allowed || per_second <= 0.0 {
        return None;
    }
    let fails = fails.min(1.0);
    let rest = if fails < 1.0 {
        (1.0 - fails) * ((1.0 - fails) / (1.0 - allowed)).ln()
    } else {
        0.0
    };
    let each = fails * (fails / allowed).ln() + rest;
    // Half of the capital is on the effects, an equal part on each.
    let to_win = limits.log_alarm() + (2.0 * EFFECTS.len() as f64).ln();
    Some((to_win / (per_second * each)).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::try_new(10_000, 5_000).unwrap()
    }

    /// Medians of the simulation (`make bench-judge`): stable fails 0.1 %.
    #[test]
    fn it_is_about_what_the_simulation_says() {
        for (per_second, fails, simulated) in [
            (0.5, 1.0, 7.0),
            (0.5, 0.1, 100.0),
            (0.5, 0.02, 1189.0),
            (5.0, 0.1, 12.0),
            (5.0, 0.05, 30.0),
            (5.0, 0.02, 134.0),
            (5.0, 0.01, 1021.0),
            (25.0, 0.05, 12.0),
            (50.0, 0.02, 19.0),
            (50.0, 0.5, 3.0),
        ] {
            let seconds = seconds_to_see(limits(), 0.001, per_second, fails).unwrap();
            let ratio = seconds / simulated;
            assert!(
                (0.35..1.6).contains(&ratio),
                "{per_second} {fails}: {seconds} {simulated}"
            );
        }
    }

    #[test]
    fn what_is_allowed_is_never_seen() {
        assert_eq!(seconds_to_see(limits(), 0.001, 50.0, 0.006), None);
        assert_eq!(seconds_to_see(limits(), 0.001, 0.0, 0.5), None);
        assert_eq!(seconds_to_see(limits(), 1.0, 50.0, 1.0), None);
        assert!(
            seconds_to_see(limits(), 0.0, 1e-9, 1.0)
                .unwrap()
                .is_finite()
        );
    }
}
