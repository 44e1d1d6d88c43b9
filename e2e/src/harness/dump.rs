//! All that explains a failed story, from the cluster as it is: whatever cannot be had is left out with its reason.

use super::shop::Shop;

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
            let path = format!(
                "/api/v1/namespaces/{}/pods/{name}:15020/proxy/config_dump",
                self.namespace
            );
            let said = self.stage.kubectl.run(&["get", "--raw", &path]).await;
            section(
                text,
                &format!("configuration of the proxy of {name}"),
                said.map(|said| said.to_string()),
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
}

fn section(text: &mut String, title: &str, content: Result<String, impl std::fmt::Display>) {
    let content = content.unwrap_or_else(|error| format!("not to be had: {error}"));
    text.push_str(&format!("--- {title} ---\n{content}\n"));
}
