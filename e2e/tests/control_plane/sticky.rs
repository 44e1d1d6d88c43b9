//! Splits that follow people.

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Plan, Shop};
use serde_json::json;
use traffic_core::split::sticky::Key;

use super::caller;
use super::hall::Scene;

pub(crate) async fn callers_are_told_whose_requests_stay_together(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::with_deployment(scene.bench, &scene.namespace, |_| {}).await?;
    let sticky = json!({"sticky": {"cookie": "uid"}});
    shop.adopt(&Plan::default().soaking_at(50).with("/split", sticky))
        .await?;
    shop.soak("v2").await?;
    let pod = caller::pods(&shop)
        .await?
        .pop()
        .context("there is no pod")?;
    let canary = caller::told(&shop, &pod, |snapshot| {
        let routes = snapshot.routes.values().flatten();
        let mut canaries = routes.filter_map(|route| route.split.canary.clone());
        Ok(canaries.find(|canary| canary.weight.units() > 0))
    });
    let canary = canary.await?;
    ensure!(canary.sticky == Key::cookie("uid").ok(), "{canary:?}");
    ensure!(canary.weight.units() == 50_000, "{canary:?}");
    Ok(())
}
