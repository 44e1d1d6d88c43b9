//! Where cases run: the shared control plane, a namespace for each, and what is kept of one that fails.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aviary_e2e::control_plane::{Bench, Plan, Shop};
use futures::FutureExt;
use futures::future::BoxFuture;
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;

/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(480);
/// What is shown of the operator's log, and of each of its lines.
const LINES: usize = 12;
const LINE: usize = 400;

#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub name: &'static str,
    pub run: for<'a> fn(&'a Scene<'a>) -> BoxFuture<'a, anyhow::Result<()>>,
}

/// What a case is given.
pub(crate) struct Scene<'a> {
    pub bench: &'a Bench,
    pub namespace: String,
}

impl<'a> Scene<'a> {
    /// Given: v1 serves, and a CanaryRollout has adopted the Deployment.
    pub(crate) async fn shop(&self) -> anyhow::Result<Shop<'a>> {
        self.shop_with(&Plan::default()).await
    }

    pub(crate) async fn shop_with(&self, plan: &Plan) -> anyhow::Result<Shop<'a>> {
        Ok(Shop::open(self.bench, &self.namespace, plan).await?)
    }
}

enum State {
    Closed,
    Open(Arc<Bench>),
    /// Why no case can run.
    Broken(String),
}

pub(crate) struct Hall {
    runtime: Runtime,
    state: Mutex<State>,
}

impl Hall {
    pub(crate) fn closed() -> anyhow::Result<Hall> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        Ok(Hall {
            runtime,
            state: Mutex::new(State::Closed),
        })
    }

    pub(crate) fn trial(self: &Arc<Self>, case: Case) -> Trial {
        let hall = Arc::clone(self);
        Trial::test(case.name, move || {
            hall.run(case).map_err(|why| Failed::from(why.as_str()))
        })
    }

    /// Ends what was started.
    pub(crate) fn close(&self) {
        // What it owns are tasks of the runtime, too.
        let _context = self.runtime.enter();
        *self.lock() = State::Closed;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever comes first starts it, and the others wait.
    fn bench(&self) -> Result<Arc<Bench>, String> {
        let mut state = self.lock();
        if let State::Closed = *state {
            // A task, so that its blocking parts stall nobody.
            let starting = self.runtime.spawn(Bench::start(|line| eprintln!("{line}")));
            *state = match self.runtime.block_on(starting) {
                Ok(Ok(bench)) => State::Open(Arc::new(bench)),
                Ok(Err(error)) => State::Broken(format!("{:#}", anyhow::Error::from(error))),
                Err(error) => State::Broken(error.to_string()),
            };
        }
        match &*state {
            State::Open(bench) => Ok(Arc::clone(bench)),
            State::Broken(why) => Err(format!("no case can run: {why}")),
            State::Closed => unreachable!("it was opened above"),
        }
    }

    fn run(&self, case: Case) -> Result<(), String> {
        let bench = self.bench()?;
        let runtime = &self.runtime;
        let result = runtime.spawn(async move { perform(&bench, case).await });
        runtime
            .block_on(result)
            .unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Halls in which one case at a time has everything for itself: as many cases as there are halls run at once.
pub(crate) struct Halls(Mutex<Vec<Arc<Hall>>>);

impl Halls {
    pub(crate) fn new(halls: Vec<Arc<Hall>>) -> Arc<Halls> {
        Arc::new(Halls(Mutex::new(halls)))
    }

    pub(crate) fn trial(self: &Arc<Self>, case: Case) -> Trial {
        let halls = Arc::clone(self);
        Trial::test(case.name, move || {
            let hall = halls.lock().pop();
            let hall = hall.ok_or("more cases at once than there are halls")?;
            let result = hall.run(case);
            halls.lock().push(hall);
            result.map_err(|why| Failed::from(why.as_str()))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Hall>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn perform(bench: &Bench, case: Case) -> Result<(), String> {
    let scene = Scene {
        bench,
        namespace: namespace(case.name),
    };
    let result = AssertUnwindSafe(tokio::time::timeout(PATIENCE, (case.run)(&scene)))
        .catch_unwind()
        .await;
    let result = match result {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(format!("{error:#}")),
        Ok(Err(_)) => Err(format!(
            "the case did not end within {}s",
            PATIENCE.as_secs()
        )),
        Err(panic) => Err(words(&*panic)),
    };
    let result = match result {
        Ok(()) => Ok(()),
        Err(why) => Err(format!("{why}\n{}", keep(bench, case).await)),
    };
    let close = ["delete", "namespace", &scene.namespace, "--wait=false"];
    // A case can fail before there is one.
    let _ = bench.kubectl.run(&close).await;
    result
}

/// A name of at most 63 characters, that of the case as far as it goes.
fn namespace(name: &str) -> String {
    format!("{}-{:04x}", namespace_prefix(name), fastrand::u16(..))
}

/// The operator's log speaks of all cases: the end of what it says about this one is shown, and all of it kept.
async fn keep(bench: &Bench, case: Case) -> String {
    let log = bench.operator.end_of_log(usize::MAX);
    let name = namespace_prefix(case.name);
    let about: Vec<String> = log
        .lines()
        .filter(|line| line.contains(&name) && !line.contains("admission::inject"))
        .map(|line| line.chars().take(LINE).collect())
        .collect();
    let last = &about[about.len().saturating_sub(LINES)..];
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", case.name));
    let kept = match std::fs::write(&file, &log) {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("nothing: {error}"),
    };
    format!(
        "the end of the operator's log about it:\n  {}\nall of its log is in {kept}",
        last.join("\n  ")
    )
}

fn namespace_prefix(name: &str) -> String {
    let name: String = name.replace('_', "-").chars().take(50).collect();
    name.trim_end_matches('-').to_owned()
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "it panicked".to_owned())
}
