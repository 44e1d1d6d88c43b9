//! What people ask of a release: that it is done, that it is known who asked, and that GitOps neither reverts nor repeats it.

use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Plan, Seen, Shop};
use serde_json::{Value, json};

use super::hall::Scene;

const REQUEST: &str = "aviary.dev/request";
const BY: &str = "aviary.dev/requested-by";

/// `kubectl annotate`, by whoever the tests are.
async fn ask(shop: &Shop<'_>, asked: &str) -> anyhow::Result<()> {
    let annotation = format!("{REQUEST}={asked}");
    shop.kubectl(&["annotate", "--overwrite", "canaryrollout/web", &annotation])
        .await?;
    Ok(())
}

fn annotation<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    let rollout = seen.rollout("web")?;
    let annotations = rollout.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// Nothing is asked any more.
fn is_answered(seen: &Seen) -> bool {
    annotation(seen, REQUEST).is_none() && annotation(seen, BY).is_none()
}

fn canary(seen: &Seen) -> String {
    let revision = seen.status("/canary/revision").as_str();
    revision.unwrap_or_default().to_owned()
}

/// The newest decision of this kind.
fn decision<'a>(seen: &'a Seen, kind: &str) -> Option<&'a Value> {
    let all = seen.status("/decisions").as_array()?;
    all.iter().rev().find(|each| each["decision"] == kind)
}

/// Who the tests are to the API server.
async fn me(shop: &Shop<'_>) -> anyhow::Result<String> {
    let said = shop.kubectl(&["auth", "whoami", "--output=json"]).await?;
    let said: Value = serde_json::from_str(&said.stdout)?;
    let name = said.pointer("/status/userInfo/username");
    let name = name.and_then(Value::as_str);
    Ok(name.context("kubectl knows who it is")?.to_owned())
}

pub(crate) async fn an_aborted_release_goes_to_0_and_is_tried_again_when_somebody_asks(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let me = me(&shop).await?;
    let seen = shop.soak("v2").await?;
    let (revision, run) = (canary(&seen), seen.status("/canary/run").clone());
    ask(&shop, &format!("abort:{revision}")).await?;
    let seen = shop
        .until("it is aborted, and the request is gone", |seen| {
            let over = seen.phase() == "Failed" && seen.weight() == 0 && seen.copies().is_empty();
            (over && is_answered(seen) && seen.has_event("RolledBack")).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.reason("RolledBack") == "Aborted", "{seen}");
    let said = format!("{me} aborted it");
    ensure!(seen.says(&said) && seen.told_of(&said), "{seen}");
    let by = decision(&seen, "RolledBack").map(|decision| &decision["by"]);
    ensure!(by == Some(&json!(me)), "{by:?}: {seen}");
    ensure!(!seen.has_event("RequestIgnored"), "{seen}");

    shop.plan(&Plan::default()).await?;
    let again = shop
        .never(
            "it is tried again by itself",
            Duration::from_secs(3),
            |seen| (seen.phase() != "Failed").then_some(()),
        )
        .await;
    ensure!(again.is_ok(), "nobody asked: {}", shop.seen());
    ask(&shop, &format!("retry:{revision}")).await?;
    let seen = shop
        .until("it is promoted", |seen| {
            (seen.is_stable() && seen.ready("v2") == 3).then(|| seen.clone())
        })
        .await?;
    ensure!(
        seen.status("/canary/run").as_i64() > run.as_i64(),
        "it is another run: {seen}"
    );
    let by = decision(&seen, "Retried").map(|decision| &decision["by"]);
    ensure!(by == Some(&json!(me)), "{by:?}: {seen}");
    Ok(())
}

pub(crate) async fn an_abort_while_nothing_is_released_changes_nothing_and_is_said(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    let stable = shop.seen().stable().to_owned();
    ask(&shop, &format!("abort:{stable}")).await?;
    let seen = shop
        .until("it is taken away, and an Event says why", |seen| {
            (is_answered(seen) && seen.has_event("RequestIgnored")).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.is_stable() && seen.ready("v1") == 3, "{seen}");
    ensure!(seen.told_of("nothing is released"), "{seen}");
    Ok(())
}

pub(crate) async fn a_release_that_a_person_has_paused_waits_and_gitops_does_not_resume_it(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    // Long enough to be paused meanwhile on a machine with much to do.
    let plan = Plan::default().with(
        "/steps",
        json!([{"weight": 50, "soak": "15s"}, {"weight": 100, "soak": "1s"}]),
    );
    let shop = scene.shop_with(&plan).await?;
    let me = me(&shop).await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("it has begun", |seen| {
            (seen.weight() == 50).then(|| seen.clone())
        })
        .await?;
    let revision = canary(&seen);
    ask(&shop, &format!("pause:{revision}")).await?;
    let seen = shop
        .until("it is paused", |seen| {
            (seen.phase() == "Paused" && is_answered(seen)).then(|| seen.clone())
        })
        .await?;
    ensure!(*seen.status("/pausedBy/user") == json!(me), "{seen}");
    ensure!(seen.says(&format!("resume:{revision}")), "{seen}");
    ensure!(seen.condition("Stalled") == "False", "{seen}");
    // Whatever Git has of it is applied again and again.
    for _ in 0..3 {
        shop.plan(&plan).await?;
    }
    let raised = shop
        .never("the weight rises", Duration::from_secs(18), |seen| {
            (seen.weight() > 50 || seen.phase() != "Paused").then_some(())
        })
        .await;
    ensure!(raised.is_ok(), "nobody resumed it: {}", shop.seen());
    ask(&shop, &format!("resume:{revision}")).await?;
    shop.until("it is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3 && seen.has_event("Resumed")).then_some(())
    })
    .await?;
    Ok(())
}

pub(crate) async fn whoever_promotes_now_skips_the_judgement_and_a_record_says_so(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(1)).await?;
    let me = me(&shop).await?;
    // No window passes.
    let nothing =
        json!([{"name": "errors", "prometheus": {"query": "e2e_nobody_has_this", "atMost": 0}}]);
    let plan = Plan::default().soaking_at(1);
    shop.plan(&plan.with("/analysis/checks", nothing)).await?;
    let seen = shop.soak("v2").await?;
    ask(&shop, &format!("promote-now:{}", canary(&seen))).await?;
    let seen = shop
        .until("it is promoted", |seen| {
            let promoted = seen.is_stable() && seen.ready("v2") == 3;
            (promoted && is_answered(seen) && seen.has_event("Promoted")).then(|| seen.clone())
        })
        .await?;
    let skipped = decision(&seen, "JudgementSkipped").context("a record")?;
    ensure!(skipped["by"] == json!(me), "{skipped}");
    ensure!(
        seen.told_of("skipped the judgement: Deployment web rolls"),
        "{seen}"
    );
    Ok(())
}

