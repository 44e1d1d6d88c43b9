//! What is shipped for Prometheus, with a real operator behind it.

use std::time::Duration;

use aviary_e2e::control_plane::{Alerts, Plan};
use aviary_e2e::harness::{Waited, eventually};
use serde_json::Value;

use super::hall::Scene;

const PATIENCE: Duration = Duration::from_secs(60);

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
