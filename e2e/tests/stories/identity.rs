//! Who can listen, and who may call.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use aviary_e2e::harness::{Shop, Waited, Workload, eventually};
use tokio::task::block_in_place;

use super::theatre::Scene;
use super::wire::{Segment, Wire};

/// Requests of some seconds.
const MANY: usize = 400;
const PORT: u16 = 8080;
/// What the caller's requests have in them, and their answers.
const CLEAR: [&str; 3] = ["/pay", "HTTP/1.1", "x-version"];

pub(crate) async fn nobody_on_the_way_reads_what_sidecars_say_to_each_other(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop(&Workload::of_a_story()).await?;
    let (client, payment) = (
        addresses(&shop, "app=client").await?,
        addresses(&shop, "app=payment").await?,
    );
    // The first requests may be older than the certificates.
    let look = || async {
        match requests(&client, &payment) {
            Ok(seen) => match seen.iter().filter(|it| is_clear(it)).count() {
                0 => Waited::There(()),
                clear => Waited::not_yet(format!("{clear} of {} in the clear", seen.len())),
            },
            Err(error) => Waited::not_yet(error),
        }
    };
    let soon = Duration::from_secs(120);
    eventually("all of it is sealed", soon, look).await?;
    let seen = requests(&client, &payment)?;
    let sealed = seen.iter().filter(|it| it.is_sealed()).count();
    ensure!(sealed > MANY / 2, "{sealed} of {} are sealed", seen.len());
    ensure!(
        !seen.iter().any(is_clear),
        "something is in the clear again"
    );

    // A caller without a sidecar is answered as before, and whoever listens reads it.
    let pod = *payment.first().context("no pod")?;
    let listen = || async {
        match overheard(pod).await {
            Ok(heard) => Waited::There(heard),
            Err(error) => Waited::not_yet(error),
        }
    };
    let soon = Duration::from_secs(120);
    let heard = eventually("somebody listens", soon, listen).await?;
    ensure!(!heard.is_sealed());
    let stats = shop.until_sent_more(200).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?}",
        stats.notes
    );
    Ok(())
}

/// The called namespace is another one than the caller's, whose statistics are read in the clear.
pub(crate) async fn a_namespace_turns_strict_and_back_and_no_request_of_the_mesh_fails(
    scene: &Scene<'_>,
) -> anyhow::Result<()> {
    let shop = scene.shop(&Workload::of_a_story()).await?;
    let called = format!("{}-called", scene.namespace);
    let kubectl = &scene.stage.kubectl;
    let strict = Shop::found(&scene.stage, &called).await?;
    let names = &scene.stage.names;
    let payment = names.write_into(&Workload::of_a_story().payment());
    kubectl.apply(&called, &payment).await?;
    strict.kubectl_ok(&ROLLED).await?;
    let target = format!("TARGET=http://payment.{called}:8080");
    shop.kubectl_ok(&["set", "env", "deployment/client", &target])
        .await?;
    let rolled = ["rollout", "status", "deployment/client", "--timeout=180s"];
    shop.kubectl_ok(&rolled).await?;
    let told = strict_and_back(&shop, &strict, &called).await;
    strict.close().await?;
    told
}

const ROLLED: [&str; 4] = ["rollout", "status", "deployment/payment", "--timeout=180s"];