pub(crate) async fn an_aborted_promotion_goes_back_to_stable_and_stays_there(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop().await?;
    // The first pod of v2 in its place is not available for an hour, and takes the place of one of v1.
    let stuck = json!([{"op": "add", "path": "/spec/strategy", "value": {
        "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }}, {"op": "add", "path": "/spec/minReadySeconds", "value": 3600}, {"op": "add", "path": "/spec/progressDeadlineSeconds", "value": 7200}]);
    shop.kubectl(&[
        "patch",
        "deployment/web",
        "--type=json",
        "-p",
        &stuck.to_string(),
    ])
    .await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("the Deployment rolls, and has begun to", |seen| {
            let rolls = seen.phase() == "Promoting" && seen.ready("v1") < 3;
            rolls.then(|| seen.clone())
        })
        .await?;
    ask(&shop, &format!("abort:{}", canary(&seen))).await?;
    let seen = shop
        .until("stable serves everyone", |seen| {
            let back = seen.phase() == "Failed" && seen.weight() == 0 && seen.copies().is_empty();
            (back && is_answered(seen) && seen.ready("v1") == 3).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.is_paused() && seen.version() == "v2", "{seen}");
    ensure!(seen.has_event("PromotionAborted"), "{seen}");
    ensure!(!seen.has_event("GateBypassed"), "we had opened it: {seen}");
    Ok(())
}

pub(crate) async fn a_request_has_the_name_of_whoever_asks_and_of_nobody_else(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let me = me(&shop).await?;
    let seen = shop.soak("v2").await?;
    let revision = canary(&seen);
    let typo = shop
        .try_kubectl(
            &[
                "annotate",
                "canaryrollout/web",
                "aviary.dev/request=abrot:x",
            ],
            "",
        )
        .await?;
    ensure!(
        typo.stderr.contains("'abrot' is no verb: write promote"),
        "{}",
        typo.stderr
    );
    // The name of somebody else does not get as far as the operator.
    let pause = format!("{REQUEST}=pause:{revision}");
    let forged = format!("{BY}=mallory");
    let said = shop
        .kubectl(&["annotate", "canaryrollout/web", &pause, &forged])
        .await?;
    ensure!(said.stderr.contains("set by Aviary"), "{}", said.stderr);
    let seen = shop
        .until("it is paused", |seen| {
            (seen.phase() == "Paused" && is_answered(seen)).then(|| seen.clone())
        })
        .await?;
    ensure!(*seen.status("/pausedBy/user") == json!(me), "{seen}");
    // Nor does one that asks nothing stay.
    shop.kubectl(&["annotate", "canaryrollout/web", &forged])
        .await?;
    let stays = shop.get("canaryrollout/web").await?;
    ensure!(
        stays
            .pointer("/metadata/annotations/aviary.dev~1requested-by")
            .is_none(),
        "{stays}"
    );
    Ok(())
}

/// Runs alone: the webhooks of everybody are away.
pub(crate) async fn without_the_operator_a_request_waits_for_it_and_nobody_takes_anothers_name(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop_with(&Plan::default().soaking_at(50)).await?;
    let seen = shop.soak("v2").await?;
    let abort = format!("{REQUEST}=abort:{}", canary(&seen));
    tokio::task::block_in_place(|| scene.bench.operator.stop());
    let asked = async {
        let forged = shop
            .try_kubectl(
                &[
                    "annotate",
                    "canaryrollout/web",
                    &abort,
                    &format!("{BY}=mallory"),
                ],
                "",
            )
            .await?;
        ensure!(
            forged.stderr.contains("is the name of the user who asks"),
            "{}",
            forged.stderr
        );
        shop.kubectl(&["annotate", "canaryrollout/web", &abort])
            .await?;
        anyhow::Ok(())
    };
    let asked = asked.await;
    scene.bench.restart_operator().await?;
    asked?;
    let seen = shop
        .until("it is aborted by whomever", |seen| {
            (seen.phase() == "Failed" && is_answered(seen)).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.says("somebody, unknown aborted it"), "{seen}");
    Ok(())
}
