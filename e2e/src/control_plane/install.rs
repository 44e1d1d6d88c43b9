//! Installs what an operator outside the cluster needs: types, rights, webhooks; not its Deployment.
//!
//! The webhooks name a Service, and stay that way: its type is ExternalName, which the API server follows to loopback,
//! and then asks for the certificate of the Service as in a whole cluster. (An address by `url` would need a certificate
//! for 127.0.0.1, which the operator has no reason to have.) Only the port is another one.

use std::path::Path;

use super::ControlPlane;
use crate::harness::{Kubectl, KubectlError};

pub(super) const NAMESPACE: &str = "aviary-system";
pub(super) const ACCOUNT: &str = "aviary-operator";
/// Longer than any run of tests.
const TOKEN_LIFE: &str = "--duration=4h";

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error("the manifests of the webhooks have no longer '{0}'")]
    Changed(&'static str),
}

impl ControlPlane {
    /// Applies them; the webhooks are called at this port of loopback. Returns a token of the operator's ServiceAccount.
    pub async fn install_aviary(&self, webhooks: u16) -> Result<String, InstallError> {
        let kubectl = self.tool();
        for manifest in ["operator/namespace.yaml", "operator/serviceaccount.yaml"] {
            let file = config(manifest);
            kubectl.ok(&["apply", "-f", &file]).await?;
        }
        for directory in ["../crds", "rbac"] {
            let directory = config(directory);
            kubectl.ok(&["apply", "-k", &directory]).await?;
        }
        kubectl.apply(NAMESPACE, &service()).await?;
        self.set_webhooks(&kubectl, webhooks).await?;
        let token = [
            "create",
            "token",
            ACCOUNT,
            "--namespace",
            NAMESPACE,
            TOKEN_LIFE,
        ];
        Ok(kubectl.ok(&token).await?.stdout.trim().to_owned())
    }

    async fn set_webhooks(&self, kubectl: &Kubectl, port: u16) -> Result<(), InstallError> {
        let directory = config("webhooks");
        let manifests = kubectl.ok(&["kustomize", &directory]).await?.stdout;
        kubectl
            .apply(NAMESPACE, &patient(&with_port(&manifests, port)?)?)
            .await?;
        Ok(())
    }
}

fn config(path: &str) -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join("../config").join(path).display().to_string()
}

fn service() -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {ACCOUNT}, namespace: {NAMESPACE}}}
spec: {{type: ExternalName, externalName: 127.0.0.1}}
"
    )
}

fn with_port(manifests: &str, port: u16) -> Result<String, InstallError> {
    const PORT: &str = "port: 443\n";
    if !manifests.contains(PORT) {
        return Err(InstallError::Changed("port: 443"));
    }
    Ok(manifests.replace(PORT, &format!("port: {port}\n")))
}

/// The API server waits for an answer as long as it can wait: a machine with much to do is not an operator that is away, and that one refuses at once.
fn patient(manifests: &str) -> Result<String, InstallError> {
    const TIMEOUT: &str = "timeoutSeconds: ";
    const MOST: &str = "30";
    let mut parts = manifests.split(TIMEOUT);
    let mut patient = parts.next().unwrap_or_default().to_owned();
    if patient.len() == manifests.len() {
        return Err(InstallError::Changed(TIMEOUT));
    }
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        patient.extend([TIMEOUT, MOST, rest]);
    }
    Ok(patient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_called_at_the_port_given() {
        let manifests = "service:\n  port: 443\n  path: /gate\n";
        let ours = with_port(manifests, 19443).unwrap();
        assert_eq!(ours, "service:\n  port: 19443\n  path: /gate\n");
        assert!(with_port("url: https://x", 1).is_err());
    }

    #[test]
    fn webhooks_are_waited_for() {
        let manifests = "- name: a\n  timeoutSeconds: 2\n- name: b\n  timeoutSeconds: 10\n";
        let ours = "- name: a\n  timeoutSeconds: 30\n- name: b\n  timeoutSeconds: 30\n";
        assert_eq!(patient(manifests).unwrap(), ours);
        assert!(patient("- name: a\n").is_err());
    }
}
