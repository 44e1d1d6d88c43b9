//! What Argo CD and Flux would say of a release: the health checks that are shipped, run by an interpreter of their language, on
//! every version of the objects that there was.

mod argo;
mod flux;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Plan, Seen, Shop};
use aviary_e2e::harness::{Waited, eventually};
use serde_json::{Value, json};

use super::hall::Scene;
use argo::Argo;
use flux::Flux;
use versions::{Versions, condition};

/// Longer than anything takes on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(180);

/// The table of `docs/gitops.md`: how a CanaryRollout is, by its phase. `Paused` is once a pause and once a failure.
const ROLLOUT: &[(&str, &[&str], &[&str])] = &[
    (
        "Stable",
        &["Healthy", "Progressing"],
        &["Current", "InProgress"],
    ),
    ("Unsettled", &["Progressing"], &["InProgress"]),
    ("Starting", &["Progressing"], &["InProgress"]),
    ("Scaling", &["Progressing"], &["InProgress"]),
    ("Shifting", &["Progressing"], &["InProgress"]),
    ("Soaking", &["Progressing"], &["InProgress"]),
    (
        "Paused",
        &["Suspended", "Degraded"],
        &["InProgress", "Failed"],
    ),
    ("Promoting", &["Progressing"], &["InProgress"]),
    ("RollingBack", &["Progressing"], &["InProgress"]),
    ("Failed", &["Degraded"], &["Failed"]),
];

/// How its Deployment is, by the reason of `aviary.dev/Released`.
const DEPLOYMENT: &[(&str, &str, &str)] = &[
    ("Starting", "Progressing", "InProgress"),
    ("Scaling", "Progressing", "InProgress"),
    ("Shifting", "Progressing", "InProgress"),
    ("Soaking", "Progressing", "InProgress"),
    ("Paused", "Suspended", "InProgress"),
    ("Promoting", "Progressing", "InProgress"),
    ("RollingBack", "Progressing", "InProgress"),
    ("RolledBack", "Degraded", "Failed"),
    ("FailurePaused", "Degraded", "Failed"),
];

/// Both tools' word on one version of an object.
struct Judges {
    argo: Argo,
    flux: Flux,
}

impl Judges {
    fn new() -> anyhow::Result<Judges> {
        Ok(Judges {
            argo: Argo::new()?,
            flux: Flux::new()?,
        })
    }

    fn of(&self, object: &Value) -> anyhow::Result<(String, String)> {
        let argo = self.argo.health(object);
        let flux = self.flux.status(object);
        Ok((
            argo.with_context(|| object.to_string())?,
            flux.with_context(|| object.to_string())?,
        ))
    }
}

/// The version in the template.
fn version(deployment: &Value) -> &str {
    let image = deployment.pointer("/spec/template/spec/containers/0/image");
    let image = image.and_then(Value::as_str).unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default()
}

/// Nobody is told yes before the version is stable, nor no of one that has not failed.
fn deployments_are_told_true(
    judges: &Judges,
    versions: &Versions,
    failed: &BTreeSet<&str>,
) -> anyhow::Result<BTreeSet<String>> {
    let mut reasons = BTreeSet::new();
    for deployment in versions.of("Deployment") {
        let version = version(&deployment).to_owned();
        let (argo, flux) = judges.of(&deployment)?;
        let said = condition(&deployment, "aviary.dev/Released");
        let said = |field: &str| said.map_or("", |it| it[field].as_str().unwrap_or_default());
        let about = || format!("{argo} and {flux} of {deployment}");
        if argo == "Healthy" || flux == "Current" {
            let serves = said("status") == "True" || said("status").is_empty();
            ensure!(
                serves && deployment["spec"]["paused"] != true,
                "{}",
                about()
            );
        }
        if argo == "Degraded" || flux == "Failed" {
            ensure!(failed.contains(version.as_str()), "{}", about());
        }
        // What is about the generation before is on its way.
        let generation = &deployment["metadata"]["generation"];
        let old = said("status") == "False"
            && !said("message").starts_with(&format!("generation {generation}: "));
        for (reason, expected, status) in DEPLOYMENT {
            if said("reason") == *reason {
                let (expected, status) = if old {
                    ("Progressing", "InProgress")
                } else {
                    (*expected, *status)
                };
                // A generation that the Deployment controller has not seen is in progress to Flux, whatever it is.
                let seen = deployment["status"]["observedGeneration"] == *generation;
                ensure!(argo == expected, "{}", about());
                ensure!(flux == status || !seen, "{}", about());
            }
        }
        reasons.insert(said("reason").to_owned());
    }
    Ok(reasons)
}

fn rollouts_are_told_true(
    judges: &Judges,
    versions: &Versions,
) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rollout in versions.of("CanaryRollout") {
        let phase = rollout["status"]["phase"].as_str().unwrap_or_default();
        let (argo, flux) = judges.of(&rollout)?;
        let is = |type_: &str| condition(&rollout, type_).is_some_and(|it| it["status"] == "True");
        ensure!((argo == "Healthy") == is("Ready"), "{argo}: {rollout}");
        ensure!((flux == "Current") == is("Ready"), "{flux}: {rollout}");
        ensure!((argo == "Degraded") == is("Stalled"), "{argo}: {rollout}");
        ensure!((flux == "Failed") == is("Stalled"), "{flux}: {rollout}");
        for (of, argos, fluxes) in ROLLOUT.iter().filter(|(of, ..)| *of == phase) {
            ensure!(argos.contains(&argo.as_str()), "{of}: {argo}: {rollout}");
            ensure!(fluxes.contains(&flux.as_str()), "{of}: {flux}: {rollout}");
        }
        told.entry(phase.to_owned()).or_default().insert(argo);
    }
    Ok(told)
}

