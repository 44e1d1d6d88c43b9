//! What the owner of a Service says of calls to it.

use std::time::Duration;

use anyhow::{Context, ensure};
use traffic_core::bounds::Bounds;

use super::caller;
use super::hall::Scene;

pub(crate) async fn callers_are_told_how_long_a_call_may_take(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let annotate = [
        "annotate",
        "service/web",
        "aviary.dev/request-timeout=1m30s",
        "aviary.dev/max-requests=few",
    ];
    let annotated = shop.try_kubectl(&annotate, "").await?;
    ensure!(annotated.ok, "{annotated}");
    let pod = caller::pods(&shop)
        .await?
        .pop()
        .context("there is no pod")?;
    let bounds = caller::told(&shop, &pod, |snapshot| {
        let routes = snapshot.routes.values().flatten();
        let mut bounds = routes.map(|route| route.bounds);
        Ok(bounds.find(|bounds| *bounds != Bounds::default()))
    });
    let only_the_time = Bounds {
        request: Some(Duration::from_secs(90)),
        ..Bounds::default()
    };
    let bounds = bounds.await?;
    ensure!(bounds == only_the_time, "{bounds:?}");
    Ok(())
}
