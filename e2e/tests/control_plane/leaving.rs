//! Aviary goes from the cluster, and the Deployments stay.

use std::time::Duration;

use anyhow::ensure;
use aviary_e2e::control_plane::{Plan, Shop};
use aviary_e2e::harness::{Waited, eventually};
use serde_json::Value;
use tokio::task::block_in_place;

use super::hall::Scene;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/default");
const PATIENCE: Duration = Duration::from_secs(120);

/// Those of cases before this one are on their way out.
async fn only_ours(scene: &Scene<'_>, ours: &[&Shop<'_>]) -> anyhow::Result<()> {
    let all = "-o=jsonpath={.items[*].metadata.namespace}";
    let all = ["get", "canaryrollouts", "--all-namespaces", all];
    let ours: Vec<&str> = ours.iter().map(|shop| shop.namespace.as_str()).collect();
    let gone = eventually("no other CanaryRollout is left", PATIENCE, || async {
        match scene.bench.kubectl.run(&all).await {
            Ok(said) if said.stdout.split(' ').all(|it| ours.contains(&it)) => {
                Waited::There(Ok(()))
            }
            Ok(said) => Waited::not_yet(said),
            Err(error) => Waited::There(Err(error)),
        }
    });
    Ok(gone.await??)
}

/// Serves with three pods of v1, unpaused, and nothing of ours is on it.
async fn is_its_owners(shop: &Shop<'_>) -> anyhow::Result<()> {
    let web = shop.get("deployment/web").await?;
    ensure!(web["spec"]["paused"] != true, "{web}");
    ensure!(web["status"]["updatedReplicas"] == 3, "{web}");
    ensure!(web["status"]["readyReplicas"] == 3, "{web}");
    let image = web.pointer("/spec/template/spec/containers/0/image");
    ensure!(
        image
            .and_then(Value::as_str)
            .is_some_and(|it| it.ends_with(":v1")),
        "{web}"
    );
    ensure!(!web.to_string().contains("aviary.dev/Released"), "{web}");
    let labels = web["metadata"]["labels"].to_string();
    ensure!(!labels.contains("aviary.dev"), "{web}");
    Ok(())
}

pub(crate) async fn after_uninstall_and_delete_every_deployment_serves_on_and_is_its_owners(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let namespace = |what: &str| format!("{}-{what}", scene.namespace);
    let plan = Plan::default().soaking_at(50);
    let releases = scene.shop_with(&plan).await?;
    let failed = Shop::open(scene.bench, &namespace("failed"), &Plan::default()).await?;
    let rests = Shop::open(scene.bench, &namespace("rests"), &plan).await?;
    let shops = [&releases, &failed, &rests];
    only_ours(scene, &shops).await?;
    releases.soak("v2").await?;
    failed.fail("v3").await?;
    let pods = |shop: &Shop<'_>| {
        let seen = shop.seen();
        let stable = seen.revisions().into_iter().find(|it| it.version == "v1");
        stable.map(|it| it.uid)
    };
    let before: Vec<_> = shops.iter().map(|shop| pods(shop)).collect();

    let plugin = scene.bench.plugin().await?;
    let ended = plugin
        .run(&["uninstall", "--all-namespaces", "--yes"])
        .await?;
    ensure!(ended.code == Some(0), "{ended}");
    for shop in shops {
        shop.until("nothing of ours is on the Deployment", |seen| {
            let gone = seen.rollout("web").is_none() && seen.copies().is_empty();
            let said = seen.condition_of("web", "aviary.dev/Released").is_some();
            let web = seen.deployment("web")?;
            let labels = web.metadata.labels.clone().unwrap_or_default();
            (gone && !said && !labels.contains_key("aviary.dev/rollout")).then_some(())
        })
        .await?;
        is_its_owners(shop).await?;
    }

    // The rest goes as it came, and the operator with it.
    block_in_place(|| scene.bench.operator.stop());
    let delete = [
        "delete",
        "-k",
        CONFIG,
        "--ignore-not-found",
        "--timeout=120s",
    ];
    let deleted = scene.bench.kubectl.run(&delete).await?;
    let looked = async {
        ensure!(deleted.ok, "{deleted}");
        for shop in shops {
            is_its_owners(shop).await?;
        }
        let after: Vec<_> = shops.iter().map(|shop| pods(shop)).collect();
        ensure!(before == after, "the same ReplicaSets serve");
        // It rolls by its own strategy again, and asks nobody.
        rests.change_to("v2").await?;
        rests
            .until("v2 serves", |seen| (seen.ready("v2") == 3).then_some(()))
            .await?;
        anyhow::Ok(())
    };
    let looked = looked.await;
    scene.bench.install_again().await?;
    for shop in [&failed, &rests] {
        shop.close().await?;
    }
    looked
}
