//! Who can listen.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use aviary_e2e::harness::{Shop, Waited, Workload, eventually};
use tokio::task::block_in_place;

use super::theatre::Scene;
use super::wire::{Segment, Wire};

/// Requests of two seconds.
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
    let soon = std::time::Duration::from_secs(60);
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
    let mut wire = Wire::tapped()?;
    let answer = reqwest::get(format!("http://{pod}:{PORT}/healthz?read=me")).await?;
    ensure!(answer.status() == 200, "{answer:?}");
    let heard = block_in_place(|| wire.until(|it| it.to == pod && it.has("?read=me")))?;
    ensure!(!heard.is_sealed());
    let stats = shop.until_sent_more(200).await?;
    ensure!(
        stats.failed.total() == 0,
        "requests failed: {:?}",
        stats.notes
    );
    Ok(())
}

/// What the client's sidecar sends to the service's in two seconds.
fn requests(
    client: &BTreeSet<Ipv4Addr>,
    payment: &BTreeSet<Ipv4Addr>,
) -> anyhow::Result<Vec<Segment>> {
    block_in_place(|| {
        let mut wire = Wire::tapped()?;
        let is_request =
            |it: &Segment| client.contains(&it.from) && payment.contains(&it.to) && it.port == PORT;
        (0..MANY).map(|_| wire.until(is_request)).collect()
    })
}

fn is_clear(segment: &Segment) -> bool {
    CLEAR.into_iter().any(|text| segment.has(text))
}

async fn addresses(shop: &Shop, labels: &str) -> anyhow::Result<BTreeSet<Ipv4Addr>> {
    let pods = shop.pods(labels).await?;
    let addresses = pods
        .iter()
        .filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref());
    let addresses: Result<_, _> = addresses.map(|address| address.parse()).collect();
    let addresses: BTreeSet<Ipv4Addr> = addresses?;
    ensure!(!addresses.is_empty(), "no pods with {labels}");
    Ok(addresses)
}
