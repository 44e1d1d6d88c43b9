//! `kubectl aviary abort` and its like against a real API server and operator.

use anyhow::ensure;
use aviary_e2e::control_plane::Plan;

use super::hall::Scene;

pub(crate) async fn the_plugin_refuses_what_makes_no_sense_and_names_the_right_that_is_missing(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    for verb in ["abort", "pause", "resume", "promote", "retry"] {
        let ended = shop.plugin(&[verb, "web"]).await?;
        ensure!(ended.code == Some(1), "{verb} at rest: {ended}");
    }
    let ended = shop.plugin(&["abort", "web"]).await?;
    ensure!(
        ended.stderr.contains("nothing is being released"),
        "{ended}"
    );

    shop.soak("v2").await?;
    let ended = shop.plugin(&["promote", "web"]).await?;
    ensure!(ended.code == Some(1), "{ended}");
    ensure!(ended.stderr.contains("waits for nobody"), "{ended}");
    let ended = shop.plugin(&["abort", "web", "--revision=another"]).await?;
    ensure!(ended.code == Some(1), "{ended}");

    // Jane may look, and nothing else.
    let look = [
        "create",
        "rolebinding",
        "jane",
        "--clusterrole=aviary-view",
        "--user=jane",
    ];
    shop.kubectl(&look).await?;
    let ended = shop.plugin(&["status", "web", "--as=jane"]).await?;
    ensure!(ended.code == Some(0), "{ended}");
    let ended = shop.plugin(&["abort", "web", "--as=jane"]).await?;
    ensure!(ended.code == Some(2), "{ended}");
    ensure!(
        ended.stderr.contains("the ClusterRole aviary-release"),
        "{ended}"
    );
    ensure!(shop.seen().phase() == "Soaking", "{}", shop.seen());
    Ok(())
}
