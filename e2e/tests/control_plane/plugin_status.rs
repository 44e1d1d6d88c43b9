//! `kubectl aviary status` against a real API server and operator.

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Plan, Shop};
use serde_json::{Value, json};

use super::hall::Scene;

const WAIT: [&str; 4] = ["status", "web", "--wait", "--timeout=120s"];

/// `status -o json`
async fn shown(shop: &Shop<'_>) -> anyhow::Result<Value> {
    let ended = shop.plugin(&["status", "web", "--output=json"]).await?;
    ensure!(ended.code == Some(0), "{ended}");
    Ok(serde_json::from_str(&ended.stdout)?)
}

pub(crate) async fn the_plugin_waits_for_a_release_and_ends_with_the_code_of_its_end(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    // The first step lasts until the plugin has seen it.
    let steps = json!([{"weight": 50, "soak": "8s"}, {"weight": 100, "soak": "1s"}]);
    let shop = scene
        .shop_with(&Plan::default().with("/steps", steps))
        .await?;
    let ended = shop.plugin(&WAIT).await?;
    ensure!(ended.code == Some(0), "v1 serves already: {ended}");
    ensure!(ended.stdout.contains("serves everyone"), "{ended}");

    // The status speaks of v1 when the wait begins.
    shop.change_to("v2").await?;
    let ended = shop.plugin(&WAIT).await?;
    ensure!(ended.code == Some(0), "v2 is promoted: {ended}");
    let seen = shop.seen();
    ensure!(seen.version() == "v2" && !seen.is_paused(), "{seen}");
    for line in ["Soaking step 1/2", "Promoting"] {
        ensure!(ended.stderr.contains(line), "progress has {line}: {ended}");
    }

    shop.bench.evidence.set(&shop.namespace, 9);
    shop.change_to("v3").await?;
    let ended = shop.plugin(&WAIT).await?;
    ensure!(ended.code == Some(1), "v3 is rolled back: {ended}");
    ensure!(ended.stdout.contains("AnalysisFailed"), "{ended}");
    let ended = shop.plugin(&[&WAIT[..], &["-o", "json"]].concat()).await?;
    let end: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(
        ended.code == Some(1) && end["outcome"] == "RolledBack",
        "{ended}"
    );

    // The status speaks of v3, which has failed, when the wait begins.
    shop.bench.evidence.set(&shop.namespace, 0);
    shop.change_to("v4").await?;
    let ended = shop.plugin(&WAIT).await?;
    ensure!(ended.code == Some(0), "v4 is promoted: {ended}");
    Ok(())
}

pub(crate) async fn the_plugin_waits_no_longer_when_a_person_is_needed_or_another_template_comes(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let steps = json!([{"weight": 50, "soak": "1s", "pause": {}}, {"weight": 100, "soak": "1s"}]);
    let shop = scene
        .shop_with(&Plan::default().with("/steps", steps))
        .await?;
    shop.change_to("v2").await?;
    let ended = shop.plugin(&WAIT).await?;
    ensure!(ended.code == Some(4), "the step pauses: {ended}");
    ensure!(ended.stdout.contains("annotate"), "{ended}");

    shop.plan(&Plan::default().soaking_at(10)).await?;
    shop.soak("v3").await?;
    let ended = shop
        .plugin(&["status", "web", "--wait", "--timeout=1s"])
        .await?;
    ensure!(ended.code == Some(3), "it soaks for an hour: {ended}");

    let mut waits = shop.start_plugin(&WAIT).await?;
    waits.until("waiting for the release of revision").await?;
    shop.change_to("v4").await?;
    let (code, said) = waits.end().await?;
    ensure!(code == Some(1), "{said}");
    ensure!(said.contains("was superseded"), "{said}");

    shop.plan(&Plan::default().with("/suspend", json!(true)))
        .await?;
    let ended = shop.plugin(&WAIT).await?;
    ensure!(ended.code == Some(4), "it is suspended: {ended}");
    Ok(())
}

