//! Installs Aviary as its users do: `kubectl apply -k config/e2e`, and waits until its webhooks answer.

use std::time::Duration;

use super::kubectl::{Kubectl, KubectlError, Said};
use super::places::Names;
use super::wait::{NotInTime, Waited, eventually};

const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/e2e");
/// The first one may have to pull its image.
const STARTS: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("the operator did not become ready: {log}")]
    NotReady { log: String, source: KubectlError },
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
}

/// What was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// An installation, which somebody else has made and may want to keep.
    Aviary,
}

pub(super) async fn install(kubectl: &Kubectl, names: &Names) -> Result<Before, InstallError> {
    let there = kubectl
        .run(&[
            "get",
            "deployment/aviary-operator",
            "--namespace=aviary-system",
        ])
        .await?;
    // Types and objects of these types in one go: the second can come too early on a slow machine.
    let said = eventually(
        "kubectl apply -k config/e2e",
        Duration::from_secs(60),
        || async {
            match apply(kubectl, names).await {
                Ok(said) if said.ok => Waited::There(Ok(said)),
                Ok(said) => Waited::not_yet(said),
                Err(error) => Waited::There(Err(error)),
            }
        },
    );
    said.await??;
    let ready = [
        "rollout",
        "status",
        "deployment/aviary-operator",
        "--namespace=aviary-system",
    ];
    let within = format!("--timeout={}s", STARTS.as_secs());
    if let Err(source) = kubectl.ok(&[&ready[..], &[&within]].concat()).await {
        let log = kubectl
            .run(&[
                "logs",
                "deployment/aviary-operator",
                "--namespace=aviary-system",
                "--tail=40",
            ])
            .await?;
        return Err(InstallError::NotReady {
            log: log.to_string(),
            source,
        });
    }
    Ok(if there.ok {
        Before::Aviary
    } else {
        Before::Nothing
    })
}

async fn apply(kubectl: &Kubectl, names: &Names) -> Result<Said, KubectlError> {
    if *names == Names::local() {
        return kubectl.run(&["apply", "-k", OVERLAY]).await;
    }
    let manifests = kubectl.ok(&["kustomize", OVERLAY]).await?;
    kubectl
        .try_apply("aviary-system", &names.write_into(&manifests.stdout))
        .await
}

/// Objects have the same names everywhere: only images and addresses differ.
pub(super) async fn uninstall(kubectl: &Kubectl) -> Result<(), InstallError> {
    kubectl
        .ok(&[
            "delete",
            "-k",
            OVERLAY,
            "--ignore-not-found",
            "--timeout=120s",
        ])
        .await?;
    Ok(())
}
