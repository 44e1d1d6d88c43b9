//! What disturbs everybody: the operator away, the types changed, a pod that every release sees.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::pods::SIDECAR_STARTED;
use aviary_e2e::control_plane::{Matching, Plan, Seen, Shop};
use aviary_e2e::harness::{Kubectl, Waited, eventually};
use http::StatusCode;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::hall::Scene;

/// Of a canary's weight, for which an operator that has just started waits for sidecars that it has not heard of; and what a release takes besides.
const LEASE: Duration = Duration::from_secs(210);

pub(crate) async fn a_strangers_container_named_like_the_sidecar_holds_nothing(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let deadline = json!("20s");
    let plan = Plan::default().with("/progressDeadline", deadline);
    let shop = scene.shop_with(&plan).await?;
    let elsewhere = format!("{}-else", shop.namespace);
    let kubectl = &scene.bench.kubectl;
    kubectl.ok(&["create", "namespace", &elsewhere]).await?;
    let stranger = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stranger", "annotations": {SIDECAR_STARTED: ""}},
        "spec": {"containers": [{"name": "aviary-proxy", "image": "sleep"}]},
    });
    kubectl.apply(&elsewhere, &stranger.to_string()).await?;
    let namespace = format!("--namespace={elsewhere}");
    let started = "--for=jsonpath={.status.containerStatuses[0].started}=true";
    kubectl
        .ok(&[
            "wait",
            "pod/stranger",
            &namespace,
            started,
            "--timeout=180s",
        ])
        .await?;
    let released = async {
        shop.change_to("v2").await?;
        // After a start of the operator, sidecars that it has not heard of hold a weight for one lease.
        let seen = shop
            .until_within(LEASE, "v2 is promoted, or rolled back", |seen| {
                let promoted = seen.is_stable() && seen.ready("v2") == 3;
                (promoted || seen.condition("RolledBack") == "True").then(|| seen.clone())
            })
            .await?;
        ensure!(seen.condition("RolledBack") != "True", "{seen}");
        shop.until_within(LEASE, "the copy is gone", |seen| {
            seen.copies().is_empty().then_some(())
        })
        .await?;
        shop.bench.evidence.set(&shop.namespace, 9);
        shop.change_to("v3").await?;
        shop.until_within(LEASE, "the rollback of v3 ends", |seen| {
            (seen.phase() == "Failed" && seen.copies().is_empty()).then_some(())
        })
        .await?;
        anyhow::Ok(())
    };
    let released = released.await;
    // The cases after this one must not suffer from it.
    let delete = ["delete", "namespace", &elsewhere, "--timeout=180s"];
    kubectl.ok(&delete).await?;
    released
}

pub(crate) async fn a_rollout_made_invalid_while_the_operator_was_away_can_be_deleted(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    // As stored before the type refused it.
    let types = Types::with(scene, |spec| {
        let interval = spec.pointer_mut("/analysis/properties/interval")?;
        interval.as_object_mut()?.remove("x-kubernetes-validations");
        Some(())
    })
    .await?;
    tokio::task::block_in_place(|| scene.bench.operator.stop());
    let invalid = Plan::default().with("/analysis/interval", json!("0s"));
    let stored = stored(&shop, &invalid.to_string()).await;
    let started = scene.bench.restart_operator().await;
    types.restore().await?;
    started?;
    stored?;
    shop.kubectl(&["delete", "canaryrollout/web", "--wait=false"])
        .await?;
    shop.until("the rollout and its copy are gone", |seen| {
        (seen.rollout("web").is_none() && seen.copies().is_empty()).then_some(())
    })
    .await?;
    ensure!(shop.seen().ready("v1") == 3, "{}", shop.seen());
    Ok(())
}

