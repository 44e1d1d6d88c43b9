//! The verbs: one request, and what came of it.
//!
//! A request is written against the version of the CanaryRollout that was looked at, so what has moved on meanwhile is looked
//! at again, and is asked for again only if the request is still the same.

use std::collections::BTreeMap;
use std::time::Duration;

use aviary_crds::CanaryRollout;
use aviary_crds::request::{REQUEST_ANNOTATION, Request, Verb};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::args::{AskArgs, NotThereArgs};
use crate::ask::{Refusal, ask, instead};
use crate::cluster::{Cluster, ClusterError, events_about};
use crate::exit::Exit;
use crate::out;
use crate::view::{EventView, newest_events};

/// How often what has moved on is looked at again.
const TRIES: usize = 5;
/// The Event that says what came of a request can come this much later than the request is gone.
const TELLS: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Asks, waits for the answer and prints it.
pub async fn request(cluster: &Cluster, verb: Verb, args: &AskArgs) -> Result<Exit, ClusterError> {
    let before = told(cluster, &args.name).await;
    let request = match write(cluster, verb, args).await? {
        Ok(request) => request,
        Err(refusal) => {
            eprintln!("error: {}: {refusal}", args.name);
            return Ok(Exit::Failed);
        }
    };
    eprintln!("asked: {request}");
    let answered = taken(cluster, args, &request);
    match args.timeout.0 {
        Some(length) => match timeout(length, answered).await {
            Ok(answered) => answered?,
            Err(_) => return unanswered(cluster, args).await,
        },
        None => answered.await?,
    }
    Ok(answer(cluster, args, verb, &before).await)
}

/// Of a verb that no operator heeds: what to do instead. Nobody is asked.
pub fn not_there(verb: Verb, args: &NotThereArgs) -> Exit {
    let name = args.name.as_deref().unwrap_or("NAME");
    eprintln!("error: {}", instead(verb, name));
    Exit::Failed
}

async fn write(
    cluster: &Cluster,
    verb: Verb,
    args: &AskArgs,
) -> Result<Result<Request, Refusal>, ClusterError> {
    let api = cluster.rollouts_api();
    let mut refused = None;
    for _ in 0..TRIES {
        let rollout = cluster.rollout(&args.name).await?;
        // Whoever may not read Deployments is answered by the operator.
        let template = cluster.template(&rollout).await.ok().flatten();
        let shown = args.revision.as_deref();
        let request = match ask(verb, &rollout, template.as_ref(), shown) {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let patch = json!({"metadata": {
            "resourceVersion": rollout.resource_version(),
            "annotations": {REQUEST_ANNOTATION: request.to_string()},
        }});
        let written = api
            .patch(&args.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        match written {
            Ok(_) => return Ok(Ok(request)),
            Err(kube::Error::Api(status)) if status.code == 409 => refused = Some(status),
            Err(error) => return Err(ClusterError::of("ask for anything here", error)),
        }
    }
    let moved = refused.expect("every try was refused");
    Err(ClusterError::of(
        "ask: the CanaryRollout changes all the time",
        kube::Error::Api(moved),
    ))
}

/// Waits until the operator has taken the request away.
async fn taken(cluster: &Cluster, args: &AskArgs, request: &Request) -> Result<(), ClusterError> {
    let is_there = |rollout: &CanaryRollout| {
        let asked = rollout.annotations().get(REQUEST_ANNOTATION);
        asked.is_some_and(|asked| *asked == request.to_string())
    };
    while is_there(&cluster.rollout(&args.name).await?) {
        sleep(PAUSE).await;
    }
    Ok(())
}

/// The Events so far, by name, and how often each was said.
async fn told(cluster: &Cluster, name: &str) -> BTreeMap<String, i32> {
    let all = events(cluster, name).await;
    all.into_iter().map(|(name, it)| (name, it.times)).collect()
}

async fn events(cluster: &Cluster, name: &str) -> Vec<(String, EventView)> {
    let about = ListParams::default().fields(&events_about(name));
    let list = cluster.events_api().list(&about).await;
    let items = list.map_or_else(|_| Vec::new(), |list| list.items);
    let mut all: Vec<(String, EventView)> = items
        .iter()
        .filter_map(|event| {
            let view = newest_events(std::slice::from_ref(event), 1).pop()?;
            Some((event.name_any(), view))
        })
        .collect();
    all.sort_by_key(|(_, event)| event.at);
    all
}

/// The reason of the Event about a request that answers nothing.
const IGNORED: &str = "RequestIgnored";

/// The reasons of the Events that say that a request was heeded.
fn heeded(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Promote => &["LetOn", "JudgedAnew"],
        Verb::PromoteNow => &["JudgementSkipped"],
        Verb::Abort => &["RolledBack", "PromotionAborted"],
        Verb::Retry => &["Retried"],
        Verb::Pause => &["PausedByPerson"],
        Verb::Resume => &["Resumed"],
        // No operator heeds them yet.
        Verb::Undo | Verb::Restart => &[],
    }
}

/// Prints what came of it.
async fn answer(
    cluster: &Cluster,
    args: &AskArgs,
    verb: Verb,
    before: &BTreeMap<String, i32>,
) -> Exit {
    let deadline = Instant::now() + TELLS;
    loop {
        let all = events(cluster, &args.name).await.into_iter();
        let news = all.filter(|(name, event)| before.get(name).is_none_or(|it| *it < event.times));
        let mut news = news.map(|(_, event)| event);
        let answers = |event: &EventView| {
            event.reason == IGNORED || heeded(verb).contains(&event.reason.as_str())
        };
        if let Some(event) = news.find(answers) {
            out::line(format!("{}: {}", event.reason, event.note));
            let ignored = event.reason == IGNORED;
            return if ignored { Exit::Failed } else { Exit::Done };
        }
        if Instant::now() >= deadline {
            out::line(
                "the operator has taken it; no Event says what came of it: kubectl aviary status",
            );
            return Exit::Done;
        }
        sleep(PAUSE).await;
    }
}

async fn unanswered(cluster: &Cluster, args: &AskArgs) -> Result<Exit, ClusterError> {
    let rollout = cluster.rollout(&args.name).await?;
    let status = rollout.status.as_ref();
    let says = status
        .and_then(|it| it.message.as_deref())
        .unwrap_or_default();
    let (name, namespace) = (&args.name, cluster.namespace());
    eprintln!(
        "the operator has not taken it yet, and heeds it as soon as it can ({says}); to take it back: kubectl -n {namespace} annotate canaryrollout {name} {REQUEST_ANNOTATION}-"
    );
    Ok(Exit::Timeout)
}
