//! Hooks, with a server that agrees, refuses and hangs: what waits for it, and what does not.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Plan, Reply, Seen, Shop, list};
use aviary_e2e::harness::{Waited, eventually};
use serde_json::{Value, json};

use super::hall::Scene;

const HOOK: &str = "load-test";

/// The plan with this hook, which leads to the test's receiver.
fn plan(scene: &Scene<'_>, more: &Value) -> Plan {
    let mut hook = json!({
        "name": HOOK, "when": "BeforeStep", "url": scene.bench.receiver.url(&scene.namespace, HOOK),
        "retries": 1, "interval": "1s",
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    hook.as_object_mut().expect("it is one").extend(fields);
    Plan::default().with("/hooks", json!([hook]))
}

fn reply(scene: &Scene<'_>, reply: Reply) {
    scene.bench.receiver.reply(&scene.namespace, HOOK, reply);
}

fn heard(scene: &Scene<'_>) -> usize {
    scene.bench.receiver.heard(&scene.namespace, HOOK).len()
}

/// Waits until it was called more often than this. No object changes by it.
async fn called(scene: &Scene<'_>, more_than: usize) -> anyhow::Result<()> {
    let what = format!("the hook is called more than {more_than} times");
    let calls = || async {
        match heard(scene) {
            calls if calls > more_than => Waited::There(()),
            calls => Waited::not_yet(calls),
        }
    };
    Ok(eventually(&what, Duration::from_secs(180), calls).await?)
}

/// Waits until the release waits for the hook, for this reason.
async fn waits(shop: &Shop<'_>, reason: &str) -> anyhow::Result<Seen> {
    let what = format!("the release waits: {reason}");
    let seen = shop
        .until(&what, |seen| {
            (seen.reason("Reconciling") == reason).then(|| seen.clone())
        })
        .await?;
    Ok(seen)
}

pub(crate) async fn a_hook_is_asked_before_every_weight_and_the_release_waits_for_its_yes(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&plan(scene, &json!({}))).await?;
    reply(scene, Reply::Status(503));
    shop.change_to("v2").await?;
    let seen = waits(&shop, "HookFailed").await?;
    ensure!(seen.weight() == 0, "{seen}");
    ensure!(seen.condition("Stalled") == "True", "{seen}");
    ensure!(
        seen.message()
            .contains("waiting for hook load-test before weight 50%: tried ")
            && seen.message().contains("(HTTP status 503)"),
        "{seen}"
    );
    shop.until("an Event says so", |seen| {
        seen.has_event("HookFailed").then_some(())
    })
    .await?;
    called(scene, heard(scene) + 1).await?;
    ensure!(shop.seen().weight() == 0, "{}", shop.seen());
    reply(scene, Reply::Status(200));
    shop.until("it is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3).then_some(())
    })
    .await?;
    let calls = scene.bench.receiver.heard(&scene.namespace, HOOK);
    let last = calls.last().context("it was called")?;
    ensure!(last.body["nextWeight"] == 100, "{}", last.body);
    ensure!(last.body["weight"] == 50, "{}", last.body);
    let keys: std::collections::BTreeSet<&str> = calls
        .iter()
        .map(|call| call.header("idempotency-key"))
        .collect();
    ensure!(keys.len() == 2, "one for each step: {keys:?}");
    Ok(())
}

pub(crate) async fn a_hook_that_hangs_delays_no_rollback(scene: &Scene<'_>) -> anyhow::Result<()> {
    let slow = json!({"weights": [100], "timeout": "60s"});
    let shop = scene.shop_with(&plan(scene, &slow)).await?;
    reply(scene, Reply::Hang);
    shop.change_to("v2").await?;
    let seen = waits(&shop, "HookWaiting").await?;
    ensure!(seen.weight() == 50, "{seen}");
    called(scene, 0).await?;
    let begun = Instant::now();
    shop.change_to("v1").await?;
    shop.until("everyone has v1", |seen| {
        (seen.is_stable() && seen.copies().is_empty()).then_some(())
    })
    .await?;
    ensure!(
        begun.elapsed() < Duration::from_secs(45),
        "the call that hangs was waited for: {:?}",
        begun.elapsed()
    );
    ensure!(heard(scene) == 1, "{}", heard(scene));
    Ok(())
}

pub(crate) async fn a_hook_that_rolls_back_takes_the_canary_away(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let hook = json!({"weights": [100], "onFailure": "Rollback"});
    let shop = scene.shop_with(&plan(scene, &hook)).await?;
    reply(scene, Reply::Status(500));
    shop.change_to("v2").await?;
    let seen = shop
        .until("it is rolled back", |seen| {
            (seen.phase() == "Failed" && seen.copies().is_empty()).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.reason("RolledBack") == "HookRefused", "{seen}");
    ensure!(
        seen.message()
            .contains("a hook did not agree (hook load-test: HTTP status 500)"),
        "{seen}"
    );
    Ok(())
}

pub(crate) async fn a_gate_is_asked_until_it_agrees_and_the_promotion_too(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene
        .shop_with(&plan(scene, &json!({"when": "Gate"})))
        .await?;
    reply(scene, Reply::Status(409));
    shop.change_to("v2").await?;
    let seen = waits(&shop, "HookWaiting").await?;
    called(scene, 3).await?;
    ensure!(shop.seen().condition("Stalled") == "False", "{seen}");
    reply(scene, Reply::Status(204));
    shop.until("it is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3).then_some(())
    })
    .await?;
    let calls = scene.bench.receiver.heard(&scene.namespace, HOOK);
    let last = calls.last().context("it was called")?;
    ensure!(
        last.header("idempotency-key").contains("/promotion/"),
        "{:?}",
        last.headers
    );
    Ok(())
}

