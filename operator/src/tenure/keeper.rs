//! The Lease at the API server.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use kube_runtime::watcher::{self, Event, watcher};
use tokio::time::{sleep, sleep_until, timeout};

use super::Tenure;
use super::claim::{Claim, GIVE_UP, Next, RENEW, Write};
use crate::names;

/// Between two tries, where a request failed.
const AGAIN: Duration = Duration::from_millis(250);
/// A request that takes longer has failed: there have to be several tries before the Lease runs out.
const PATIENCE: Duration = Duration::from_secs(1);

/// The one who asks for the Lease and renews it.
pub struct Keeper {
    leases: Api<Lease>,
    /// For a request that may say nothing for minutes.
    watching: Api<Lease>,
    claim: Claim,
}

/// How a request for the Lease ended.
enum Asked {
    Ours,
    /// Somebody else was faster, or has it.
    NotOurs,
}

impl Keeper {
    /// `identity` is unique among the processes that run at the same time, and stays when a container is started anew.
    pub fn new(client: Client, watching: Client, namespace: &str, identity: String) -> Keeper {
        Keeper {
            leases: Api::namespaced(client, namespace),
            watching: Api::namespaced(watching, namespace),
            claim: Claim::new(identity),
        }
    }

    /// Waits until it is ours. Cancel safe: who stops waiting has at most taken it, and nobody renews it.
    pub async fn acquire(&mut self) -> Tenure {
        let mut seen = pin!(self.follow());
        let mut told = None;
        self.look_again().await;
        loop {
            let sent = Instant::now();
            match self.claim.take(names::LEASE, sent, Timestamp::now()) {
                Next::Wait { until, holder } => {
                    if told.as_ref() != Some(&holder) {
                        tracing::info!(holder, "another replica decides; this one stands by");
                        told = Some(holder);
                    }
                    tokio::select! {
                        Some(lease) = seen.next() => self.claim.look(lease, Instant::now()),
                        // A watch that says nothing may be broken.
                        () = sleep_until(until.into()) => self.look_again().await,
                    }
                }
                Next::Write(write) => match self.send(&write).await {
                    Ok(Asked::Ours) => {
                        tracing::info!("this replica decides");
                        return Tenure::until(sent + GIVE_UP);
                    }
                    Ok(Asked::NotOurs) => self.look_again().await,
                    Err(error) => {
                        tracing::warn!(%error, "the Lease cannot be taken");
                        sleep(AGAIN).await;
                    }
                },
            }
        }
    }

    /// Renews it until another replica has it. While the API server is away nobody can take it, and the tenure is over all the same: nothing is written or lent
    /// until it is renewed, and what lowers a weight goes on.
    pub async fn keep(&mut self, tenure: &Tenure) {
        let mut at = Instant::now() + RENEW;
        loop {
            sleep_until(at.into()).await;
            let sent = Instant::now();
            let renewed = match self.claim.take(names::LEASE, sent, Timestamp::now()) {
                Next::Wait { .. } => return,
                Next::Write(write) => self.send(&write).await,
            };
            at = match renewed {
                Ok(Asked::Ours) => {
                    tenure.extend(sent + GIVE_UP);
                    sent + RENEW
                }
                Ok(Asked::NotOurs) => {
                    // Another's, or of a version that we have not seen: people may annotate it.
                    self.look_again().await;
                    if self.claim.is_of_another() {
                        return;
                    }
                    Instant::now() + AGAIN
                }
                Err(error) => {
                    tracing::warn!(%error, left = ?tenure.left(), "the Lease is not renewed");
                    Instant::now() + AGAIN
                }
            };
        }
    }

    /// Gives it back, so that another need not wait until it runs out. After this nothing may be written.
    pub async fn release(&mut self, tenure: &Tenure) {
        tenure.end();
        let Some(write) = self.claim.give_back(Timestamp::now()) else {
            return;
        };
        match self.send(&write).await {
            Ok(_) => tracing::info!("the Lease is given back"),
            Err(error) => {
                tracing::warn!(%error, "the Lease is not given back: others wait until it has run out")
            }
        }
    }

    /// Waits until another replica has it; for at most this long.
    pub async fn succeeded(&mut self, patience: Duration) {
        let mut seen = pin!(self.follow());
        let another = async {
            while !self.claim.is_of_another() {
                if let Some(lease) = seen.next().await {
                    self.claim.look(lease, Instant::now());
                }
            }
        };
        timeout(patience, another).await.ok();
    }

    /// The Lease whenever it is another one; it never ends. `None`: there is none.
    fn follow(&self) -> impl Stream<Item = Option<Lease>> + use<> {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", names::LEASE));
        watcher(self.watching.clone(), only).filter_map(|event| async {
            match event {
                Ok(Event::Apply(lease) | Event::InitApply(lease)) => Some(Some(lease)),
                Ok(Event::Delete(_)) => Some(None),
                Ok(Event::Init | Event::InitDone) => None,
                // It is looked at again when it would have run out.
                Err(error) => {
                    tracing::debug!(%error, "the Lease is not watched");
                    sleep(AGAIN).await;
                    None
                }
            }
        })
    }

    async fn look_again(&mut self) {
        if let Err(error) = self.read().await {
            tracing::warn!(%error, "the Lease cannot be read");
            sleep(AGAIN).await;
        }
    }

    async fn read(&mut self) -> Result<(), String> {
        let read = timeout(PATIENCE, self.leases.get_opt(names::LEASE)).await;
        let lease = in_time(read)?;
        self.claim.look(lease, Instant::now());
        Ok(())
    }

    async fn send(&mut self, write: &Write) -> Result<Asked, String> {
        let how = PostParams::default();
        let sent = async {
            match write {
                Write::Create(lease) => self.leases.create(&how, lease).await,
                Write::Replace(lease) => self.leases.replace(names::LEASE, &how, lease).await,
            }
        };
        match timeout(PATIENCE, sent).await {
            Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => {
                Ok(Asked::NotOurs)
            }
            sent => {
                let lease = in_time(sent)?;
                self.claim.look(Some(lease), Instant::now());
                Ok(Asked::Ours)
            }
        }
    }
}

fn in_time<T>(
    answer: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>,
) -> Result<T, String> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(crate::text::innermost(&error)),
        Err(_) => Err(format!("no answer within {}s", PATIENCE.as_secs())),
    }
}
