//! What Kubernetes itself does with Deployments, paused ones above all. The simulated controllers of the operator's
//! simulation play the same scripts, so that what they are made to do is what the real ones do.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{deployment, pods};
use aviary_e2e::harness::{Waited, eventually};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::hall::Scene;

const SCRIPTS: &str = include_str!("../../../operator/src/rollout/simulation/deployments.json");
/// Whose pods never get Ready.
const UNREADY: &str = "-unready";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    name: String,
    replicas: Option<i64>,
    surge: Option<i64>,
    unavailable: Option<i64>,
    history: Option<i64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    r#do: Deed,
    then: Settled,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deed {
    template: Option<String>,
    paused: Option<bool>,
    replicas: Option<i64>,
    #[serde(default)]
    scale: BTreeMap<String, i32>,
    delete: Option<String>,
    quota: Option<i32>,
}

/// What there is when nothing changes any more.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Settled {
    /// By version: what the ReplicaSet is to have, and what the Deployment had asked for when it was scaled last.
    sets: BTreeMap<String, (i32, String)>,
    updated: i32,
    available: i32,
    #[serde(default)]
    failing: bool,
}

pub(crate) async fn real_controllers_do_with_deployments_what_the_simulated_ones_do(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let scripts: Vec<Script> = serde_json::from_str(SCRIPTS).context("the scripts")?;
    ensure!(!scripts.is_empty());
    // Namespaces are slow to go, so there are only two; the limit is for one of the scripts alone.
    let (shared, limited) = (&scene.namespace, &format!("{}-limited", scene.namespace));
    let kubectl = &scene.bench.kubectl;
    for namespace in [shared, limited] {
        kubectl.ok(&["create", "namespace", namespace]).await?;
    }
    let stages = scripts
        .iter()
        .enumerate()
        .map(|(number, script)| async move {
            let limits = script.steps.iter().any(|step| step.r#do.quota.is_some());
            let namespace = if limits { limited } else { shared };
            let stage = Stage::new(scene, namespace, format!("web-{number}"));
            let played = stage.play(script).await;
            played.with_context(|| format!("script {}", script.name))
        });
    let played = try_join_all(stages).await;
    let delete = ["delete", "namespace", limited, "--wait=false"];
    kubectl.ok(&delete).await?;
    played.map(drop)
}

/// One Deployment that the mesh has nothing to do with.
struct Stage {
    name: String,
    deployments: Api<Deployment>,
    sets: Api<ReplicaSet>,
    quotas: Api<ResourceQuota>,
}

impl Stage {
    fn new(scene: &Scene<'_>, namespace: &str, name: String) -> Stage {
        let client = &scene.bench.client;
        Stage {
            name,
            deployments: Api::namespaced(client.clone(), namespace),
            sets: Api::namespaced(client.clone(), namespace),
            quotas: Api::namespaced(client.clone(), namespace),
        }
    }

    async fn play(&self, script: &Script) -> anyhow::Result<()> {
        let mut web = deployment(&self.name, "v1");
        let replicas = script.replicas.unwrap_or(3);
        web["spec"]["replicas"] = json!(replicas);
        web["spec"]["revisionHistoryLimit"] = json!(script.history.unwrap_or(10));
        web["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {
            "maxSurge": script.surge.unwrap_or(1), "maxUnavailable": script.unavailable.unwrap_or(0),
        }});
        let web = serde_json::from_value(web)?;
        self.deployments
            .create(&PostParams::default(), &web)
            .await?;
        let replicas = i32::try_from(replicas)?;
        let begin = Settled {
            sets: [("v1".to_owned(), (replicas, replicas.to_string()))].into(),
            updated: replicas,
            available: replicas,
            failing: false,
        };
        self.settles(&begin).await.context("at the beginning")?;
        for step in &script.steps {
            self.act(&step.r#do).await?;
            self.settles(&step.then)
                .await
                .with_context(|| format!("after {:?}", step.r#do))?;
        }
        Ok(())
    }

    async fn act(&self, deed: &Deed) -> anyhow::Result<()> {
        another_second().await?;
        if let Some(pods) = deed.quota {
            let quota: ResourceQuota = serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"}, "spec": {"hard": {"pods": pods.to_string()}},
            }))?;
            let ours = PatchParams::apply("case").force();
            self.quotas
                .patch("pods", &ours, &Patch::Apply(&quota))
                .await?;
            self.quota_counts().await?;
        }
        let mut spec = json!({});
        if let Some(version) = &deed.template {
            spec["template"] = template(&self.name, version);
        }
        if let Some(paused) = deed.paused {
            spec["paused"] = json!(paused);
        }
        if let Some(replicas) = deed.replicas {
            spec["replicas"] = json!(replicas);
        }
        self.patch(spec).await?;
        for (version, replicas) in &deed.scale {
            let set = self.set(version).await?;
            let patch = json!({"spec": {"replicas": replicas}});
            let ours = PatchParams::default();
            self.sets.patch(&set, &ours, &Patch::Merge(patch)).await?;
        }
        if let Some(version) = &deed.delete {
            let set = self.set(version).await?;
            self.sets.delete(&set, &DeleteParams::background()).await?;
        }
        Ok(())
    }

    async fn patch(&self, spec: Value) -> anyhow::Result<i64> {
        let patch = Patch::Merge(json!({"spec": spec}));
        let ours = PatchParams::default();
        let after = self.deployments.patch(&self.name, &ours, &patch).await?;
        Ok(after.metadata.generation.unwrap_or(0))
    }

    async fn set(&self, of: &str) -> anyhow::Result<String> {
        let sets = self
            .sets
            .list(&ListParams::default().labels(&format!("app={}", self.name)))
            .await?;
        let set = sets.iter().find(|set| version(set) == of);
        Ok(set
            .with_context(|| format!("there is no ReplicaSet of {of}"))?
            .name_any())
    }

    /// It comes to that, and still is there when the controller has certainly looked twice more.
    async fn settles(&self, then: &Settled) -> anyhow::Result<()> {
        self.comes_to(then).await?;
        for _ in 0..2 {
            self.nudge().await?;
        }
        self.comes_to(then).await
    }

    async fn comes_to(&self, then: &Settled) -> anyhow::Result<()> {
        let what = format!("{then:?}");
        let there = eventually(&what, PATIENCE, || async {
            match self.settled().await {
                Ok(settled) if settled == *then => Waited::There(Ok(())),
                Ok(settled) => Waited::not_yet(format!("{settled:?}")),
                Err(error) => Waited::There(Err(error)),
            }
        });
        there.await?
    }

    /// A change that changes nothing, and that the controller has to see.
    async fn nudge(&self) -> anyhow::Result<()> {
        let seconds = 600 + fastrand::u32(..100_000);
        let generation = self
            .patch(json!({"progressDeadlineSeconds": seconds}))
            .await?;
        eventually("the controller has seen it", PATIENCE, || async {
            match self.deployments.get(&self.name).await {
                Ok(web) => {
                    let observed = web.status.and_then(|status| status.observed_generation);
                    match observed.unwrap_or(0) {
                        observed if observed >= generation => Waited::There(Ok(())),
                        observed => Waited::not_yet(observed),
                    }
                }
                Err(error) => Waited::There(Err(error)),
            }
        })
        .await??;
        Ok(())
    }

    /// The quota controller has counted the pods that there are.
    async fn quota_counts(&self) -> anyhow::Result<()> {
        eventually("the quota counts", PATIENCE, || async {
            match self.quotas.get("pods").await {
                Ok(quota) => match quota.status.and_then(|status| status.used) {
                    Some(_) => Waited::There(Ok(())),
                    None => Waited::not_yet("nothing is counted"),
                },
                Err(error) => Waited::There(Err(error)),
            }
        })
        .await??;
        Ok(())
    }

    async fn settled(&self) -> anyhow::Result<Settled> {
        let web = self.deployments.get(&self.name).await?;
        let sets = self
            .sets
            .list(&ListParams::default().labels(&format!("app={}", self.name)))
            .await?;
        let status = web.status.unwrap_or_default();
        let of_web = |set: &&ReplicaSet| {
            let mut owners = set.owner_references().iter();
            owners.any(|owner| Some(&owner.uid) == web.metadata.uid.as_ref())
        };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        Ok(Settled {
            sets: sets
                .iter()
                .filter(of_web)
                .map(|set| {
                    let replicas = set
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.replicas)
                        .unwrap_or(0);
                    let desired = set.annotations().get(DESIRED).cloned();
                    (version(set), (replicas, desired.unwrap_or_default()))
                })
                .collect(),
            updated: status.updated_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            failing: conditions
                .iter()
                .any(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True"),
        })
    }
}

fn template(name: &str, version: &str) -> Value {
    let mut template = deployment(name, version)["spec"]["template"].take();
    if version.ends_with(UNREADY) {
        template["metadata"]["annotations"] = json!({pods::UNREADY: ""});
    } else {
        template["metadata"]["annotations"] = json!({pods::UNREADY: null});
    }
    template
}

fn version(set: &ReplicaSet) -> String {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let image =
        template.and_then(|template| template.spec.as_ref()?.containers.first()?.image.as_deref());
    image
        .and_then(|image| image.rsplit(':').next())
        .unwrap_or_default()
        .to_owned()
}

/// Creation times have seconds, and what is newest matters.
async fn another_second() -> anyhow::Result<()> {
    let begin = Timestamp::now().as_second();
    eventually("the clock goes on", Duration::from_secs(10), || async {
        match Timestamp::now().as_second() {
            now if now > begin => Waited::There(()),
            now => Waited::not_yet(now),
        }
    })
    .await?;
    Ok(())
}
