//! The operator among many rollouts: what `make bench-operator` measures on a real control plane.
//!
//! Every rollout has a Deployment, a Service and a pod with a sidecar; pods only seem to run
//! ([`crate::control_plane::pods`]). What the operator uses is read from `/proc`; what it asks of the API server is
//! counted there, by a FlowSchema of its own; and how long a decision takes is what a watch beside it sees. Nothing is
//! asked of the operator itself, so operators of any version can be compared.

mod beside;
mod certificates;
mod field;
mod gauge;
mod sidecars;
mod statuses;

pub use beside::Beside;
pub use certificates::{CertificateError, Certified, Starting};
pub use field::{CALLED, Field, FieldError, namespace_of};
pub use gauge::{Gauge, GaugeError, Usage};
pub use sidecars::{SidecarError, Sidecars};
pub use statuses::{Moment, Statuses};

/// The value below which so many of a hundred are; `None` without values.
pub fn percentile(values: &mut [u64], percent: usize) -> Option<u64> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    values
        .get(
            (values.len() * percent)
                .div_ceil(100)
                .saturating_sub(1)
                .min(last),
        )
        .copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(percentile(&mut values, 50), Some(100));
        assert_eq!(percentile(&mut values, 99), Some(198));
        assert_eq!(percentile(&mut values, 100), Some(200));
        assert_eq!(percentile(&mut [7], 99), Some(7));
        assert_eq!(percentile(&mut [], 99), None);
    }
}
