//! All that explains a failed story, from the cluster as it is: whatever cannot be had is left out with its reason.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::shop::Shop;

/// What the kubelet, Prometheus and people ask a sidecar itself.
const SIDECAR_ADMIN: u16 = 15020;
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines of each log.
const TAIL: &str = "--tail=150";

impl Shop {
    pub async fn dump(&self) -> String {
        let mut text = String::new();
        for args in [
            &["get", "all,canaryrollouts,endpointslices", "--output=wide"][..],
            &["get", "canaryrollouts", "--output=yaml"],
            &["describe", "deployments,pods"],
            &["get", "events", "--sort-by=.metadata.creationTimestamp"],
        ] {
            let said = self.kubectl(args).await;
            section(
                &mut text,
                &format!("kubectl {}", args.join(" ")),
                said.map(|said| said.to_string()),
            );
        }
        let operator = [
            "logs",
            "deployment/aviary-operator",
            "--namespace=aviary-system",
            TAIL,
        ];
        let said = self.stage.kubectl.run(&operator).await;
        section(
            &mut text,
            "the operator's log",
            said.map(|said| said.to_string()),
        );
        let before = self
            .stage
            .kubectl
            .run(&[&operator[..], &["--previous"]].concat())
            .await;
        if let Ok(said) = before
            .map(|said| said.to_string())
            .map(|said| (!said.contains("not found")).then_some(said))
        {
            text.extend(
                said.map(|said| format!("--- the log of the operator before ---\n{said}\n")),
            );
        }
        self.dump_proxies(&mut text).await;
        let stats = self.stats().await.map(|stats| {
            let (seconds, notes) = (stats.seconds.len(), &stats.notes);
            format!(
                "{:?} lost {}, {:?}, {:?}, {seconds} seconds\n{notes:#?}",
                stats.failed, stats.lost, stats.kinds, stats.versions
            )
        });
        section(&mut text, "what the caller saw", stats);
        text
    }

    async fn dump_proxies(&self, text: &mut String) {
        let pods = match self.pods("app in (payment, client)").await {
            Ok(pods) => pods,
            Err(error) => return section(text, "pods", Err(error)),
        };
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            section(
                text,
                &format!("configuration of the proxy of {name}"),
                self.dump_of_proxy(&name).await,
            );
            let said = self
                .kubectl(&["logs", &name, "--container=aviary-proxy", TAIL])
                .await;
            section(
                text,
                &format!("log of the proxy of {name}"),
                said.map(|said| said.to_string()),
            );
        }
    }
    /// It is told to the pod's own loopback alone, where a forwarded port comes from.
    async fn dump_of_proxy(&self, pod: &str) -> anyhow::Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.stage.client.clone(), &self.namespace);
        let mut forwarded = pods.portforward(pod, &[SIDECAR_ADMIN]).await?;
        let stream = forwarded.take_stream(SIDECAR_ADMIN);
        let mut stream = stream.context("nothing is forwarded")?;
        let request = b"GET /config_dump HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
        Ok(answer)
    }
}

fn section(text: &mut String, title: &str, content: Result<String, impl std::fmt::Display>) {
    let content = content.unwrap_or_else(|error| format!("not to be had: {error}"));
    text.push_str(&format!("--- {title} ---\n{content}\n"));
}
