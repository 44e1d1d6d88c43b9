//! What a person would do: install, deploy, set a good version, set a bad one, and watch.

use std::time::{Duration, Instant};

use aviary_crds::CanaryRolloutStatus;
use aviary_crds::status::Phase;

use super::screen::Frame;
use super::show::Show;
use super::summary::{Ending, Release, Summary};
use crate::harness::{
    Before, Faults, Shop, ShopError, Stage, StageError, Workload, condition, shares, soaks,
    zero_on_every_proxy,
};

/// Between two pictures.
const PICTURE: Duration = Duration::from_millis(500);
/// A release that takes longer has come to no end.
const PATIENCE: Duration = Duration::from_secs(300);
const NAMESPACE: &str = "shop";
const STEPS: [i32; 4] = [1, 10, 50, 100];

#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Shop(#[from] ShopError),
}

struct Act {
    version: &'static str,
    faults: Faults<'static>,
    what: &'static str,
    expected: Ending,
}

const ACTS: [Act; 3] = [
    Act {
        version: "v2",
        faults: Faults::None,
        what: "a good version",
        expected: Ending::Promoted,
    },
    Act {
        version: "v3",
        faults: Faults::Errors("5%"),
        what: "a bad version, 5% errors",
        expected: Ending::RolledBack,
    },
    Act {
        version: "v4",
        faults: Faults::Errors("50%"),
        what: "a broken version, 50% errors",
        expected: Ending::RolledBack,
    },
];

/// Installs Aviary; says what was there before.
pub async fn install(stage: &Stage, show: &mut Show) -> Result<Before, PlayError> {
    show.say("installing Aviary: kubectl apply -k config/e2e");
    Ok(stage.install().await?)
}

/// The whole demo after that, up to its summary.
pub async fn play(stage: &Stage, show: &mut Show) -> Result<Summary, PlayError> {
    show.say("deploying payment (4 replicas), its caller (200 requests/s: HTTP/1.1 GET and POST, gRPC) and a CanaryRollout into namespace shop");
    let shop = Shop::open(stage, NAMESPACE, &Workload::of_the_demo()).await?;
    show.say("v1 serves; every pod got its sidecar by the label of the namespace");
    let mut releases = Vec::new();
    for act in &ACTS {
        releases.push(perform(&shop, show, act).await?);
    }
    // What is under way at the end shall be counted.
    let stats = shop.until_sent_more(200).await?;
    Ok(Summary {
        releases,
        stats,
        took: show.elapsed(),
    })
}

/// One release, from the change of the template to its end.
async fn perform(shop: &Shop, show: &mut Show, act: &Act) -> Result<Release, PlayError> {
    let (began, mark) = (Instant::now(), shop.record.mark());
    let before = shop.events().await?.last().map_or(0, |event| event.at);
    show.say(&format!(
        "{}: kubectl set env deployment/payment VERSION={} {}",
        act.what,
        act.version,
        act.faults.environment()
    ));
    let said = shop.release(act.version, act.faults).await?.to_string();
    let said: Vec<String> = said.lines().map(str::to_owned).collect();
    for line in &said {
        show.say(line);
    }
    let mut frame = Frame {
        title: format!("{}: {}", act.what, act.version),
        canary: act.version.to_owned(),
        steps: STEPS.to_vec(),
        said,
        ..Frame::default()
    };
    let mut ended = None;
    while ended.is_none() && began.elapsed() < PATIENCE {
        tokio::time::sleep(PICTURE).await;
        let moments = shop.record.since(mark);
        if let Some(newest) = moments.last() {
            frame.status = newest.status.clone();
        }
        // What cannot be read just now stays as it was: the next picture shows it.
        frame.stats = shop.stats().await.unwrap_or(frame.stats);
        if let Ok(events) = shop.events().await {
            frame.events = events
                .into_iter()
                .filter(|event| event.at > before)
                .collect();
        }
        frame.shares = shares(&soaks(&moments), &frame.stats, act.version);
        frame.elapsed = began.elapsed();
        show.picture(&frame);
        let has_begun = moments
            .iter()
            .any(|moment| moment.status.phase == Some(Phase::Starting));
        ended = ending(&frame.status).filter(|_| has_begun);
    }
    Ok(Release {
        version: act.version.to_owned(),
        what: act.what.to_owned(),
        expected: act.expected,
        ended,
        shares: frame.shares,
        took: began.elapsed(),
        why: frame
            .status
            .failure
            .filter(|_| ended == Some(Ending::RolledBack))
            .map(|failure| failure.message),
        errors: act.faults.percent(),
        zero: zero_on_every_proxy(&shop.record.since(mark))
            .filter(|_| ended == Some(Ending::RolledBack)),
    })
}

/// How a release that has begun came to its end.
fn ending(status: &CanaryRolloutStatus) -> Option<Ending> {
    let is_true =
        |type_| condition(status, type_).is_some_and(|condition| condition.status == "True");
    match status.phase? {
        Phase::Stable if is_true("Promoted") => Some(Ending::Promoted),
        Phase::Failed | Phase::Stable => Some(Ending::RolledBack),
        Phase::Starting
        | Phase::Scaling
        | Phase::Shifting
        | Phase::Soaking
        | Phase::Paused
        | Phase::Promoting
        | Phase::Returning
        | Phase::RollingBack
        | Phase::Unsettled => None,
    }
}