/// Waits until the Deployment says it, which is a moment after the CanaryRollout does.
async fn says(shop: &Shop<'_>, status: &str, reason: &str) -> anyhow::Result<()> {
    shop.until(&format!("the Deployment says {status} {reason}"), |seen| {
        let released = seen.condition_of("web", "aviary.dev/Released")?;
        (released["status"] == status && released["reason"] == reason).then_some(())
    })
    .await?;
    Ok(())
}

async fn annotate(shop: &Shop<'_>, annotation: &str) -> anyhow::Result<()> {
    let annotate = ["annotate", "--overwrite", "canaryrollout/web", annotation];
    shop.kubectl(&annotate).await?;
    Ok(())
}

fn canary(seen: &Seen) -> &str {
    let revision = seen.status("/canary/revision").as_str();
    revision.unwrap_or_default()
}

pub(crate) async fn argo_and_flux_see_how_a_release_stands_in_every_phase(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let judges = Judges::new()?;
    let plan = Plan::default().with(
        "/steps",
        json!([{"weight": 50, "soak": "1s", "pause": {}}, {"weight": 100, "soak": "1s"}]),
    );
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    let versions = Versions::of_web(&shop);
    shop.apply(&aviary_e2e::control_plane::list(&[
        aviary_e2e::control_plane::deployment("web", "v1"),
        aviary_e2e::control_plane::service(),
    ]))
    .await?;
    shop.until("v1 serves", |seen| (seen.ready("v1") == 3).then_some(()))
        .await?;
    shop.adopt(&plan).await?;
    says(&shop, "True", "Released").await?;

    // A good one, with a pause.
    shop.change_to("v2").await?;
    says(&shop, "Unknown", "Paused").await?;
    let asked = format!("aviary.dev/request=promote:{}@50", canary(&shop.seen()));
    annotate(&shop, &asked).await?;
    shop.until("v2 is promoted", |seen| {
        (seen.is_stable() && seen.ready("v2") == 3).then_some(())
    })
    .await?;
    says(&shop, "True", "Released").await?;

    // A bad one, and another after it.
    shop.fail("v3").await?;
    says(&shop, "False", "RolledBack").await?;
    shop.change_to("v4").await?;
    says(&shop, "Unknown", "Paused").await?;

    versions.caught_up(&shop).await?;
    let failed = BTreeSet::from(["v3"]);
    let reasons = deployments_are_told_true(&judges, &versions, &failed)?;
    let told = rollouts_are_told_true(&judges, &versions)?;
    for phase in [
        "Stable",
        "Soaking",
        "Paused",
        "Promoting",
        "RollingBack",
        "Failed",
    ] {
        ensure!(told.contains_key(phase), "{phase} was not seen: {told:?}");
    }
    ensure!(told["Paused"].contains("Suspended"), "{told:?}");
    // Short phases may be over before the next write.
    for reason in ["Released", "Paused", "RolledBack"] {
        ensure!(
            reasons.contains(reason),
            "{reason} was not said: {reasons:?}"
        );
    }
    Ok(())
}

pub(crate) async fn argo_and_flux_see_what_waits_for_a_person_and_what_nobody_releases(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let judges = Judges::new()?;
    let plan = Plan::default().with("/onFailure", json!("Pause"));
    let shop = scene.shop_with(&plan).await?;
    let versions = Versions::of_web(&shop);
    shop.bench.evidence.set(&shop.namespace, 9);
    shop.change_to("v2").await?;
    says(&shop, "False", "FailurePaused").await?;
    versions.caught_up(&shop).await?;
    let failed = BTreeSet::from(["v2"]);
    let reasons = deployments_are_told_true(&judges, &versions, &failed)?;
    ensure!(reasons.contains("FailurePaused"), "{reasons:?}");
    let told = rollouts_are_told_true(&judges, &versions)?;
    ensure!(told["Paused"].contains("Degraded"), "{told:?}");

    // Whoever takes over is judged by the Deployment alone.
    let glass = ["annotate", "deployment/web", "aviary.dev/break-glass=me"];
    shop.kubectl(&glass).await?;
    says(&shop, "False", "BreakGlass").await?;
    let web = shop.get("deployment/web").await?;
    let (argo, flux) = judges.of(&web)?;
    ensure!((argo.as_str(), flux.as_str()) == ("Suspended", "InProgress"));
    shop.kubectl(&["rollout", "resume", "deployment/web"])
        .await?;
    let web = eventually("v2 is rolled out", PATIENCE, || async {
        match shop.get("deployment/web").await {
            Ok(web) => match judges.of(&web) {
                Ok((argo, flux)) if argo == "Healthy" && flux == "Current" => {
                    Waited::There(Ok(web))
                }
                Ok(said) => Waited::not_yet(format!("{said:?}")),
                Err(error) => Waited::There(Err(error)),
            },
            Err(error) => Waited::There(Err(error.into())),
        }
    });
    let web = web.await??;
    ensure!(version(&web) == "v2");

    // Without its CanaryRollout nothing is said any more.
    shop.kubectl(&["delete", "canaryrollout/web", "--timeout=180s"])
        .await?;
    shop.until("the condition and the label are gone", |seen| {
        let web = seen.deployment("web")?;
        let labels = web.metadata.labels.clone().unwrap_or_default();
        let said = seen.condition_of("web", "aviary.dev/Released");
        (said.is_none() && !labels.contains_key("aviary.dev/rollout")).then_some(())
    })
    .await?;
    let web = shop.get("deployment/web").await?;
    let (argo, flux) = judges.of(&web)?;
    ensure!(
        (argo.as_str(), flux.as_str()) == ("Healthy", "Current"),
        "{web}"
    );
    Ok(())
}
