//! How much one proxy may say: whoever can start a pod is a proxy, and one that lies, or calls as if it were a thousand, must not
//! decide alone. And no attempt ends more than once.

use std::collections::BTreeMap;

use traffic_core::outcome::{Class, Counts, Failures};

use super::board::Name;

/// First attempts of one revision in one second that one proxy is believed.
pub(super) const MOST: u64 = 10_000;

/// What one proxy has said of the open seconds: by second, Service and revision, over all ports, how many started and ended.
/// Only of what is followed: a proxy cannot have more remembered by making up names.
#[derive(Default)]
pub(super) struct Share(BTreeMap<Subject, (u64, u64)>);

/// A second, a Service and a revision.
type Subject = (i64, Box<str>, Box<str>);

impl Share {
    pub(super) fn forget_before(&mut self, second: i64) {
        while let Some(oldest) = self.0.first_entry()
            && oldest.key().0 < second
        {
            oldest.remove();
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.0.len()
    }

    /// Takes off what is too much. Says whether something was.
    pub(super) fn limit(&mut self, of: &Name<'_>, second: i64, counts: &mut Counts) -> bool {
        let key = (second, of.service.into(), of.revision.into());
        let (started, ended) = self.0.entry(key).or_default();
        let may_start = counts.started.min(MOST - *started);
        let capped = may_start < counts.started;
        counts.started = may_start;
        *started += may_start;
        if capped {
            counts.failures = Failures::default();
        }
        for class in Class::ALL {
            let may_end = counts.ended[class].min(*started - *ended);
            counts.ended[class] = may_end;
            *ended += may_end;
        }
        capped
    }
}

#[cfg(test)]
mod tests {
    use traffic_core::outcome::PerClass;

    use super::*;

    fn counts(started: u64, ended: [u64; 4]) -> Counts {
        Counts {
            started,
            ended: PerClass::from(ended),
            ..Counts::default()
        }
    }

    fn said(share: &mut Share, second: i64, started: u64, ended: [u64; 4]) -> (u64, u64, bool) {
        let mut counts = counts(started, ended);
        let name = Name::read("shop/payment/80/v2").unwrap();
        let capped = share.limit(&name, second, &mut counts);
        (counts.started, counts.ended.total(), capped)
    }

    #[test]
    fn one_proxy_is_believed_so_much_in_a_second_however_often_it_says_it() {
        let mut share = Share::default();
        assert_eq!(said(&mut share, 7, 4, [1, 1, 0, 0]), (4, 2, false));
        assert_eq!(said(&mut share, 7, 0, [0, 2, 0, 5]), (0, 2, false));
        let million = said(&mut share, 7, 1_000_000, [0, 1_000_000, 0, 0]);
        assert_eq!(million, (MOST - 4, MOST - 4, true));
        assert_eq!(said(&mut share, 7, 1, [0, 1, 0, 0]), (0, 0, true));
        assert_eq!(said(&mut share, 8, 1, [0, 1, 0, 0]), (1, 1, false));
        share.forget_before(9);
        assert!(share.0.is_empty());
    }

    #[test]
    fn nothing_ends_that_did_not_start() {
        let mut share = Share::default();
        assert_eq!(said(&mut share, 7, 0, [0, 9, 0, 9]), (0, 0, false));
    }
}
