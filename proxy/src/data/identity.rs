//! The data plane as whoever keeps the pod's certificate sees it.

use std::sync::Arc;

use futures::future::join_all;

use super::Data;
use crate::ads::seconds;
use crate::control::{Identify, Installed, Renewal};
use crate::identity::Generation;
use crate::table::Table;

impl Identify for Data {
    fn identify(&self, generation: Arc<Generation>) -> Installed {
        tracing::debug!(number = generation.number, "identity handed over");
        if let Some(telemetry) = &self.telemetry {
            telemetry.identify(&generation.id);
        }
        let acknowledgements = {
            let mut state = self.state();
            let table = Table {
                identity: Some(generation),
                ..(*state.table).clone()
            };
            self.hand_over(&mut state, table)
        };
        let identified = self.identified.clone();
        Box::pin(async move {
            join_all(acknowledgements).await;
            // Now the control plane may hear that this proxy accepts TLS.
            identified.send_replace(true);
        })
    }

    fn renewal(&self, news: Renewal) {
        let metrics = &self.metrics.identity;
        match news {
            Renewal::Awaited => return self.link.await_identity(),
            Renewal::Failed => return metrics.failed(),
            Renewal::Issued { expires_at, due_at } => {
                metrics.issued(seconds(expires_at), seconds(due_at));
            }
            Renewal::Unserved => metrics.unserved(),
        }
        self.link.settle_identity();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use futures::FutureExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::WallClock;
    use crate::command::Command;
    use crate::control::{Install, Link};
    use crate::identity::testing::Authority;
    use crate::link::LinkState;
    use crate::metrics::Metrics;

    struct Pod {
        data: Data,
        metrics: Arc<Metrics>,
        link: Arc<LinkState>,
    }

    fn pod() -> Pod {
        pod_with(Vec::new())
    }

    fn pod_with(workers: Vec<mpsc::UnboundedSender<Command>>) -> Pod {
        let (metrics, link) = (Arc::<Metrics>::default(), Arc::new(LinkState::new()));
        let clock = Arc::new(WallClock::new(Instant::now(), SystemTime::now()));
        Pod {
            data: Data::new(workers, metrics.clone(), link.clone(), clock),
            metrics,
            link,
        }
    }

    fn issued(seconds: u64) -> Renewal {
        Renewal::Issued {
            expires_at: UNIX_EPOCH + Duration::from_secs(seconds),
            due_at: UNIX_EPOCH + Duration::from_secs(seconds / 2),
        }
    }

    #[tokio::test]
    async fn nobody_hears_that_tls_is_accepted_before_every_worker_has_the_identity() {
        let (senders, mut workers): (Vec<_>, Vec<_>) =
            (0..2).map(|_| mpsc::unbounded_channel()).unzip();
        let Pod { data, .. } = pod_with(senders);
        let identified = data.identified();
        let mut handed = data.identify(Authority::new().generation(1));
        let mut acknowledge = |worker: usize| {
            let Ok(Command::Install(table, done)) = workers[worker].try_recv() else {
                panic!("worker {worker} was given nothing");
            };
            assert!(table.identity.is_some());
            done.send(()).unwrap();
        };
        for worker in 0..2 {
            assert!(handed.as_mut().now_or_never().is_none());
            assert!(!*identified.borrow(), "before worker {worker}");
            acknowledge(worker);
        }
        handed.await;
        assert!(*identified.borrow());
    }

    #[test]
    fn a_pod_is_waited_for_until_it_has_its_first_certificate_or_is_known_to_get_none() {
        for (news, settles) in [
            (issued(1), true),
            (Renewal::Unserved, true),
            (Renewal::Failed, false),
        ] {
            let Pod { data, link, .. } = pod();
            data.renewal(Renewal::Awaited);
            assert!(!link.is_settled());
            data.link(Link::Connected);
            assert!(!link.is_settled(), "there is no certificate yet");
            data.renewal(news);
            assert_eq!(link.is_settled(), settles, "{news:?}");
            // One that cannot be renewed keeps nobody from being ready.
            data.renewal(issued(1));
            data.renewal(Renewal::Failed);
            assert!(link.is_settled());
        }
        let Pod { data, link, .. } = pod();
        data.link(Link::Connected);
        assert!(link.is_settled(), "nobody wants a certificate");
    }

    #[test]
    fn what_becomes_of_the_certificate_is_in_the_metrics() {
        let Pod { data, metrics, .. } = pod();
        let lines = || {
            let text = metrics.render().unwrap();
            let mut lines: Vec<String> = text
                .lines()
                .filter(|line| line.starts_with("aviary_identity_"))
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        let renewals = |issued: u32, failed: u32, unserved: u32| {
            [
                ("failed", failed),
                ("issued", issued),
                ("unserved", unserved),
            ]
            .map(|(result, count)| {
                format!("aviary_identity_renewals_total{{result=\"{result}\"}} {count}")
            })
        };
        data.renewal(Renewal::Awaited);
        assert_eq!(lines(), renewals(0, 0, 0));
        data.renewal(Renewal::Failed);
        data.renewal(issued(1_900_000_000));
        data.renewal(Renewal::Unserved);
        let times = [
            "aviary_identity_expiry_timestamp_seconds 1900000000",
            "aviary_identity_renewal_due_timestamp_seconds 950000000",
        ];
        let times = times.map(str::to_owned).into_iter();
        let expected: Vec<String> = times.chain(renewals(1, 1, 1)).collect();
        assert_eq!(lines(), expected);
        // Who cannot renew it says when it should have been, for as long as it takes.
        data.link(Link::Disconnected);
        data.renewal(Renewal::Failed);
        assert_eq!(lines()[..2], expected[..2]);
    }
}
