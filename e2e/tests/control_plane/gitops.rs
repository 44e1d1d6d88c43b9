//! A GitOps tool that applies what Git has about once a second, while releases run: nothing of it is undone, and nobody answers it.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::control_plane::{Matching, Plan, Seen, Shop, deployment, list, service};
use aviary_e2e::harness::{Waited, eventually};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::hall::Scene;

/// As often as such a tool could at worst.
const EVERY: Duration = Duration::from_secs(1);
/// Longer than anything takes on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many times does a difference have to be seen.
const LOOKS: usize = 20;
/// So many syncs without an answer are quiet.
const QUIET: u64 = 4;

/// What is in Git, and who applies it.
struct Git {
    manifest: Mutex<Value>,
    /// How it is applied, and what `kubectl diff` has to be told then.
    mode: &'static [&'static str],
    syncs: watch::Sender<u64>,
}

impl Git {
    fn new(mode: &'static [&'static str], version: &str, plan: &Plan) -> anyhow::Result<Git> {
        Ok(Git {
            manifest: Mutex::new(manifest(version, plan)?),
            mode,
            syncs: watch::Sender::new(0),
        })
    }

    fn commit(&self, version: &str, plan: &Plan) -> anyhow::Result<()> {
        let manifest = manifest(version, plan)?;
        *self.manifest.lock().expect("nobody panics with it") = manifest;
        Ok(())
    }

    fn head(&self) -> String {
        let manifest = self.manifest.lock().expect("nobody panics with it");
        manifest.to_string()
    }

    /// Applies it again and again, and sees no difference to what there is then.
    async fn sync(&self, shop: &Shop<'_>) -> anyhow::Result<()> {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let head = self.head();
            let apply = [&["apply", "-f", "-"], self.mode].concat();
            let said = shop.try_kubectl(&apply, &head).await?;
            ensure!(said.ok, "{said}");
            self.is_what_there_is(shop, &head).await?;
            self.syncs.send_modify(|syncs| *syncs += 1);
        }
    }

    /// kubectl looks at the object before and after: what the operator writes meanwhile is a difference once.
    async fn is_what_there_is(&self, shop: &Shop<'_>, head: &str) -> anyhow::Result<()> {
        let diff = [&["diff", "-f", "-"], self.mode].concat();
        let mut said = shop.try_kubectl(&diff, head).await?;
        for _ in 1..LOOKS {
            if said.ok {
                break;
            }
            said = shop.try_kubectl(&diff, head).await?;
        }
        ensure!(said.ok && said.stdout.is_empty(), "it differs: {said}");
        Ok(())
    }

    /// Waits for so many more of them.
    async fn more(&self, syncs: u64) -> anyhow::Result<()> {
        let mut now = self.syncs.subscribe();
        let enough = *now.borrow() + syncs;
        now.wait_for(|now| *now >= enough).await?;
        Ok(())
    }
}

fn manifest(version: &str, plan: &Plan) -> anyhow::Result<Value> {
    let rollout = serde_json::from_str(&plan.to_string()).context("the plan")?;
    let list = list(&[deployment("web", version), service(), rollout]);
    Ok(serde_json::from_str(&list)?)
}

/// What the operator has written in the namespace: everything, and the status of the CanaryRollout, which shows what is measured.
fn written(shop: &Shop<'_>) -> (usize, usize) {
    let all = Matching::writes().path(format!("/namespaces/{}/", shop.namespace));
    let status = format!("/namespaces/{}/canaryrollouts/web/status", shop.namespace);
    let wire = &shop.bench.wire;
    (
        wire.count(&all),
        wire.count(&Matching::writes().path(status)),
    )
}

/// Waits until syncs are answered by no write of this kind.
async fn nobody_answers(
    shop: &Shop<'_>,
    git: &Git,
    what: &str,
    count: impl Fn() -> usize,
) -> anyhow::Result<()> {
    let quiet = eventually(what, PATIENCE, || async {
        let before = count();
        match git.more(QUIET).await {
            Ok(()) if count() == before => Waited::There(Ok(())),
            Ok(()) => Waited::not_yet(format!("{} writes: {}", count() - before, shop.seen())),
            Err(error) => Waited::There(Err(error)),
        }
    });
    quiet.await?
}

