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
    let annotate = async |annotation: &str| {
        let annotate = ["annotate", "service/web", annotation];
        shop.try_kubectl(&annotate, "").await
    };
    let refused = annotate("aviary.dev/max-requests=few").await?;
    let says = "annotation aviary.dev/max-requests: 'few' is no number from 1 to 4294967295";
    ensure!(
        !refused.ok && refused.to_string().contains(says),
        "{refused}"
    );
    for right in [
        "aviary.dev/request-timeout=1m30s",
        "aviary.dev/retry-on=reset,503",
    ] {
        let annotated = annotate(right).await?;
        ensure!(annotated.ok, "{annotated}");
    }
    let contradicts = annotate("aviary.dev/retry-timeout=2m").await?;
    let says = "aviary.dev/request-timeout lets the whole call take 90s";
    ensure!(
        !contradicts.ok && contradicts.to_string().contains(says),
        "{contradicts}"
    );
    let pod = caller::pods(&shop)
        .await?
        .pop()
        .context("there is no pod")?;
    let bounds = caller::told(&shop, &pod, |snapshot| {
        let routes = snapshot.routes.values().flatten();
        let mut bounds = routes.map(|route| route.bounds.clone());
        Ok(bounds.find(|bounds| bounds.retries.is_some()))
    });
    let bounds = bounds.await?;
    let retries = bounds.retries.context("nothing is sent again")?;
    let allowed = Bounds {
        request: Some(Duration::from_secs(90)),
        retries: Some(retries),
        ..Bounds::default()
    };
    ensure!(bounds == allowed, "{bounds:?}");
    let on: Vec<String> = retries.on.iter().map(|each| each.to_string()).collect();
    ensure!(on == ["reset", "503"], "{on:?}");
    Ok(())
}
