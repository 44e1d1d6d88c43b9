//! Credentials for Prometheus, with the rights that a real API server gives the operator.

use anyhow::ensure;
use aviary_e2e::control_plane::{Plan, Seen};
use serde_json::json;

use super::hall::Scene;

/// What nobody has granted is not sent; what somebody grants and annotates is, from the next window on.
pub(crate) async fn credentials_are_used_once_they_are_granted_and_annotated(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let auth = json!({"auth": {"headers": {"secretRef": {"name": "tenant"}}}});
    let plan = Plan::default().with("/analysis/prometheus", auth);
    let shop = scene.shop_with(&plan).await?;
    shop.bench.evidence.set(&shop.namespace, 0);
    shop.kubectl(&[
        "create",
        "secret",
        "generic",
        "tenant",
        "--from-literal=X-Scope-OrgID=team-sesame",
    ])
    .await?;
    shop.change_to("v2").await?;
    let seen = shop
        .until("the Secret is not granted", |seen| {
            let words = "the operator may not get Secret tenant: allow it by a Role";
            judged(seen, words).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.weight() == 50, "it is no failure: {seen}");

    let role = [
        "create",
        "role",
        "prometheus",
        "--verb=get",
        "--resource=secrets",
        "--resource-name=tenant",
    ];
    shop.kubectl(&role).await?;
    let binding = [
        "create",
        "rolebinding",
        "prometheus",
        "--role=prometheus",
        "--serviceaccount=aviary-system:aviary-operator",
    ];
    shop.kubectl(&binding).await?;
    let before = shop
        .until("the Secret is not for this address", |seen| {
            let words = "Secret tenant is not for this address";
            judged(seen, words).then(|| seen.clone())
        })
        .await?;

    let annotation = format!("aviary.dev/credentials-for={}", shop.bench.evidence.url());
    shop.kubectl(&["annotate", "secret", "tenant", &annotation])
        .await?;
    let seen = shop
        .until("v2 is promoted", |seen| {
            (seen.is_stable() && seen.ready("v2") == 3).then(|| seen.clone())
        })
        .await?;
    // What was judged first may be forgotten by then.
    for seen in [before, seen] {
        let told = format!("{seen}{}", seen.status(""));
        ensure!(!told.contains("sesame"), "{told}");
    }
    Ok(())
}

/// Whether the reason of the newest judgement says it.
fn judged(seen: &Seen, words: &str) -> bool {
    let all = seen.status("/verdicts").as_array();
    let newest = all.and_then(|all| all.last()?["reason"].as_str());
    newest.is_some_and(|reason| reason.contains(words))
}
