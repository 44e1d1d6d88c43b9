//! Where stories are told: the shared cluster, a namespace for each story, and what is kept of one that fails.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use aviary_e2e::harness::{Before, Ground, Shop, Stage, Workload};
use aviary_e2e::images::Profile;
use futures::FutureExt;
use futures::future::BoxFuture;

/// A story that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(420);

#[derive(Clone, Copy)]
pub(crate) struct Story {
    pub name: &'static str,
    pub play: for<'a> fn(&'a Scene<'a>) -> BoxFuture<'a, anyhow::Result<()>>,
}

/// What a story is given.
pub(crate) struct Scene<'a> {
    pub ground: &'a Ground,
    pub stage: Stage,
    pub namespace: String,
}

impl Scene<'_> {
    /// Given: version v1 serves, the caller calls, and a CanaryRollout has adopted the Deployment.
    pub(crate) async fn shop(&self, workload: &Workload) -> anyhow::Result<Shop> {
        Ok(Shop::open(&self.stage, &self.namespace, workload).await?)
    }
}

/// The cluster starts when the first story is told. The error is why none can be.
#[derive(Default)]
pub(crate) struct Theatre(OnceLock<Result<(Ground, Before), String>>);

impl Theatre {
    pub(crate) fn closed() -> Theatre {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .expect("nobody has installed another one");
        Theatre::default()
    }

    /// Tells a story. The error is for the person who reads the result.
    pub(crate) fn tell(&self, number: usize, story: Story) -> Result<(), String> {
        let opened = self
            .0
            .get_or_init(|| open().map_err(|error| format!("{error:#}")));
        match opened {
            Ok((ground, _)) => ground
                .run(|| perform(ground, number, story))
                .unwrap_or_else(|error| Err(error.to_string())),
            Err(why) => Err(format!("no story can be told: {why}")),
        }
    }

    pub(crate) fn close(self) -> anyhow::Result<()> {
        let Some(Ok((ground, before))) = self.0.into_inner() else {
            return Ok(());
        };
        if let (Ground::Yours { .. }, Before::Nothing) = (&ground, before) {
            ground
                .run(|| async { anyhow::Ok(Stage::enter(&ground).await?.uninstall().await?) })??;
        }
        Ok(ground.stop()?)
    }
}

fn open() -> anyhow::Result<(Ground, Before)> {
    let ground = Ground::prepare("the stories", Profile::Test, |line| eprintln!("{line}"))?;
    let before = ground
        .run(|| async { anyhow::Ok(Stage::enter(&ground).await?.install().await?) })?
        .context("Aviary cannot be installed")?;
    Ok((ground, before))
}

async fn perform(ground: &Ground, number: usize, story: Story) -> Result<(), String> {
    let stage = Stage::enter(ground)
        .await
        .map_err(|error| error.to_string())?;
    let namespace = format!("story-{number}");
    let scene = Scene {
        ground,
        stage: stage.clone(),
        namespace: namespace.clone(),
    };
    let told = AssertUnwindSafe(tokio::time::timeout(PATIENCE, (story.play)(&scene)))
        .catch_unwind()
        .await;
    let told = match told {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(format!("{error:#}")),
        Ok(Err(_)) => Err(format!(
            "the story did not end within {}s",
            PATIENCE.as_secs()
        )),
        Err(panic) => Err(words(&*panic)),
    };
    let shop = Shop::revisit(&stage, &namespace);
    let told = match told {
        Ok(()) => Ok(()),
        Err(why) => {
            let dump = keep(story, &shop.dump().await);
            let events = shop.events().await.unwrap_or_default();
            let events: Vec<String> = events
                .into_iter()
                .map(|event| format!("  {}: {}", event.reason, event.note))
                .collect();
            Err(format!(
                "{why}\nevents of the CanaryRollout:\n{}\nall of the namespace is in {dump}",
                events.join("\n")
            ))
        }
    };
    // Later stories must not suffer from what this one took away.
    if let Ground::Local { .. } = ground {
        tokio::task::block_in_place(|| ground.give_prometheus_back())
            .map_err(|error| error.to_string())?;
    }
    shop.close().await.map_err(|error| error.to_string())?;
    told
}

fn keep(story: Story, dump: &str) -> String {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("{}.txt", story.name));
    match std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&file, dump)) {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("nothing: {error}\n{dump}"),
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "it panicked".to_owned())
}