async fn strict_and_back(shop: &Shop, strict: &Shop, called: &str) -> anyhow::Result<()> {
    let kubectl = &strict.stage.kubectl;
    let any = async || {
        let pods = addresses(strict, "app=payment").await?;
        pods.first().copied().context("no pod")
    };
    // By who has no sidecar: a status, and whose it is.
    let ask = async |pod: Ipv4Addr, path: &str| {
        let answer = reqwest::get(format!("http://{pod}:{PORT}{path}")).await?;
        let is_sidecars = answer.headers().contains_key("x-aviary-error");
        anyhow::Ok((answer.status().as_u16(), is_sidecars))
    };
    let becomes = async |pod: Ipv4Addr, expected: (u16, bool)| {
        let look = || async {
            match ask(pod, "/pay").await {
                Ok(answer) if answer == expected => Waited::There(()),
                other => Waited::not_yet(format!("{other:?}")),
            }
        };
        let soon = Duration::from_secs(120);
        eventually(&format!("{expected:?}"), soon, look).await
    };
    let label = async |label: &str| {
        let args = ["label", "--overwrite", "namespace", called, label];
        kubectl.ok(&args).await
    };
    let none_fails = async |before: u64| {
        let stats = shop.until_sent_more(400).await?;
        let failed = stats.failed.total() - before;
        ensure!(failed == 0, "requests failed: {:?}", stats.notes);
        anyhow::Ok(())
    };
    let pod = any().await?;
    let open = ask(pod, "/pay").await?;
    ensure!(open == (200, false), "{open:?}");
    none_fails(0).await?;
    label("aviary.dev/mtls=strict").await?;
    becomes(pod, (403, true)).await?;
    none_fails(0).await?;
    ensure!(ask(pod, "/healthz").await? == (200, false), "a probe");
    // The kubelet's reach new pods, and callers find them.
    strict
        .kubectl_ok(&["rollout", "restart", "deployment/payment"])
        .await?;
    strict.kubectl_ok(&ROLLED).await?;
    none_fails(0).await?;

    // Another ServiceAccount than the caller's.
    let policy = |account: &str| {
        serde_json::json!({
            "apiVersion": "aviary.dev/v1alpha1", "kind": "CallerPolicy", "metadata": {"name": "payment"},
            "spec": {
                "selector": {"matchLabels": {"app": "payment"}},
                "allow": [{"from": [{"namespace": shop.namespace, "serviceAccount": account}]}],
            },
        })
        .to_string()
    };
    kubectl.apply(called, &policy("default")).await?;
    none_fails(0).await?;
    kubectl.apply(called, &policy("other")).await?;
    let refused = |stats: &aviary_e2e::app::stats::Stats| stats.failed.status > 100;
    shop.until_stats("the caller is refused", refused).await?;
    kubectl.apply(called, &policy("default")).await?;
    let over = Duration::from_secs(60);
    eventually("it is let in again", over, || async {
        let (before, after) = match (shop.stats().await, shop.until_sent_more(100).await) {
            (Ok(before), Ok(after)) => (before.failed.total(), after.failed.total()),
            other => return Waited::not_yet(format!("{other:?}")),
        };
        match after - before {
            0 => Waited::There(()),
            more => Waited::not_yet(format!("{more} failed")),
        }
    })
    .await?;
    let failed = shop.stats().await?.failed.total();
    kubectl
        .ok(&["delete", "callerpolicies", "--all", "-n", called])
        .await?;
    label("aviary.dev/mtls-").await?;
    becomes(any().await?, (200, false)).await?;
    none_fails(failed).await
}

/// What a caller without a sidecar says to the pod.
async fn overheard(pod: Ipv4Addr) -> anyhow::Result<Segment> {
    let mut wire = Wire::tapped()?;
    let answer = reqwest::get(format!("http://{pod}:{PORT}/healthz?read=me")).await?;
    ensure!(answer.status() == 200, "{answer:?}");
    let soon = Duration::from_secs(10);
    block_in_place(|| wire.until(soon, |it| it.to == pod && it.has("?read=me")))
}

/// What the client's sidecar sends to the service's in some seconds.
fn requests(
    client: &BTreeSet<Ipv4Addr>,
    payment: &BTreeSet<Ipv4Addr>,
) -> anyhow::Result<Vec<Segment>> {
    block_in_place(|| {
        let mut wire = Wire::tapped()?;
        let is_request =
            |it: &Segment| client.contains(&it.from) && payment.contains(&it.to) && it.port == PORT;
        (0..MANY)
            .map(|_| wire.until(Duration::from_secs(60), is_request))
            .collect()
    })
}

fn is_clear(segment: &Segment) -> bool {
    CLEAR.into_iter().any(|text| segment.has(text))
}

pub(super) async fn addresses(shop: &Shop, labels: &str) -> anyhow::Result<BTreeSet<Ipv4Addr>> {
    let pods = shop.pods(labels).await?;
    // One that ends may be gone by the time somebody asks it.
    let stay = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let addresses = stay.filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref());
    let addresses: Result<_, _> = addresses.map(|address| address.parse()).collect();
    let addresses: BTreeSet<Ipv4Addr> = addresses?;
    ensure!(!addresses.is_empty(), "no pods with {labels}");
    Ok(addresses)
}
