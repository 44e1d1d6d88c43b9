//! `status --watch`: a screen on a terminal, else lines for each change.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::follow::Followed;
use super::screen::{self, Key, Screen};
use super::width;
use crate::args::{Output, StatusArgs};
use crate::cluster::{Cluster, ClusterError, EVENTS};
use crate::exit::Exit;
use crate::lines::plain;
use crate::out;
use crate::view::{View, newest_events, view};

/// What changes without news: how long is left.
const TICK: Duration = Duration::from_secs(1);
/// Of `--timeout`; what is watched goes on.
const OVER: &str = "the timeout is over; the release goes on";

pub(super) async fn watch(
    cluster: &Cluster,
    name: &str,
    args: &StatusArgs,
) -> Result<Exit, ClusterError> {
    let followed = Followed::begin(cluster, name).await?;
    let mut followed = followed.with_events(cluster, name);
    let deadline = args.timeout.0.map(|length| Instant::now() + length);
    let lines = args.plain || args.output.is_some() || !std::io::stdout().is_terminal();
    if lines {
        by_lines(&mut followed, args.output, deadline).await
    } else {
        on_screen(&mut followed, deadline).await
    }
}

/// `None`: it was deleted.
fn seen(followed: &Followed) -> Option<View> {
    let known = &followed.known;
    let events = newest_events(&known.events, EVENTS);
    let mut view = view(known.rollout.as_ref()?, known.template.as_ref(), events);
    if let Some(why) = followed.lost() {
        let stale = format!("this may be old: the API server cannot be watched ({why})");
        view.remarks.insert(0, stale);
    }
    Some(view)
}

async fn by_lines(
    followed: &mut Followed,
    output: Option<Output>,
    deadline: Option<Instant>,
) -> Result<Exit, ClusterError> {
    let mut shown = None;
    loop {
        let Some(view) = seen(followed) else {
            eprintln!("the CanaryRollout was deleted");
            return Ok(Exit::Done);
        };
        if shown.as_ref() != Some(&view) {
            match output {
                Some(Output::Json) => {
                    let line = serde_json::to_string(&view);
                    out::line(line.expect("a view has string keys and finite numbers"));
                }
                None => out::line(plain(&view, Timestamp::now(), width()) + "\n"),
            }
            shown = Some(view);
        }
        tokio::select! {
            () = followed.changed() => {}
            () = until(deadline) => {
                eprintln!("{OVER}");
                return Ok(Exit::Timeout);
            }
        }
    }
}

async fn on_screen(
    followed: &mut Followed,
    deadline: Option<Instant>,
) -> Result<Exit, ClusterError> {
    let mut screen = Screen::open().map_err(ClusterError::Terminal)?;
    let mut keys = screen::keys();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut scrolled = 0;
    loop {
        let Some(view) = seen(followed) else {
            drop(screen);
            eprintln!("the CanaryRollout was deleted");
            return Ok(Exit::Done);
        };
        scrolled = screen
            .show(&view, Timestamp::now(), scrolled)
            .map_err(ClusterError::Terminal)?;
        tokio::select! {
            () = followed.changed() => {}
            _ = tick.tick() => {}
            () = until(deadline) => {
                drop(screen);
                out::line(plain(&view, Timestamp::now(), width()));
                eprintln!("{OVER}");
                return Ok(Exit::Timeout);
            }
            key = keys.recv() => match key {
                Some(Key::Down) => scrolled += 1,
                Some(Key::Up) => scrolled = scrolled.saturating_sub(1),
                Some(Key::End) | None => {
                    drop(screen);
                    // What was on the screen last stays to be read.
                    out::line(plain(&view, Timestamp::now(), width()));
                    return Ok(Exit::Done);
                }
            },
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
