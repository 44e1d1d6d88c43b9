//! When the control plane is told who calls this pod without an identity: on each stream as soon as that can be known, when there is somebody new, and
//! again from time to time while there is anybody.

use std::time::Duration;

use aviary_xds::DeltaClient;
use aviary_xds::client::Output;
use tokio::time::{Instant, sleep_until};
use traffic_core::inbound::Unidentified;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How often is told who is still there.
const AGAIN: Duration = Duration::from_secs(60);

/// What was told on a stream.
pub(super) struct Callers {
    look: Instant,
    again: Instant,
    /// Who was told of last; `None`: nothing was told.
    told: Option<Vec<Unidentified>>,
}

impl Callers {
    pub(super) fn new(now: Instant) -> Callers {
        Callers {
            look: now,
            again: now,
            told: None,
        }
    }

    /// Resolves when it is time to look. Cancel safe.
    pub(super) async fn due(&self) {
        sleep_until(self.look).await;
    }

    /// What is to be said of those who were seen.
    pub(super) fn tell(
        &mut self,
        client: &mut DeltaClient,
        seen: &[(Unidentified, Duration)],
        now: Instant,
    ) -> Output {
        self.look = now + LOOK;
        let who: Vec<Unidentified> = seen.iter().map(|(caller, _)| *caller).collect();
        let is_new = match &self.told {
            None => true,
            Some(told) => who.iter().any(|caller| !told.contains(caller)),
        };
        if !is_new && (who.is_empty() || now < self.again) {
            return Output::default();
        }
        let output = client.report(seen);
        if !output.requests.is_empty() {
            self.again = now + AGAIN;
            self.told = Some(who);
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use aviary_xds::{DeltaServer, Node, Resources};
    use traffic_core::config::Inbound;

    use super::*;

    /// Connected, and told what to do with what comes in.
    fn told() -> DeltaClient {
        let (mut client, mut server) = (DeltaClient::default(), DeltaServer::default());
        let mut world = Resources::default();
        world.insert_inbound("", &Inbound::default());
        for request in client.connected(&Node::default()).requests {
            server.on_request(request).unwrap();
        }
        let now = std::time::Instant::now();
        while let Some(response) = server.next(&world, now) {
            client.received(response, now);
        }
        client
    }

    fn caller(number: u8) -> (Unidentified, Duration) {
        let address = [10, 1, 0, number].into();
        let caller = Unidentified { address, port: 80 };
        (caller, Duration::ZERO)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_at_once_and_then_what_is_new_and_who_is_still_there() {
        let mut client = told();
        let mut callers = Callers::new(Instant::now());
        let mut tells = |seen: &[(Unidentified, Duration)]| {
            let output = callers.tell(&mut client, seen, Instant::now());
            output.requests.len()
        };
        assert_eq!(tells(&[]), 1, "that there is nobody");
        assert_eq!(tells(&[]), 0);
        assert_eq!(tells(&[caller(1)]), 1);
        assert_eq!(tells(&[caller(1)]), 0);
        assert_eq!(tells(&[caller(1), caller(2)]), 1);
        assert_eq!(tells(&[caller(1)]), 0, "who is gone is nothing new");
        tokio::time::advance(AGAIN).await;
        assert_eq!(tells(&[caller(1)]), 1);
        tokio::time::advance(AGAIN).await;
        assert_eq!(tells(&[]), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_said_before_probes_can_be_told_from_others_or_to_who_knows_nothing_of_it() {
        let mut untold = DeltaClient::default();
        untold.connected(&Node::default());
        let mut old = DeltaClient::default();
        old.ended_with(aviary_xds::kind::LISTENER);
        old.connected(&Node::default());
        for mut client in [untold, old] {
            let mut callers = Callers::new(Instant::now());
            for _ in 0..2 {
                let output = callers.tell(&mut client, &[caller(1)], Instant::now());
                assert!(output.requests.is_empty());
            }
        }
        let mut callers = Callers::new(Instant::now());
        callers.due().await;
        callers.tell(&mut told(), &[], Instant::now());
        let before = Instant::now();
        callers.due().await;
        assert!(before.elapsed() >= LOOK);
    }
}
