//! Two replicas of the operator, of which one decides.

use std::time::Instant;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{ADDRESS, ANOTHER_ADDRESS, Matching, Operator, Plan, Seen, Shop};
use aviary_e2e::harness::{Waited, eventually};
use http::Method;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::hall::Scene;

/// Longer than anything takes on a machine that is busy with something else.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// The second replica; the first is the bench's, and decides again when this is over.
struct Pair<'a> {
    scene: &'a Scene<'a>,
    second: Operator,
}

impl<'a> Pair<'a> {
    async fn start(scene: &'a Scene<'a>) -> anyhow::Result<Pair<'a>> {
        let second = scene.bench.another_operator()?;
        block_in_place(|| second.start_standby())?;
        let pair = Pair { scene, second };
        pair.leads_to(ADDRESS).await?;
        Ok(pair)
    }

    async fn second_decides(&self) -> anyhow::Result<()> {
        eventually("the second replica decides", PATIENCE, || async {
            if self.second.decides() {
                Waited::There(())
            } else {
                Waited::not_yet("it does not")
            }
        })
        .await?;
        self.leads_to(ANOTHER_ADDRESS).await
    }

    /// Waits until proxies are led there, and nowhere else.
    async fn leads_to(&self, address: &str) -> anyhow::Result<()> {
        let kubectl = &self.scene.bench.kubectl;
        let slices = [
            "get",
            "endpointslices",
            "--namespace=aviary-system",
            "--selector=kubernetes.io/service-name=aviary-xds",
            "--output=jsonpath={.items[*].endpoints[*].addresses[*]}",
        ];
        let led = eventually(
            "proxies are led to the one that decides",
            PATIENCE,
            || async {
                match kubectl.run(&slices).await {
                    Ok(said) if said.stdout == address => Waited::There(Ok(())),
                    Ok(said) => Waited::not_yet(said),
                    Err(error) => Waited::There(Err(error)),
                }
            },
        );
        Ok(led.await??)
    }

    /// The first one decides again, for the cases after this one.
    async fn over(self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        block_in_place(|| self.second.stop());
        let restarted = self.scene.bench.restart_operator().await;
        result.context(self.second.end_of_log(20))?;
        Ok(restarted?)
    }
}

fn weight(seen: &Seen) -> Option<i64> {
    seen.status("/weight/desired").as_i64()
}

/// It fails from now on, and whoever decides takes it back.
async fn is_taken_back(shop: &Shop<'_>) -> anyhow::Result<Seen> {
    shop.bench.evidence.set(&shop.namespace, 9);
    let failed = shop.until("v2 is rolled back", |seen| {
        (seen.phase() == "Failed" && seen.copies().is_empty()).then(|| seen.clone())
    });
    Ok(failed.await?)
}

pub(crate) async fn a_replica_that_ends_hands_over_and_the_release_goes_on(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.soak("v2").await?;
    let pair = Pair::start(scene).await?;
    let result = async {
        let began = Instant::now();
        // It sends proxies away when the other one is there.
        std::thread::scope(|threads| {
            threads.spawn(|| scene.bench.operator.stop());
            block_in_place(|| Handle::current().block_on(pair.second_decides()))?;
            eprintln!("handed over in {:?}", began.elapsed());
            anyhow::Ok(())
        })?;
        let seen = shop.seen();
        ensure!(weight(&seen) == weight(&before), "the weight stays: {seen}");
        let seen = is_taken_back(&shop).await?;
        ensure!(seen.stable() == before.stable(), "{seen}");
        ensure!(seen.events("ReleaseStarted").len() == 1, "one run: {seen}");
        Ok(())
    };
    let result = result.await;
    pair.over(result).await
}

pub(crate) async fn a_replica_that_dies_is_succeeded_and_the_release_goes_on(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.soak("v2").await?;
    let pair = Pair::start(scene).await?;
    let result = async {
        let began = Instant::now();
        block_in_place(|| scene.bench.operator.kill());
        pair.second_decides().await?;
        eprintln!("succeeded in {:?}", began.elapsed());
        let seen = shop.seen();
        ensure!(weight(&seen) == weight(&before), "the weight stays: {seen}");
        // The one that died comes back, and stands by.
        block_in_place(|| scene.bench.operator.start_standby())?;
        let seen = is_taken_back(&shop).await?;
        ensure!(seen.stable() == before.stable(), "{seen}");
        Ok(())
    };
    let result = result.await;
    pair.over(result).await
}

/// The raise was earned, decided and on its way when everything stood still; meanwhile another replica has taken the release back.
pub(crate) async fn a_replica_that_stood_still_during_a_write_raises_nothing(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let stable = shop.seen().stable().to_owned();
    let pair = Pair::start(scene).await?;
    let result = async {
        let status = format!("/namespaces/{}/canaryrollouts/web/status", shop.namespace);
        let raise = Matching::method(Method::PUT)
            .path(status)
            .body(r#""desired":100"#);
        let raise = shop.bench.wire.hold(raise);
        shop.change_to("v2").await?;
        raise.at_least(1).await?;
        scene.bench.operator.freeze();
        pair.second_decides().await?;
        let seen = is_taken_back(&shop).await?;
        let failed_at = seen.status("/failure/at").clone();
        // Both go on: the write, and the process.
        drop(raise);
        scene.bench.operator.thaw();
        eventually("the first replica has ended", PATIENCE, || async {
            if scene.bench.operator.is_alive() {
                Waited::not_yet("it has not")
            } else {
                Waited::There(())
            }
        })
        .await?;
        ensure!(pair.second.decides(), "one decides");
        let rollout = shop.get("canaryrollout/web").await?;
        let at = |pointer: &str| rollout.pointer(pointer).cloned().unwrap_or(Value::Null);
        ensure!(at("/status/phase") == "Failed", "{rollout}");
        ensure!(at("/status/failure/at") == failed_at, "{rollout}");
        let seen = shop.seen();
        ensure!(seen.stable() == stable && seen.ready("v1") == 3, "{seen}");
        ensure!(seen.is_paused() && seen.copies().is_empty(), "{seen}");
        Ok(())
    };
    let result = result.await;
    scene.bench.operator.thaw();
    pair.over(result).await
}
