//! Configuration is released by its name: a ConfigMap that kustomize names by its content is a part of the revision.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Plan, Seen, Shop, deployment, list, service};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::hall::Scene;

/// A kustomization in a folder of its own, with a Deployment whose pods read a generated ConfigMap.
struct Kustomization(PathBuf);

impl Kustomization {
    fn new(name: &str) -> anyhow::Result<Kustomization> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder)?;
        let mut web = deployment("web", "v1");
        web["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}]);
        std::fs::write(folder.join("app.yaml"), list(&[web, service()]))?;
        let kustomization = json!({
            "resources": ["app.yaml"],
            "configMapGenerator": [{"name": "settings", "envs": ["settings.env"]}],
            "generatorOptions": {"immutable": true},
        });
        std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string())?;
        Ok(Kustomization(folder))
    }

    async fn apply(&self, shop: &Shop<'_>, settings: &str) -> anyhow::Result<()> {
        std::fs::write(self.0.join("settings.env"), settings)?;
        let folder = self.0.display().to_string();
        shop.kubectl(&["apply", "-k", &folder]).await?;
        Ok(())
    }
}

impl Drop for Kustomization {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Which ConfigMaps pods with or without the label of a canary read.
fn read_by(seen: &Seen, canary: bool) -> Vec<String> {
    let pods = seen.pods();
    let ours = pods.filter(|pod| pod.labels().contains_key("aviary.dev/revision") == canary);
    let named = ours.flat_map(|pod| {
        let containers = pod.data.pointer("/spec/containers")?.as_array()?;
        let app = containers.iter().find(|it| it["name"] == "app")?;
        let name = app.pointer("/envFrom/0/configMapRef/name")?.as_str()?;
        Some(name.to_owned())
    });
    let mut named: Vec<String> = named.collect();
    named.sort();
    named.dedup();
    named
}

async fn finding(shop: &Shop<'_>, about: &str) -> anyhow::Result<Value> {
    let ended = shop.plugin(&["check", "web", "-o", "json"]).await?;
    let findings: Vec<Value> =
        serde_json::from_str(&ended.stdout).with_context(|| ended.to_string())?;
    let mut findings = findings.into_iter();
    let found = findings.find(|it| it["what"].as_str().is_some_and(|what| what.contains(about)));
    found.with_context(|| format!("nothing about '{about}': {ended}"))
}

pub(crate) async fn a_config_map_named_by_its_content_is_released_step_by_step_and_taken_back(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    let git = Kustomization::new(&scene.namespace)?;
    git.apply(&shop, "TIMEOUT=1s\n").await?;
    shop.until("v1 serves", |seen| (seen.ready("v1") == 3).then_some(()))
        .await?;
    shop.adopt(&Plan::default().soaking_at(50)).await?;
    let old = read_by(&shop.seen(), false);
    ensure!(old.len() == 1 && old[0].starts_with("settings-"), "{old:?}");

    git.apply(&shop, "TIMEOUT=2s\n").await?;
    let seen = shop
        .until("the new configuration soaks", |seen| {
            let both = !read_by(seen, true).is_empty() && seen.weight() == 50;
            (seen.phase() == "Soaking" && both).then(|| seen.clone())
        })
        .await?;
    let new = read_by(&seen, true);
    ensure!(new.len() == 1 && new != old, "{new:?}");
    ensure!(read_by(&seen, false) == old, "stable keeps its own: {seen}");
    for about in [
        "ConfigMap and Secret that the pods need",
        "ConfigMaps stay as they are",
    ] {
        let found = finding(&shop, about).await?;
        ensure!(found["outcome"] == "Passed", "{found:#}");
    }

    // It turns out to be bad.
    shop.bench.evidence.set(&shop.namespace, 9);
    let seen = shop
        .until("it is rolled back", |seen| {
            let over = seen.phase() == "Failed" && seen.copies().is_empty();
            over.then(|| seen.clone())
        })
        .await?;
    ensure!(
        read_by(&seen, false) == old && seen.ready("v1") == 3,
        "{seen}"
    );

    // Git has only the new one by now.
    shop.kubectl(&["delete", "configmap", &old[0]]).await?;
    let found = finding(&shop, "ConfigMap and Secret that the pods need").await?;
    ensure!(found["outcome"] == "Failed", "{found:#}");
    let said = found["seen"].as_str().unwrap_or_default();
    ensure!(said.contains(&old[0]), "{found:#}");
    Ok(())
}

/// `..` to the root, and from there to what is named.
fn from(folder: &Path, to: &Path) -> anyhow::Result<String> {
    let ups = "../".repeat(folder.canonicalize()?.components().count() - 1);
    let to = to.canonicalize()?;
    Ok(format!("{ups}{}", to.strip_prefix("/")?.display()))
}

pub(crate) async fn images_of_an_overlay_reach_the_operator_and_the_sidecars(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&scene.namespace);
    std::fs::create_dir_all(&folder)?;
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/default");
    let image = |name: &str, tag: &str| {
        let new = format!("registry.example/{name}");
        json!({"name": format!("aviary.local/aviary-{name}"), "newName": new, "newTag": tag})
    };
    let overlay = json!({
        "resources": [from(&folder, &config)?],
        "images": [image("operator", "2"), image("proxy", "3")],
    });
    std::fs::write(folder.join("kustomization.yaml"), overlay.to_string())?;
    let overlay = folder.display().to_string();
    let built = scene.bench.kubectl.ok(&["kustomize", &overlay]).await;
    std::fs::remove_dir_all(&folder)?;
    let manifests: Vec<Value> = serde_saphyr::from_multiple(&built?.stdout)?;
    let mut deployments = manifests.iter().filter(|it| it["kind"] == "Deployment");
    let pod = deployments.find_map(|it| it.pointer("/spec/template/spec"));
    let pod = pod.context("there is the operator's Deployment")?;
    let operator = &pod["containers"][0]["image"];
    ensure!(operator == "registry.example/operator:2", "{operator}");
    let sidecar = &pod["initContainers"][0]["image"];
    ensure!(sidecar == "registry.example/proxy:3", "{sidecar}");
    Ok(())
}
