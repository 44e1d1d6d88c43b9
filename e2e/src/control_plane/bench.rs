//! A control plane with Aviary in it: what the cases of a test share.

use std::io;
use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::OnceCell;

use super::{
    ControlPlane, ControlPlaneError, Evidence, EvidenceError, InstallError, Operator,
    OperatorError, Plugin, PluginError, Receiver, Wire, WireError, operator_binary,
};
use crate::harness::{Kubectl, KubectlError, NotInTime, Waited, eventually};

const WEBHOOKS_ANSWER: Duration = Duration::from_secs(180);
/// Where nothing listens: a Prometheus that is away.
const NO_PROMETHEUS: &str = "http://127.0.0.1:1";

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error("no port for hooks")]
    Receiver(#[source] io::Error),
    #[error("the file of the notifications cannot be written")]
    Files(#[source] io::Error),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("the kubeconfig of the control plane cannot be used")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("the client for the API server cannot be built")]
    Client(#[source] kube::Error),
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
}

/// Everything ends when this is dropped, in the order of the fields.
pub struct Bench {
    pub operator: Operator,
    pub evidence: Evidence,
    pub receiver: Receiver,
    pub wire: Wire,
    /// Of the administrator.
    pub client: Client,
    pub kubectl: Kubectl,
    token: String,
    plugin: OnceCell<Plugin>,
    control_plane: ControlPlane,
}

impl Bench {
    /// The blocking parts are run where they stall no other future.
    pub async fn start(mut progress: impl FnMut(&str)) -> Result<Bench, BenchError> {
        let binary = tokio::task::block_in_place(operator_binary)?;
        let control_plane = tokio::task::block_in_place(|| ControlPlane::start(&mut progress))?;
        progress("the control plane is up");
        let directory = control_plane.directory();
        let (evidence, wire) = tokio::join!(
            Evidence::start(directory),
            Wire::start(control_plane.kubeconfig())
        );
        let (evidence, wire) = (evidence?, wire?);
        let receiver = Receiver::start().await.map_err(BenchError::Receiver)?;
        let notifications = notifications(directory, &receiver).map_err(BenchError::Files)?;
        let operator = Operator::new(binary, directory)?
            .with("AVIARY_HOOK_ALLOW", receiver.origin())
            .with("AVIARY_NOTIFICATIONS", notifications)
            .with("AVIARY_PROMETHEUS_ADDRESS", evidence.url())
            .with("AVIARY_PROMETHEUS_ALLOW", NO_PROMETHEUS);
        let token = control_plane.install_aviary(operator.webhooks()).await?;
        operator.connect(&wire.url(), &token)?;
        tokio::task::block_in_place(|| operator.start())?;
        let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig())?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let bench = Bench {
            operator,
            evidence,
            receiver,
            wire,
            client: Client::try_from(config).map_err(BenchError::Client)?,
            kubectl: control_plane.tool(),
            token,
            plugin: OnceCell::new(),
            control_plane,
        };
        bench.webhooks_answer().await?;
        progress("the operator is ready");
        Ok(bench)
    }

    /// For CanaryRollouts that are to have no evidence.
    pub fn no_prometheus(&self) -> &'static str {
        NO_PROMETHEUS
    }

    /// Another replica of the operator, not started yet. Its way to the API server has no [`Wire`] in it.
    pub fn another_operator(&self) -> Result<Operator, BenchError> {
        let another = self.operator.another(self.control_plane.directory())?;
        another.connect_to(self.control_plane.kubeconfig(), &self.token)?;
        Ok(another)
    }

    /// The plugin, as the administrator; built when it is asked for first.
    pub async fn plugin(&self) -> Result<&Plugin, PluginError> {
        let kubeconfig = self.control_plane.kubeconfig();
        let build = || async { tokio::task::block_in_place(|| Plugin::build(kubeconfig)) };
        self.plugin.get_or_try_init(build).await
    }

    /// Ends the operator and starts it again.
    pub async fn restart_operator(&self) -> Result<(), BenchError> {
        tokio::task::block_in_place(|| {
            self.operator.stop();
            self.operator.start()
        })?;
        self.webhooks_answer().await
    }

    /// Installs what was taken away, and starts the operator.
    pub async fn install_again(&self) -> Result<(), BenchError> {
        self.operator.stop();
        let webhooks = self.operator.webhooks();
        let token = self.control_plane.install_aviary(webhooks).await?;
        self.operator.connect(&self.wire.url(), &token)?;
        self.restart_operator().await
    }

    /// The operator writes its certificate into the webhooks a moment after its start, and the API server reads it there
    /// another moment later: then a pod that asks for a sidecar gets one.
    pub async fn webhooks_answer(&self) -> Result<(), BenchError> {
        const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: probe, labels: {aviary.dev/inject: \"true\"}}
spec: {containers: [{name: app, image: probe}]}
";
        let try_it = [
            "create",
            "--namespace=default",
            "--dry-run=server",
            "--output=jsonpath={.spec.initContainers[*].name}",
            "-f",
            "-",
        ];
        let answer = eventually("the webhooks answer", WEBHOOKS_ANSWER, || async {
            match self.kubectl.run_with(&try_it, POD).await {
                Ok(said) if said.stdout.contains("aviary-proxy") => Waited::There(Ok(())),
                Ok(said) => Waited::not_yet(said),
                Err(error) => Waited::There(Err(error)),
            }
        });
        Ok(answer.await??)
    }
}

/// Every notification goes to the receiver's `/notify/room`. Gives the operator's file.
fn notifications(directory: &Path, receiver: &Receiver) -> io::Result<String> {
    let (file, url) = (directory.join("notify.yaml"), directory.join("notify-url"));
    std::fs::write(&url, receiver.url("notify", "room"))?;
    let config = serde_json::json!({"receivers": [{
        "name": "room", "kind": "Generic", "urlFile": url,
        "on": ["Started", "WeightRaised", "Paused", "RolledBack", "Promoted", "Stalled"],
    }]});
    std::fs::write(&file, config.to_string())?;
    Ok(file.display().to_string())
}
