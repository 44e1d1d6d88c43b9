//! Aviary in a cluster: the ways to it, and its installation.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::ground::Ground;
use super::install::{self, Before, InstallError};
use super::kubectl::Kubectl;
use super::places::Names;

/// A request that gets no answer: the API server can be away for a while in a story.
const NO_ANSWER: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("no client of the API server can be made")]
    Client(#[source] kube::Error),
    #[error(transparent)]
    Install(#[from] InstallError),
}

#[derive(Clone)]
pub struct Stage {
    pub kubectl: Kubectl,
    pub client: Client,
    pub names: Names,
}

impl Stage {
    /// A way in, from inside a runtime of the ground's.
    pub async fn enter(ground: &Ground) -> Result<Stage, StageError> {
        let kubeconfig = Kubeconfig::read_from(ground.kubeconfig())?;
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(NO_ANSWER);
        let client = Client::try_from(config).map_err(StageError::Client)?;
        Ok(Stage {
            kubectl: ground.kubectl(),
            client,
            names: ground.names(),
        })
    }

    /// Installs Aviary, and waits until it works. Says what was there before.
    pub async fn install(&self) -> Result<Before, StageError> {
        Ok(install::install(&self.kubectl, &self.names).await?)
    }

    /// Takes Aviary out of a cluster that outlives us.
    pub async fn uninstall(&self) -> Result<(), StageError> {
        Ok(install::uninstall(&self.kubectl).await?)
    }
}
