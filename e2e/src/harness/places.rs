//! Where images and Prometheus are: in the local cluster where the harness put them, in the user's where the user says.
//!
//! The manifests name what the local cluster has; elsewhere those names are replaced in the text of the manifests.

/// The images of the project and the Prometheus of the local cluster, as all manifests name them.
const IMAGES: [&str; 3] = ["aviary-operator", "aviary-proxy", "demo"];
const PROMETHEUS: &str = "http://prometheus.monitoring:9090";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    #[error(
        "PROMETHEUS_URL is not set: releases are judged by the metrics of the sidecars, so set it to a Prometheus that scrapes the pods of your cluster every second or two, as the operator reaches it, for example http://prometheus.monitoring:9090"
    )]
    NoPrometheus,
    #[error(
        "IMAGES names {0}, which is none of aviary-operator, aviary-proxy and demo: list them as NAME[:TAG], separated by commas"
    )]
    Unknown(String),
}

/// What to write in place of the names of the local cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    replaced: Vec<(String, String)>,
}

impl Names {
    /// For the local cluster: nothing is replaced.
    pub fn local() -> Names {
        Names::default()
    }

    /// From the variables `IMAGES` (a list of the images as the user's cluster knows them; one that is not named
    /// keeps the name that `make images` gives it) and `PROMETHEUS_URL`.
    pub fn of_the_user(
        images: Option<&str>,
        prometheus: Option<&str>,
    ) -> Result<Names, NamesError> {
        let prometheus = prometheus
            .filter(|url| !url.is_empty())
            .ok_or(NamesError::NoPrometheus)?;
        let mut replaced = vec![(
            PROMETHEUS.to_owned(),
            prometheus.trim_end_matches('/').to_owned(),
        )];
        for image in images
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|image| !image.is_empty())
        {
            let name = short(image);
            let known = IMAGES.iter().find(|known| **known == name);
            let known = known.ok_or_else(|| NamesError::Unknown(image.to_owned()))?;
            replaced.push((format!("aviary.local/{known}:dev"), image.to_owned()));
        }
        if replaced.len() > 1 {
            // Images of a registry have to be pulled.
            replaced.push((
                "imagePullPolicy: Never".to_owned(),
                "imagePullPolicy: IfNotPresent".to_owned(),
            ));
            replaced.push(("value: Never".to_owned(), "value: IfNotPresent".to_owned()));
        }
        Ok(Names { replaced })
    }

    pub fn write_into(&self, manifest: &str) -> String {
        self.replaced
            .iter()
            .fold(manifest.to_owned(), |text, (ours, theirs)| {
                text.replace(ours, theirs)
            })
    }
}

/// `registry:5000/x/demo:v1@sha256:...` -> `demo`.
fn short(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_in_the_local_cluster() {
        let text = "image: aviary.local/demo:dev";
        assert_eq!(Names::local().write_into(text), text);
    }

    #[test]
    fn images_are_known_by_the_last_part_of_their_names() {
        let names = Names::of_the_user(
            Some("reg:5000/a/demo:v1, aviary-proxy@sha256:0"),
            Some("http://p:1/"),
        )
        .unwrap();
        let text = "aviary.local/demo:dev aviary.local/aviary-proxy:dev aviary.local/aviary-operator:dev http://prometheus.monitoring:9090";
        assert_eq!(
            names.write_into(text),
            "reg:5000/a/demo:v1 aviary-proxy@sha256:0 aviary.local/aviary-operator:dev http://p:1"
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        assert!(
            Names::of_the_user(None, None)
                .unwrap_err()
                .to_string()
                .contains("PROMETHEUS_URL")
        );
        let unknown = Names::of_the_user(Some("nginx:1"), Some("http://p:1")).unwrap_err();
        assert!(unknown.to_string().contains("nginx:1"));
    }
}
