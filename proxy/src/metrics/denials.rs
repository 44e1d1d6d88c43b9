//! Callers that were not let in, by who called whom. Who calls is the caller's choice, within the names of the mesh, so only so many are told apart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::DescriptorEncoder;
use traffic_core::authorize::Refused;
use traffic_core::contract::{label, metric};

use super::series::{Labels, counted};

/// Series, with that of all others.
const MOST: usize = 100;
/// The caller of those that are not told apart.
const OTHERS: &str = "others";

/// Why a caller was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Plaintext,
    OwnTls,
    NotGranted,
    /// Nobody has said yet who may call.
    Untold,
}

impl Refusal {
    pub fn of(refused: Refused) -> Refusal {
        match refused {
            Refused::Plaintext => Refusal::Plaintext,
            Refused::OwnTls => Refusal::OwnTls,
            Refused::NotGranted => Refusal::NotGranted,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Refusal::Plaintext => "plaintext",
            Refusal::OwnTls => "own_tls",
            Refusal::NotGranted => "not_granted",
            Refusal::Untold => "untold",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Denials(Mutex<BTreeMap<Denial, u64>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Denial {
    why: Refusal,
    /// SPIFFE IDs; empty: none.
    caller: String,
    called: String,
}

impl Denials {
    pub(super) fn add(&self, why: Refusal, caller: &str, called: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let denial = |caller: &str| Denial {
            why,
            caller: caller.to_owned(),
            called: called.to_owned(),
        };
        let own = denial(caller);
        let is_told_apart = all.len() < MOST || all.contains_key(&own);
        let counted = if is_told_apart { own } else { denial(OTHERS) };
        *all.entry(counted).or_default() += 1;
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series: Vec<(Labels<'static>, u64)> = all
            .iter()
            .map(|(denial, count)| {
                let labels = vec![
                    (label::REASON, denial.why.as_str().to_owned()),
                    (label::CALLER, denial.caller.clone()),
                    (label::CALLED, denial.called.clone()),
                ];
                (labels, *count)
            })
            .collect();
        counted(
            encoder,
            metric::INBOUND_REFUSED,
            "Requests and opaque connections of callers that may not call",
            &series,
            |count| *count,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_told_apart_until_there_are_many() {
        let denials = Denials::default();
        for number in 0..2 * MOST {
            for _ in 0..2 {
                denials.add(Refusal::NotGranted, &number.to_string(), "web");
            }
        }
        let all = denials.0.lock().unwrap();
        assert_eq!(all.len(), MOST + 1);
        assert_eq!(all.values().sum::<u64>(), 4 * MOST as u64);
        let others = all.iter().find(|(denial, _)| denial.caller == OTHERS);
        assert_eq!(others.map(|(_, count)| *count), Some(2 * MOST as u64));
    }
}
