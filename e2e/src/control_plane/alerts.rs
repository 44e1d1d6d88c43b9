//! The alerts that are shipped, in a real Prometheus that scrapes a real operator. They fire as soon as they are true: how long
//! they wait first is taken out.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::companion::Companion;
use super::evidence::{EvidenceError, run_prometheus};

#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    #[error("config/monitoring/alerts.yaml is no PrometheusRule: {0}")]
    Rules(String),
    #[error("promtool says:\n{0}")]
    Refused(String),
    #[error(
        "cannot run `promtool`: run e2e/setup.sh as root (Debian, Ubuntu), or install Prometheus by hand"
    )]
    Promtool(#[source] std::io::Error),
    #[error(transparent)]
    Prometheus(#[from] EvidenceError),
    #[error("Prometheus does not say which alerts fire")]
    Ask(#[from] reqwest::Error),
}

/// Ends when it is dropped.
pub struct Alerts {
    address: SocketAddr,
    _prometheus: Arc<Companion>,
}

impl Alerts {
    /// `operator` is the port of its metrics; files are in `directory`.
    pub async fn start(directory: &Path, operator: u16) -> Result<Alerts, AlertsError> {
        let directory = directory.join("alerts");
        let files = |source| EvidenceError::Files(directory.clone(), source);
        std::fs::create_dir_all(&directory).map_err(files)?;
        let rules = directory.join("rules.yaml");
        std::fs::write(&rules, shipped()?.to_string()).map_err(files)?;
        let mut promtool = Command::new("promtool");
        said_well(promtool.args(["check", "rules"]).arg(&rules))?;
        std::fs::write(&rules, at_once(shipped()?).to_string()).map_err(files)?;
        let configuration = json!({
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "aviary-operator",
                "static_configs": [{"targets": [format!("127.0.0.1:{operator}")]}],
            }],
        });
        let (address, prometheus) = run_prometheus(&directory, &configuration.to_string()).await?;
        Ok(Alerts {
            address,
            _prometheus: prometheus,
        })
    }

    /// The labels of those that fire under this name.
    pub async fn firing(&self, alert: &str) -> Result<Vec<Value>, AlertsError> {
        let answer = reqwest::get(format!("http://{}/api/v1/alerts", self.address)).await?;
        let answer: Value = answer.json().await?;
        let alerts = answer["data"]["alerts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let fires =
            |each: &Value| each["state"] == "firing" && each["labels"]["alertname"] == alert;
        Ok(alerts
            .into_iter()
            .filter(fires)
            .map(|mut each| each["labels"].take())
            .collect())
    }
}

/// What `promtool test rules` makes of `tests` (the list of that name in its file): the alerts that are shipped, at whatever time.
pub fn simulated(directory: &Path, tests: &Value) -> Result<(), AlertsError> {
    let files = |source| EvidenceError::Files(directory.to_owned(), source);
    std::fs::create_dir_all(directory).map_err(files)?;
    let (rules, test) = (directory.join("rules.yaml"), directory.join("test.yaml"));
    std::fs::write(&rules, shipped()?.to_string()).map_err(files)?;
    let text = json!({"rule_files": [rules], "evaluation_interval": "1m", "tests": tests});
    std::fs::write(&test, text.to_string()).map_err(files)?;
    let mut promtool = Command::new("promtool");
    said_well(promtool.args(["test", "rules"]).arg(&test))
}

/// Runs promtool; an error has what it says.
fn said_well(promtool: &mut Command) -> Result<(), AlertsError> {
    let said = promtool.output().map_err(AlertsError::Promtool)?;
    if said.status.success() {
        return Ok(());
    }
    let text = [said.stdout, said.stderr].concat();
    Err(AlertsError::Refused(
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

/// The rule file in the PrometheusRule.
fn shipped() -> Result<Value, AlertsError> {
    let text = include_str!("../../../config/monitoring/alerts.yaml");
    let mut rule: Value =
        serde_saphyr::from_str(text).map_err(|error| AlertsError::Rules(error.to_string()))?;
    match rule["spec"].take() {
        spec @ Value::Object(_) => Ok(spec),
        _ => Err(AlertsError::Rules("it has no spec".to_owned())),
    }
}

fn at_once(mut rules: Value) -> Value {
    let groups = rules["groups"].as_array_mut();
    for rule in groups
        .into_iter()
        .flatten()
        .flat_map(|group| group["rules"].as_array_mut())
        .flatten()
    {
        if let Some(rule) = rule.as_object_mut() {
            rule.remove("for");
        }
    }
    rules
}