/// With nothing but a Role for that one name.
pub(crate) async fn a_call_is_signed_with_the_secret_that_was_opened_for_it(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let signed = plan(scene, &json!({"secretRef": {"name": "hook"}}));
    let shop = scene.shop_with(&signed).await?;
    shop.change_to("v2").await?;
    shop.until("the status says what is missing", |seen| {
        seen.message()
            .contains("the operator may not read Secret hook")
            .then_some(())
    })
    .await?;
    let secret = |is_for: &str| {
        let annotations = json!({"aviary.dev/credentials-for": is_for});
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook", "annotations": annotations},
            "stringData": {"hmac-key": "0123456789abcdef", "token": "s3cret"},
        })
    };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "aviary-hooks"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hook"], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "aviary-hooks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "aviary-hooks"},
        "subjects": [{"kind": "ServiceAccount", "name": "aviary-operator", "namespace": "aviary-system"}],
    });
    shop.apply(&list(&[secret("https://elsewhere.example"), role, binding]))
        .await?;
    shop.until("the status says that it is for another", |seen| {
        seen.message()
            .contains("Secret hook is not for this address")
            .then_some(())
    })
    .await?;
    ensure!(heard(scene) == 0, "nobody was called without a signature");
    let address = scene.bench.receiver.origin();
    shop.apply(&secret(&address).to_string()).await?;
    shop.until("it is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3).then_some(())
    })
    .await?;
    let calls = scene.bench.receiver.heard(&scene.namespace, HOOK);
    let call = calls.first().context("it was called")?;
    ensure!(call.header("authorization") == "Bearer s3cret");
    ensure!(call.header("x-aviary-signature").starts_with("sha256="));
    let seconds: i64 = call.header("x-aviary-timestamp").parse()?;
    ensure!(seconds > 1_700_000_000, "{seconds}");
    Ok(())
}

/// In both ways that a release can end.
pub(crate) async fn a_hook_is_told_how_a_release_ended_and_holds_nothing(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let told = plan(scene, &json!({"when": "AfterResult", "retries": 10}));
    let shop = scene.shop_with(&told).await?;
    reply(scene, Reply::Status(500));
    shop.release("v2").await?;
    called(scene, 1).await?;
    reply(scene, Reply::Status(200));
    let result = |of: &'static str| {
        let find = move || async move {
            let calls = scene.bench.receiver.heard(&scene.namespace, HOOK);
            match calls.into_iter().find(|call| call.body["result"] == of) {
                Some(call) => Waited::There(call.body),
                None => Waited::not_yet("nobody was told"),
            }
        };
        eventually("the result is told", Duration::from_secs(180), find)
    };
    let promoted = result("Promoted").await?;
    ensure!(promoted["weight"] == 100, "{promoted}");
    shop.fail("v3").await?;
    let rolled_back = result("RolledBack").await?;
    ensure!(rolled_back["cause"] == "AnalysisFailed", "{rolled_back}");
    ensure!(rolled_back["run"] != promoted["run"], "{rolled_back}");
    shop.until("it is written that everybody knows", |seen| {
        let ended = seen.status("/machine/ended").as_array()?;
        ended.is_empty().then_some(())
    })
    .await?;
    Ok(())
}

/// Notifications of all cases go to one room.
pub(crate) async fn what_happens_to_releases_is_told_to_the_room(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let hook = json!({"weights": [50], "retries": 0});
    let shop = scene.shop_with(&plan(scene, &hook)).await?;
    reply(scene, Reply::Status(500));
    shop.change_to("v2").await?;
    waits(&shop, "HookFailed").await?;
    reply(scene, Reply::Status(200));
    shop.until("it is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3).then_some(())
    })
    .await?;
    shop.fail("v3").await?;
    let expected = [
        "Started",
        "Stalled",
        "WeightRaised",
        "WeightRaised",
        "Promoted",
        "Started",
        "WeightRaised",
        "RolledBack",
    ];
    let told = || async {
        let heard = scene.bench.receiver.heard("notify", "room");
        let mine = heard.iter().map(|call| &call.body);
        let mine = mine.filter(|body| body["namespace"] == scene.namespace.as_str());
        let events: Vec<String> = mine
            .filter_map(|body| Some(body["event"].as_str()?.to_owned()))
            .collect();
        match events == expected {
            true => Waited::There(()),
            false => Waited::not_yet(format!("{events:?}")),
        }
    };
    Ok(eventually("the room is told", Duration::from_secs(180), told).await?)
}