pub(crate) async fn an_unreadable_memory_stalls_the_release_and_changes_nothing(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.soak("v2").await?;
    tokio::task::block_in_place(|| scene.bench.operator.stop());
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
    let copy = copy_of(&shop)?;
    scene.bench.restart_operator().await?;
    let seen = shop
        .until("it is stalled and says why", |seen| {
            let says = seen.says("read") || seen.says("version");
            (seen.condition("Stalled") == "True" && says).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.stable() == before.stable(), "{seen}");
    ensure!(seen.is_paused() && seen.ready("v1") == 3, "{seen}");
    ensure!(copy_of(&shop)? == copy, "the canary is as it was: {seen}");
    let machine = seen.status("/machine/version");
    ensure!(machine == 99, "it is kept for who can read it: {machine}");
    Ok(())
}

pub(crate) async fn a_canary_that_turns_bad_while_the_api_server_is_away_is_taken_back(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    shop.soak("v2").await?;
    let away = shop.bench.wire.cut(Matching::any());
    shop.bench.evidence.set(&shop.namespace, 9);
    let began = Timestamp::now();
    // What lasts so long is the outage; nothing is waited for.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let ended = Timestamp::now();
    drop(away);
    let seen = shop
        .until("the status tells of the rollback", |seen| {
            (seen.condition("RolledBack") == "True").then(|| seen.clone())
        })
        .await?;
    let at = seen.status("/failure/at").as_str().context("no time")?;
    let at: Timestamp = at.parse()?;
    ensure!(
        at < ended,
        "it went to 0 at {at}, after the outage of {began} to {ended}: {seen}"
    );
    shop.until("the copy is gone", |seen| {
        (seen.phase() == "Failed" && seen.copies().is_empty()).then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn a_release_goes_on_from_the_same_step_when_the_operator_comes_back(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let before = shop.soak("v2").await?;
    tokio::task::block_in_place(|| scene.bench.operator.kill());
    scene.bench.restart_operator().await?;
    shop.bench.evidence.set(&shop.namespace, 9);
    let seen = shop
        .until("the operator judges again", |seen| {
            (seen.phase() == "Failed").then(|| seen.clone())
        })
        .await?;
    ensure!(seen.stable() == before.stable(), "{seen}");
    // What was not told yet when the operator was killed is lost; that it is told twice would be another run.
    ensure!(seen.events("ReleaseStarted").len() <= 1, "{seen}");
    Ok(())
}

pub(crate) async fn a_deployment_rolled_out_by_hand_while_the_operator_was_away_is_what_serves(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let before = shop.seen().stable().to_owned();
    tokio::task::block_in_place(|| scene.bench.operator.stop());
    let by_hand = async {
        // Nobody could inject a sidecar now, and pods without one have to be let in.
        let namespace = format!("namespace/{}", shop.namespace);
        let label = ["label", &namespace, "aviary.dev/inject-"];
        scene.bench.kubectl.ok(&label).await?;
        shop.kubectl(&["annotate", "deployment/web", "aviary.dev/break-glass=night"])
            .await?;
        shop.change_to("v2").await?;
        shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"])
            .await?;
        shop.kubectl(&["annotate", "deployment/web", "aviary.dev/break-glass-"])
            .await?;
        anyhow::Ok(())
    };
    let by_hand = by_hand.await;
    scene.bench.restart_operator().await?;
    by_hand?;
    let seen = shop
        .until("v2 is stable", |seen| {
            (seen.is_stable() && seen.stable() != before).then(|| seen.clone())
        })
        .await?;
    ensure!(!seen.is_paused() && seen.ready("v2") == 3, "{seen}");
    ensure!(
        !seen.has_event("ReleaseStarted") && seen.copies().is_empty(),
        "{seen}"
    );
    Ok(())
}

pub(crate) async fn a_rollout_of_a_newer_version_hides_no_other_one(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let other = Shop::empty(scene.bench, &format!("{}-else", shop.namespace)).await?;
    // A type in which a release may have another capacity.
    let types = Types::with(scene, |spec| {
        let capacity = spec.get_mut("capacity")?.as_object_mut()?;
        capacity.remove("enum").map(drop)
    })
    .await?;
    let released = async {
        // The webhook would refuse what it cannot read, and a list that has it comes with a restart.
        tokio::task::block_in_place(|| scene.bench.operator.stop());
        let unknown = Plan::default().with("/capacity", json!("Elastic"));
        stored(&other, &unknown.to_string()).await?;
        scene.bench.restart_operator().await?;
        shop.release("v2").await?;
        anyhow::Ok(())
    };
    let released = released.await;
    let deleted = other
        .kubectl(&["delete", "canaryrollout/web", "--timeout=180s"])
        .await;
    other.close().await?;
    types.restore().await?;
    scene.bench.restart_operator().await?;
    released?;
    // Nothing of ours was in its way.
    deleted?;
    Ok(())
}

pub(crate) async fn an_operator_that_waits_for_evidence_rests(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let away = json!({"address": scene.bench.no_prometheus()});
    let plan = Plan::default()
        .with("/analysis/prometheus", away)
        .with("/analysis/interval", json!("5s"));
    let shop = scene.shop_with(&plan).await?;
    shop.soak("v2").await?;
    // The soak of a second is over, and its evidence is missing.
    another_window(&shop).await?;
    let operator = &scene.bench.operator;
    let requests = || {
        let about = Matching::any().path(format!("/namespaces/{}/", shop.namespace));
        scene.bench.wire.count(&about)
    };
    let (slept, asked, began) = (operator.sleeps()?, requests(), Instant::now());
    another_window(&shop).await?;
    another_window(&shop).await?;
    let slept = operator.sleeps()?.saturating_sub(slept);
    let seconds = began.elapsed().as_secs().max(1);
    ensure!(seconds >= 5, "windows are as long as asked");
    let asked = requests() - asked;
    ensure!(asked <= 20, "{asked} requests about it in {seconds}s");
    ensure!(
        slept / seconds < SLEEPS_PER_SECOND,
        "it woke {slept} times in {seconds}s for one release that waits"
    );
    Ok(())
}

async fn another_window(shop: &Shop<'_>) -> anyhow::Result<()> {
    let last = |seen: &Seen| {
        let verdicts = seen.status("/verdicts").as_array();
        verdicts.and_then(|all| Some(all.last()?["at"].to_string()))
    };
    let before = last(&shop.seen());
    shop.until("another window", |seen| {
        (last(seen) != before).then_some(())
    })
    .await?;
    Ok(())
}

/// Of all its threads, watches of other namespaces included.
const SLEEPS_PER_SECOND: u64 = 40;

/// Other types than the operator's own, until they are restored.
struct Types<'a> {
    kubectl: &'a Kubectl,
    own: Value,
}

impl<'a> Types<'a> {
    /// `edit` is given the properties of the spec.
    async fn with(
        scene: &Scene<'a>,
        edit: impl FnOnce(&mut Value) -> Option<()>,
    ) -> anyhow::Result<Types<'a>> {
        let kubectl = &scene.bench.kubectl;
        let name = "customresourcedefinition/canaryrollouts.aviary.dev";
        let said = kubectl.ok(&["get", name, "--output=json"]).await?;
        let mut own: Value = serde_json::from_str(&said.stdout)?;
        if let Some(metadata) = own["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let mut other = own.clone();
        other
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
            .and_then(edit)
            .context("the type has not what is edited")?;
        let replace = ["replace", "-f", "-"];
        kubectl.ok_with(&replace, &other.to_string()).await?;
        Ok(Types { kubectl, own })
    }

    async fn restore(self) -> anyhow::Result<()> {
        let replace = ["replace", "-f", "-"];
        self.kubectl
            .ok_with(&replace, &self.own.to_string())
            .await?;
        Ok(())
    }
}

/// The API server takes new types in a moment later.
async fn stored(shop: &Shop<'_>, rollout: &str) -> anyhow::Result<()> {
    let stored = eventually("it is stored", Duration::from_secs(180), || async {
        match shop.try_kubectl(&["apply", "-f", "-"], rollout).await {
            Ok(said) if said.ok => Waited::There(()),
            Ok(said) => Waited::not_yet(said),
            Err(error) => Waited::not_yet(error),
        }
    });
    Ok(stored.await?)
}

fn copy_of(shop: &Shop<'_>) -> anyhow::Result<(String, Value)> {
    let seen = shop.seen();
    let copy = seen.copies().first().copied().context("there is no copy")?;
    let uid = copy.metadata.uid.clone().unwrap_or_default();
    Ok((uid, copy.data["spec"]["replicas"].clone()))
}

/// What happened meanwhile is in no watch: it has to come from a new list.
pub(crate) async fn watches_that_the_api_server_calls_too_old_are_begun_anew_and_lose_nothing(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let wire = &shop.bench.wire;
    let too_old = wire.answer(Matching::any().path("watch=true"), StatusCode::GONE);
    // Watches that are open now end, and nothing is heard of.
    drop(wire.cut(Matching::any().path("nothing-asks-for-this")));
    too_old.at_least(3).await?;
    shop.change_to("v2").await?;
    drop(too_old);
    shop.until("v2 is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3 && seen.copies().is_empty()).then_some(())
    })
    .await?;
    Ok(())
}