pub(crate) async fn the_plugin_shows_lists_and_follows_a_release(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let stable = shop.seen().stable().to_owned();
    let mut followed = shop
        .start_plugin(&["status", "web", "--watch", "-o", "json"])
        .await?;
    followed.until(r#""phase":"Stable""#).await?;
    let seen = shop.soak("v2").await?;
    followed.until(r#""phase":"Soaking""#).await?;
    let lines = shop.start_plugin(&["status", "web", "--watch"]).await;
    lines?.until("Soaking 1/2").await?;
    shop.until("its first window is judged", |seen| {
        (seen.status("/verdicts/0/verdict") == "Pass").then_some(())
    })
    .await?;
    let view = shown(&shop).await?;
    let plain = shop.plugin(&["status", "web"]).await?;
    let list = shop.plugin(&["status"]).await?;

    ensure!(
        view["phase"] == "Soaking" && view["stable"] == stable,
        "{view:#}"
    );
    ensure!(
        view["canary"]["revision"] == *seen.status("/canary/revision"),
        "{view:#}"
    );
    ensure!(view["newest"]["standing"] == "Running", "{view:#}");
    ensure!(
        view["newest"]["revision"] == view["canary"]["revision"],
        "the plugin finds the revision as the operator does: {view:#}"
    );
    ensure!(view["step"]["weights"] == json!([50, 100]), "{view:#}");
    ensure!(view["checks"][0]["verdict"] == "Pass", "{view:#}");
    ensure!(
        view["next"]["what"] == "weight 100%, if it passes",
        "{view:#}"
    );
    let events = view["events"].as_array().context("Events are shown")?;
    ensure!(
        events.iter().any(|it| it["reason"] == "WeightRaised"),
        "{view:#}"
    );

    for text in ["[50%] > 100%", "errors", &stable] {
        ensure!(plain.stdout.contains(text), "{text}: {plain}");
    }
    ensure!(list.stdout.contains("Soaking"), "{list}");
    Ok(())
}

pub(crate) async fn the_plugin_draws_a_release_on_a_terminal_and_leaves_it_as_it_was(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let namespace = format!("--namespace={}", shop.namespace);
    let args = ["status", "web", "--watch", &namespace];
    let ended = shop
        .bench
        .plugin()
        .await?
        .run_on_terminal(&args, "q")
        .await?;
    ensure!(ended.code == Some(0), "{ended}");
    let (screen, after) = ended
        .stdout
        .split_once("\u{1b}[?1049l")
        .with_context(|| format!("the first screen is back: {:?}", ended.stdout))?;
    ensure!(screen.contains("\u{1b}[?1049h"), "{screen:?}");
    for text in ["Stable", "q ends"] {
        ensure!(screen.contains(text), "{text}: {screen:?}");
    }
    ensure!(
        after.contains(shop.seen().stable()),
        "it stays to be read: {after:?}"
    );
    Ok(())
}

pub(crate) async fn the_plugin_says_what_is_not_there_or_not_allowed(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let ended = shop.plugin(&["status", "wbe"]).await?;
    ensure!(ended.code == Some(2), "{ended}");
    ensure!(ended.stderr.contains("there are web"), "{ended}");
    let ended = shop.plugin(&["status", "web", "--as=nobody"]).await?;
    ensure!(ended.code == Some(2), "{ended}");
    ensure!(
        ended.stderr.contains("you may not read CanaryRollouts"),
        "{ended}"
    );
    let ended = shop
        .plugin(&["status", "web", "--wait", "--timeout=soon"])
        .await?;
    ensure!(ended.code == Some(2), "{ended}");
    ensure!(ended.stderr.contains("like 500ms"), "{ended}");
    let words = ["__complete", "status", "w"];
    let ended = shop.plugin(&words).await?;
    ensure!(ended.code == Some(0), "{ended}");
    Ok(())
}