fn is_adopted_and_gated(web: &Value) -> bool {
    web["spec"]["paused"] == true && web["metadata"]["labels"]["aviary.dev/rollout"] == "web"
}

/// It waits at 50% until the pause is taken out of Git.
fn pausing() -> Plan {
    let steps = json!([{"weight": 50, "soak": "1s", "pause": {}}, {"weight": 100, "soak": "1s"}]);
    Plan::default().with("/steps", steps)
}

async fn releases(shop: &Shop<'_>, git: &Git) -> anyhow::Result<()> {
    let (slow, quick) = (pausing(), Plan::default());
    shop.until("v1 is adopted", |seen| seen.is_stable().then_some(()))
        .await?;

    // A good one.
    git.commit("v2", &slow)?;
    shop.until("v2 waits at 50%", |seen| {
        (seen.phase() == "Paused" && seen.copies_are("v2")).then_some(())
    })
    .await?;
    let but_its_status = || {
        let (all, status) = written(shop);
        all - status
    };
    nobody_answers(shop, git, "the operator writes nothing", but_its_status).await?;
    let web = shop.get("deployment/web").await?;
    git.more(QUIET).await?;
    let later = shop.get("deployment/web").await?;
    ensure!(is_adopted_and_gated(&later), "{later}");
    let generation = |web: &Value| web["metadata"]["generation"].clone();
    ensure!(generation(&web) == generation(&later), "{web} {later}");

    git.commit("v2", &quick)?;
    let promoted = |seen: &Seen| seen.is_stable() && seen.ready("v2") == 3 && !seen.is_paused();
    let seen = shop
        .until("v2 is promoted", |seen| {
            (promoted(seen) && seen.copies().is_empty()).then(|| seen.clone())
        })
        .await?;
    ensure!(seen.events("ReleaseStarted").len() == 1, "{seen}");

    // A bad one.
    let stable = seen.stable().to_owned();
    shop.bench.evidence.set(&shop.namespace, 9);
    git.commit("v3", &quick)?;
    shop.until("v3 is rolled back", |seen| {
        (seen.phase() == "Failed" && seen.copies().is_empty()).then_some(())
    })
    .await?;
    shop.bench.evidence.set(&shop.namespace, 0);
    let anything = || written(shop).0;
    nobody_answers(shop, git, "the operator rests", anything).await?;
    let seen = shop.seen();
    ensure!(seen.is_paused() && seen.stable() == stable, "{seen}");
    ensure!(
        seen.events("ReleaseStarted").len() == 2,
        "tried once: {seen}"
    );
    let failed = seen
        .status("/failure/revision")
        .as_str()
        .unwrap_or_default();
    ensure!(seen.highest_weight_of(failed) == 50, "{seen}");

    // Git goes back.
    git.commit("v2", &quick)?;
    let seen = shop
        .until("the gate is open", |seen| {
            promoted(seen).then(|| seen.clone())
        })
        .await?;
    nobody_answers(shop, git, "the operator rests", anything).await?;
    ensure!(seen.events("ReleaseStarted").len() == 2, "{seen}");
    let versions: Vec<String> = seen.revisions().into_iter().map(|it| it.version).collect();
    ensure!(versions == ["v1", "v2"], "no revision more: {seen}");
    Ok(())
}

async fn synced(scene: &Scene<'_>, mode: &'static [&'static str]) -> anyhow::Result<()> {
    let shop = Shop::empty(scene.bench, &scene.namespace).await?;
    let git = Git::new(mode, "v1", &pausing())?;
    tokio::select! {
        ended = git.sync(&shop) => ended.context("syncing"),
        ended = releases(&shop, &git) => ended,
    }
}

pub(crate) async fn applied_every_second_by_the_client_a_release_goes_its_way(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    synced(scene, &[]).await
}

pub(crate) async fn applied_every_second_by_the_server_a_release_goes_its_way(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    synced(scene, &["--server-side", "--force-conflicts"]).await
}
