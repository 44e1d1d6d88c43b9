//! What is shipped for Prometheus, with a real operator behind it.

use std::time::Duration;

use aviary_e2e::control_plane::{Alerts, Plan, simulated};
use aviary_e2e::harness::{Waited, eventually};
use serde_json::{Value, json};

use super::hall::Scene;

const PATIENCE: Duration = Duration::from_secs(180);

async fn fires(alerts: &Alerts, name: &str, is: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let fires = eventually(name, PATIENCE, || async {
        match alerts.firing(name).await {
            Ok(firing) if firing.iter().any(&is) => Waited::There(()),
            Ok(firing) => Waited::not_yet(format!("{firing:?}")),
            Err(error) => Waited::not_yet(error),
        }
    });
    Ok(fires.await?)
}

async fn ends(alerts: &Alerts, name: &str, is: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let ends = eventually(name, PATIENCE, || async {
        match alerts.firing(name).await {
            Ok(firing) if !firing.iter().any(&is) => Waited::There(()),
            Ok(firing) => Waited::not_yet(format!("{firing:?}")),
            Err(error) => Waited::not_yet(error),
        }
    });
    Ok(ends.await?)
}

pub(crate) async fn alerts_fire_for_a_stalled_rollout_and_for_an_operator_that_is_away(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default()).await?;
    let operator = &scene.bench.operator;
    let directory = operator.log().parent().expect("the log is in a directory");
    let alerts = Alerts::start(directory, operator.admin()).await?;
    let of_this = |labels: &Value| {
        labels["namespace"] == shop.namespace.as_str() && labels["rollout"] == "web"
    };
    // Before the first scrape it is away.
    ends(&alerts, "AviaryOperatorAway", |_| true).await?;
    let garbage = r#"{"status":{"machine":{"version":99,"state":"of a newer operator"}}}"#;
    shop.kubectl(&[
        "patch",
        "canaryrollout/web",
        "--subresource=status",
        "--type=merge",
        "--patch",
        garbage,
    ])
    .await?;
    fires(&alerts, "AviaryRolloutStalled", of_this).await?;
    let gone = r#"{"status":{"machine":null}}"#;
    shop.kubectl(&[
        "patch",
        "canaryrollout/web",
        "--subresource=status",
        "--type=merge",
        "--patch",
        gone,
    ])
    .await?;
    ends(&alerts, "AviaryRolloutStalled", of_this).await?;
    tokio::task::block_in_place(|| operator.stop());
    let away = fires(&alerts, "AviaryOperatorAway", |_| true).await;
    scene.bench.restart_operator().await?;
    away
}

/// A day in which the operator is away from the eleventh hour on: who has a certificate of 24 hours hears of it half a day before its end.
pub(crate) async fn a_certificate_that_is_not_renewed_is_told_of_long_before_its_end(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let log = scene.bench.operator.log();
    let directory = log.parent().expect("the log is in a directory");
    let series = |name: &str, pod: &str, seconds: u32| {
        json!({
            "series": format!("aviary_identity_{name}_timestamp_seconds{{namespace='shop',pod='{pod}'}}"),
            "values": format!("{seconds}x1500"),
        })
    };
    let [overdue, expires] = ["AviaryPodCertificateOverdue", "AviaryPodCertificateExpires"];
    let seen = [
        ("11h", overdue, false),
        ("12h10m", overdue, false),
        ("12h20m", overdue, true),
        ("22h59m", expires, false),
        ("23h1m", expires, true),
        ("23h1m", overdue, true),
    ];
    let seen = seen.map(|(at, alert, fires)| {
        let firing = format!("count(ALERTS{{alertname='{alert}',alertstate='firing'}})");
        let one = json!({"labels": "{}", "value": 1});
        let samples: Vec<Value> = fires.then_some(one).into_iter().collect();
        json!({"expr": firing, "eval_time": at, "exp_samples": samples})
    });
    let tests = json!([{
        "interval": "1m",
        "input_series": [
            series("renewal_due", "web-1", 12 * 3600),
            series("expiry", "web-1", 24 * 3600),
            // Its certificate is of this morning.
            series("renewal_due", "web-2", 24 * 3600),
            series("expiry", "web-2", 36 * 3600),
        ],
        "promql_expr_test": seen,
    }]);
    Ok(simulated(&directory.join("simulated"), &tests)?)
}
