//! A namespace in the mesh with a payment service, its steady caller, and a CanaryRollout: made, changed and waited for.

mod look;

use std::time::Duration;

use aviary_crds::CanaryRolloutStatus;
use aviary_crds::status::Phase;

use super::kubectl::{KubectlError, Said};
use super::record::{Moment, Record, RecordError};
use super::stage::Stage;
use super::wait::NotInTime;
use super::workload::{Faults, Workload};

pub use look::{Happened, condition};

/// The Deployment, the Service and the CanaryRollout.
pub(super) const NAME: &str = "payment";
/// Pods on a busy machine.
const STARTS: Duration = Duration::from_secs(180);
/// One step: pods, acknowledgements, a short soak.
const STEP: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("cannot read {what}")]
    Read {
        what: &'static str,
        source: kube::Error,
    },
    #[error("the caller's statistics are not readable")]
    Stats(#[from] serde_json::Error),
    #[error("no pod of the caller is running")]
    NoCaller,
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
    #[error(transparent)]
    Record(#[from] RecordError),
}

pub struct Shop {
    pub stage: Stage,
    pub namespace: String,
    pub record: Record,
}

impl Shop {
    /// Opens it: version v1 serves, the caller calls, and the CanaryRollout has adopted the Deployment.
    pub async fn open(
        stage: &Stage,
        namespace: &str,
        workload: &Workload,
    ) -> Result<Shop, ShopError> {
        let shop = Shop::build(stage, namespace, workload).await?;
        stage.kubectl.apply(namespace, &workload.rollout()).await?;
        let adopted = |status: &CanaryRolloutStatus| {
            status.phase == Some(Phase::Stable)
                && condition(status, "Ready").is_some_and(|c| c.status == "True")
        };
        shop.record
            .until(0, "the Deployment is adopted", STARTS, adopted)
            .await?;
        shop.until_stats("v1 answers the caller", |stats| {
            stats.versions.get("v1").is_some_and(|v| v.answered > 100)
        })
        .await?;
        Ok(shop)
    }

    /// The same without a CanaryRollout.
    pub async fn build(
        stage: &Stage,
        namespace: &str,
        workload: &Workload,
    ) -> Result<Shop, ShopError> {
        let shop = Shop::found(stage, namespace).await?;
        // One after the other: requests to a service that is not there yet would count as failed.
        for (name, manifest) in [
            ("payment", workload.payment()),
            ("client", workload.client()),
        ] {
            stage
                .kubectl
                .apply(namespace, &stage.names.write_into(&manifest))
                .await?;
            let (name, within) = (
                format!("deployment/{name}"),
                format!("--timeout={}s", STARTS.as_secs()),
            );
            stage
                .kubectl
                .ok(&[
                    "rollout",
                    "status",
                    &name,
                    "--namespace",
                    namespace,
                    &within,
                ])
                .await?;
        }
        Ok(shop)
    }

    /// The bare namespace, in the mesh.
    pub async fn found(stage: &Stage, namespace: &str) -> Result<Shop, ShopError> {
        let labelled = include_str!("../../demo/namespace.yaml")
            .replace("name: shop", &format!("name: {namespace}"));
        stage.kubectl.apply(namespace, &labelled).await?;
        Ok(Shop::revisit(stage, namespace))
    }

    /// One that is there already, or what is left of it.
    pub fn revisit(stage: &Stage, namespace: &str) -> Shop {
        let record = Record::start(&stage.client, namespace, NAME);
        Shop {
            stage: stage.clone(),
            namespace: namespace.to_owned(),
            record,
        }
    }

    /// Takes everything away; the rest of a slow pod goes while other things happen.
    pub async fn close(self) -> Result<(), ShopError> {
        self.stage
            .kubectl
            .ok(&[
                "delete",
                "namespace",
                &self.namespace,
                "--ignore-not-found",
                "--wait=false",
            ])
            .await?;
        Ok(())
    }

    /// kubectl in this namespace; that it fails is an answer too.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Said, ShopError> {
        Ok(self
            .stage
            .kubectl
            .run(&[args, &["--namespace", &self.namespace]].concat())
            .await?)
    }

    /// kubectl in this namespace, and it has to succeed.
    pub async fn kubectl_ok(&self, args: &[&str]) -> Result<Said, ShopError> {
        Ok(self
            .stage
            .kubectl
            .ok(&[args, &["--namespace", &self.namespace]].concat())
            .await?)
    }

    /// Puts a new version into the Deployment, as a person would.
    pub async fn release(&self, version: &str, faults: Faults<'_>) -> Result<Said, ShopError> {
        let (version, faults_now) = (format!("VERSION={version}"), faults.environment());
        let set = [
            "set",
            "env",
            "deployment/payment",
            &version,
            &faults_now,
            faults.without(),
        ];
        self.kubectl_ok(&set).await
    }

    /// Waits for a status; one that was there since `mark` counts.
    pub async fn until(
        &self,
        mark: usize,
        what: &str,
        holds: impl Fn(&CanaryRolloutStatus) -> bool,
    ) -> Result<Moment, ShopError> {
        Ok(self.record.until(mark, what, STEP, holds).await?)
    }

    pub async fn until_phase(&self, mark: usize, phase: Phase) -> Result<Moment, ShopError> {
        self.until(mark, &format!("phase {}", phase.name()), |status| {
            status.phase == Some(phase)
        })
        .await
    }

    pub async fn until_soaking(&self, mark: usize, weight: i32) -> Result<Moment, ShopError> {
        let soaking = |status: &CanaryRolloutStatus| {
            status.phase == Some(Phase::Soaking)
                && status.weight.as_ref().is_some_and(|w| w.sent == weight)
        };
        self.until(mark, &format!("soaking at weight {weight}"), soaking)
            .await
    }

    /// Waits for the end of a good release. It has as many steps as the CanaryRollout.
    pub async fn until_promoted(&self, mark: usize) -> Result<Moment, ShopError> {
        let promoted = |status: &CanaryRolloutStatus| {
            status.phase == Some(Phase::Stable)
                && condition(status, "Promoted").is_some_and(|c| c.status == "True")
        };
        // From the promotion's begin: the condition of the release before must not count.
        let promoting = self
            .record
            .until(mark, "every step has passed", 3 * STEP, |s| {
                s.phase == Some(Phase::Promoting)
            })
            .await?;
        let mark = self
            .record
            .moments()
            .iter()
            .position(|moment| *moment == promoting)
            .unwrap_or(mark);
        Ok(self
            .record
            .until(mark, "the release is promoted", STEP, promoted)
            .await?)
    }
}
