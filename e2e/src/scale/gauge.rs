//! What the operator uses: memory and processor time by the kernel's books, requests by the API server's.

use std::time::Duration;

use http::Request;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::gvk::GroupVersionKind;
use serde_json::{Value, json};

use crate::control_plane::Operator;

/// The FlowSchema by which the API server counts the operator's requests apart.
const SCHEMA: &str = "bench-operator";
/// Of the kernel's clock in `/proc`, on every architecture that we run on.
const TICKS_A_SECOND: u64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum GaugeError {
    #[error("the API server does not count requests")]
    Requests(#[source] kube::Error),
    #[error("the operator's process cannot be read in /proc")]
    Process(#[from] std::io::Error),
}

/// At one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident bytes.
    pub memory: u64,
    /// Since its start.
    pub cpu: Duration,
    /// To the API server, watches included, since its first start.
    pub requests: u64,
}

pub struct Gauge {
    client: Client,
}

impl Gauge {
    /// From now on the API server counts what this ServiceAccount asks.
    pub async fn install(
        client: &Client,
        namespace: &str,
        account: &str,
    ) -> Result<Gauge, GaugeError> {
        let kind = GroupVersionKind::gvk("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema");
        let schemas: Api<DynamicObject> =
            Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
        let params = PatchParams::apply("bench").force();
        schemas
            .patch(SCHEMA, &params, &Patch::Apply(schema(namespace, account)))
            .await
            .map_err(GaugeError::Requests)?;
        Ok(Gauge {
            client: client.clone(),
        })
    }

    pub async fn read(&self, operator: &Operator) -> Result<Usage, GaugeError> {
        Ok(Usage {
            memory: resident(&operator.proc("status")?).unwrap_or(0),
            cpu: processor(&operator.proc("stat")?).unwrap_or_default(),
            requests: self.requests().await?,
        })
    }

    /// How many the operator has made, with or without a process now.
    pub async fn requests(&self) -> Result<u64, GaugeError> {
        let request = Request::get("/metrics").body(Vec::new());
        let request =
            request.map_err(|error| GaugeError::Requests(kube::Error::HttpError(error)))?;
        let metrics = self.client.request_text(request).await;
        Ok(dispatched(&metrics.map_err(GaugeError::Requests)?))
    }
}

/// As the built-in schema for ServiceAccounts has them, and before it.
fn schema(namespace: &str, account: &str) -> Value {
    let subject = json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}});
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": SCHEMA},
        "spec": {
            "priorityLevelConfiguration": {"name": "workload-low"},
            "matchingPrecedence": 100,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [subject],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        },
    })
}

fn dispatched(metrics: &str) -> u64 {
    let ours = format!("flow_schema=\"{SCHEMA}\"");
    metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_flowcontrol_dispatched_requests_total{"))
        .filter(|line| line.contains(&ours))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .map(|count| count as u64)
        .sum()
}

fn resident(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The name of the process, in brackets, may have blanks in it.
fn processor(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_books_are_read() {
        let status = "Name:\taviary\nVmHWM:\t  99 kB\nVmRSS:\t   2048 kB\nThreads:\t3\n";
        assert_eq!(resident(status), Some(2 * 1024 * 1024));
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 99";
        assert_eq!(processor(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn only_the_operators_requests_are_counted() {
        let metrics = "\
apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"service-accounts\",priority_level=\"workload-low\"} 5
apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"bench-operator\",priority_level=\"workload-low\"} 1.2e+03
apiserver_flowcontrol_current_executing_requests{flow_schema=\"bench-operator\"} 7
";
        assert_eq!(dispatched(metrics), 1200);
    }
}
