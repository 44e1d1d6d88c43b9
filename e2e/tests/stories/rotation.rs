//! Pods come and go, certificates are renewed and their root is replaced, while everybody calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::app::stats::{Kind, Stats};
use aviary_e2e::harness::{Shop, Waited, Workload, eventually};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::identity::addresses;
use super::sidecar::{Authority, Fingerprint, Sidecar};
use super::theatre::Scene;

const SECRET: &str = "aviary-workload-ca";
/// The shortest that the operator takes: a certificate is renewed after about a minute.
const LIFETIME: &str = "AVIARY_WORKLOAD_CERTIFICATE_LIFETIME=2m";
/// A renewal, on a busy machine.
const RENEWED: Duration = Duration::from_secs(150);
const ROLLED: &str = "--timeout=180s";

/// HTTP/1.1, unary gRPC and long streams of it over: the restart of all pods of both sides, a renewal of each certificate, and a change of their root, which is done as
/// docs/security.md says.
pub(crate) async fn restarts_and_another_workload_root_cost_no_request_and_no_stream(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    signing(scene, LIFETIME).await?;
    let told = rotated(scene).await;
    signing(scene, "AVIARY_WORKLOAD_CERTIFICATE_LIFETIME-").await?;
    told
}

/// The operator goes on with another environment.
async fn signing(scene: &Scene<'_>, environment: &str) -> anyhow::Result<()> {
    let kubectl = &scene.stage.kubectl;
    let operator = ["--namespace=aviary-system", "deployment/aviary-operator"];
    let set = ["set", "env", operator[1], operator[0], environment];
    kubectl.ok(&set).await?;
    let rolled = ["rollout", "status", operator[1], operator[0], ROLLED];
    kubectl.ok(&rolled).await?;
    Ok(())
}

async fn rotated(scene: &Scene<'_>) -> anyhow::Result<()> {
    // Without a release: a restart would begin one.
    let workload = Workload::of_a_story();
    let shop = Shop::build(&scene.stage, &scene.namespace, &workload).await?;
    shop.kubectl_ok(&["set", "env", "deployment/client", "STREAMS=4"])
        .await?;
    let roll = async |verb: &str, deployment: &str| {
        let deployment = format!("deployment/{deployment}");
        let mut arguments = vec!["rollout", verb, deployment.as_str()];
        arguments.extend((verb == "status").then_some(ROLLED));
        shop.kubectl_ok(&arguments).await
    };
    roll("status", "client").await?;

    let secrets: Api<Secret> = Api::namespaced(shop.stage.client.clone(), "aviary-system");
    let before = secrets.get(SECRET).await?.data.context("no data")?;
    let text = |key: &str| {
        let value = before.get(key).with_context(|| format!("no {key}"))?;
        anyhow::Ok(String::from_utf8(value.0.clone())?)
    };
    let old = Authority::of(&text("tls.crt")?, &text("tls.key")?)?;
    let new = Authority::new()?;
    let put = async |data: serde_json::Value| {
        let patch = Patch::Merge(json!({"data": data}));
        let default = PatchParams::default();
        secrets.patch(SECRET, &default, &patch).await
    };
    let pem = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let both = [old.pem(), new.pem()].concat();
    let [known, unknown] = [&old, &new].map(|root| root.sidecar("stranger"));
    let (known, unknown) = (known?, unknown?);
    everybody(&shop, "believes the old root", &known, true).await?;
    everybody(&shop, "does not know the new one", &unknown, false).await?;

    // The new root beside the old one; whoever starts anew has both.
    put(json!({"ca.crt": pem(&both)})).await?;
    let anew = async |deployment: &str| {
        none_failed(&shop.until_sent_more(200).await?)?;
        roll("restart", deployment).await?;
        roll("status", deployment).await?;
        anyhow::Ok(())
    };
    anew("payment").await?;
    anew("client").await?;
    everybody(&shop, "believes the new root", &unknown, true).await?;
    everybody(&shop, "and the old one", &known, true).await?;

    // The new one signs, and everybody renews.
    let first = leaves(&shop).await?;
    let issued = renewals(&shop).await?;
    let signing = json!({
        "tls.crt": pem(new.pem()), "tls.key": pem(&new.key_pem()), "ca.crt": pem(&both),
    });
    put(signing).await?;
    eventually("every sidecar has another certificate", RENEWED, || async {
        match (leaves(&shop).await, renewals(&shop).await) {
            (Ok(now), Ok(count)) if count > issued && now.values().all(|it| new.has_signed(it)) => {
                Waited::There(())
            }
            other => Waited::not_yet(format!("{issued} before, now {:?}", other.1)),
        }
    })
    .await?;
    let second = leaves(&shop).await?;
    let seen: BTreeSet<&Fingerprint> = first.values().map(|leaf| &leaf.fingerprint).collect();
    ensure!(
        second
            .values()
            .all(|leaf| !seen.contains(&leaf.fingerprint)),
        "the same certificates are shown"
    );

    // And the old one is forgotten.
    put(json!({"ca.crt": pem(new.pem())})).await?;
    anew("payment").await?;
    everybody(&shop, "has forgotten the old root", &known, false).await?;
    everybody(&shop, "believes the new one", &unknown, true).await?;
    let stats = shop.until_sent_more(200).await?;
    none_failed(&stats)?;
    let streams = stats.kinds.get(&Kind::Stream).map_or(0, |kind| kind.sent);
    ensure!(streams > 40, "{streams} streams");
    Ok(())
}

fn none_failed(stats: &Stats) -> anyhow::Result<()> {
    let failed = stats.failed.total();
    ensure!(failed == 0, "requests failed: {:?}", stats.notes);
    Ok(())
}

/// Waits until every called pod answers `sidecar`, or refuses it.
async fn everybody(
    shop: &Shop,
    what: &str,
    sidecar: &Sidecar,
    answers: bool,
) -> anyhow::Result<()> {
    let look = || async {
        let pods = match addresses(shop, "app=payment").await {
            Ok(pods) => pods,
            Err(error) => return Waited::not_yet(error),
        };
        for pod in pods {
            let answer = sidecar.ask(pod).await;
            if answer.is_ok() != answers {
                return Waited::not_yet(format!("{pod}: {answer:?}"));
            }
        }
        Waited::There(())
    };
    Ok(eventually(what, RENEWED, look).await?)
}

/// The certificates that the called pods show.
async fn leaves(shop: &Shop) -> anyhow::Result<BTreeMap<Ipv4Addr, super::sidecar::Leaf>> {
    let mut leaves = BTreeMap::new();
    for pod in addresses(shop, "app=payment").await? {
        leaves.insert(pod, super::sidecar::shown_by(pod).await?);
    }
    Ok(leaves)
}

/// How many certificates the caller's sidecar was given.
async fn renewals(shop: &Shop) -> anyhow::Result<u64> {
    let pods = addresses(shop, "app=client").await?;
    let pod = pods.first().context("no caller")?;
    let text = reqwest::get(format!("http://{pod}:15020/metrics")).await?;
    let text = text.text().await?;
    let series = "aviary_identity_renewals_total{result=\"issued\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    Ok(line.context("it says nothing of certificates")?.parse()?)
}
