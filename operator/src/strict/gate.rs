//! Whether a namespace that asks for mutual TLS may refuse plaintext yet: nobody is refused who called a moment ago. Pure.
//!
//! ```text
//!   servers accept TLS -> endpoints are marked -> callers have the marks -> nobody called without an identity for a while -> strict
//! ```

use std::fmt;
use std::time::Duration;

/// The most of one sort that are named.
const NAMED: usize = 5;

/// What is known of a pod of the namespace that has a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    /// Its sidecar has said that it accepts TLS.
    pub(crate) accepts: bool,
    /// Ports that bypass its sidecar.
    pub(crate) skipped: Vec<u16>,
    /// Who has called it without an identity, and how long ago; `None`: its sidecar has not said.
    pub(crate) callers: Option<Vec<Plain>>,
}

/// A call without an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// `pod <namespace>/<name>`, or an address.
    pub(crate) caller: String,
    pub(crate) port: u16,
    pub(crate) ago: Duration,
}

/// What keeps a namespace from refusing plaintext.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Obstacle {
    /// Ports of a pod that bypass its sidecar.
    Skipped {
        pod: String,
        ports: Vec<u16>,
    },
    /// Sidecars that are not heard, or of a version that does not tell.
    Unheard {
        pods: Vec<String>,
    },
    NotAccepting {
        pods: Vec<String>,
    },
    /// Callers that do not know yet who accepts TLS.
    Behind {
        callers: Vec<String>,
    },
    Plaintext {
        caller: String,
        pod: String,
        port: u16,
    },
}

/// Sorted; none: it may. Who has called longer ago than `quiet` is not in the way. `behind` is asked for when nothing else is.
pub(crate) fn obstacles(
    pods: &[PodFacts],
    quiet: Duration,
    behind: impl FnOnce() -> Vec<String>,
) -> Vec<Obstacle> {
    let names = |of: &dyn Fn(&PodFacts) -> bool| -> Vec<String> {
        let pods = pods.iter().filter(|pod| of(pod));
        pods.map(|pod| pod.name.clone()).collect()
    };
    let mut obstacles = Vec::new();
    let unheard = names(&|pod| pod.callers.is_none());
    if !unheard.is_empty() {
        obstacles.push(Obstacle::Unheard { pods: unheard });
    }
    let plain = names(&|pod| pod.callers.is_some() && !pod.accepts);
    if !plain.is_empty() {
        obstacles.push(Obstacle::NotAccepting { pods: plain });
    }
    for pod in pods {
        if !pod.skipped.is_empty() {
            obstacles.push(Obstacle::Skipped {
                pod: pod.name.clone(),
                ports: pod.skipped.clone(),
            });
        }
        let callers = pod.callers.iter().flatten();
        obstacles.extend(
            callers
                .filter(|call| call.ago < quiet)
                .map(|call| Obstacle::Plaintext {
                    caller: call.caller.clone(),
                    pod: pod.name.clone(),
                    port: call.port,
                }),
        );
    }
    if obstacles.is_empty() {
        let callers = behind();
        if !callers.is_empty() {
            obstacles.push(Obstacle::Behind { callers });
        }
    }
    obstacles.sort();
    obstacles
}

/// All of them in a sentence, the first of each sort by name.
pub(crate) fn sentence(obstacles: &[Obstacle]) -> String {
    let is_plaintext = |obstacle: &&Obstacle| matches!(obstacle, Obstacle::Plaintext { .. });
    let (plaintext, others): (Vec<_>, Vec<_>) = obstacles.iter().partition(is_plaintext);
    let mut parts: Vec<String> = others.iter().map(ToString::to_string).collect();
    parts.extend(plaintext.iter().take(NAMED).map(ToString::to_string));
    if plaintext.len() > NAMED {
        parts.push(format!("and {} more", plaintext.len() - NAMED));
    }
    parts.join("; ")
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Skipped { pod, ports } => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                let ports = ports.join(",");
                write!(
                    f,
                    "pod {pod} has ports that bypass its sidecar (aviary.dev/skip-inbound-ports: {ports}): anybody can call them in the clear"
                )
            }
            Obstacle::Unheard { pods } => write!(
                f,
                "the sidecars of {} have not said who calls them without TLS (are they connected, and of the operator's version?)",
                listed("pod", pods)
            ),
            Obstacle::NotAccepting { pods } => write!(
                f,
                "the sidecars of {} do not accept TLS yet",
                listed("pod", pods)
            ),
            Obstacle::Behind { callers } => write!(
                f,
                "{} have not taken over yet who accepts TLS",
                listed("caller", callers)
            ),
            Obstacle::Plaintext { caller, pod, port } => write!(
                f,
                "{caller} has called port {port} of pod {pod} without an identity a moment ago"
            ),
        }
    }
}

fn listed(one: &str, names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names[..names.len() - more].join(", ");
    let s = if names.len() == 1 { "" } else { "s" };
    match more {
        0 => format!("{one}{s} {first}"),
        more => format!("{one}{s} {first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::QUIET;
    use super::*;

    fn pod(name: &str) -> PodFacts {
        PodFacts {
            name: name.to_owned(),
            accepts: true,
            skipped: Vec::new(),
            callers: Some(Vec::new()),
        }
    }

    fn call(caller: &str, ago: Duration) -> Plain {
        Plain {
            caller: caller.to_owned(),
            port: 8080,
            ago,
        }
    }

    fn nobody() -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn a_namespace_in_which_everybody_shows_who_they_are_may_refuse_others() {
        assert_eq!(obstacles(&[], QUIET, nobody), []);
        let mut web = pod("web");
        web.callers = Some(vec![call("10.0.0.1", QUIET)]);
        assert_eq!(obstacles(&[web, pod("api")], QUIET, nobody), []);
    }

    #[test]
    fn whatever_is_in_the_way_is_named() {
        let mut plain = pod("a");
        plain.accepts = false;
        let mut unheard = pod("b");
        unheard.callers = None;
        unheard.accepts = false;
        let mut skipped = pod("c");
        skipped.skipped = vec![22, 9090];
        let mut called = pod("d");
        let moment = QUIET - Duration::from_secs(1);
        called.callers = Some(vec![
            call("pod other/client", Duration::ZERO),
            call("10.0.0.1", moment),
        ]);
        let all = obstacles(&[plain, unheard, skipped, called], QUIET, || {
            panic!("asked in vain")
        });
        assert_eq!(all.len(), 5, "{all:?}");
        let text = sentence(&all);
        for part in [
            "sidecars of pod a do not accept TLS yet",
            "sidecars of pod b have not said",
            "pod c has ports that bypass its sidecar (aviary.dev/skip-inbound-ports: 22,9090)",
            "pod other/client has called port 8080 of pod d without an identity",
            "10.0.0.1 has called port 8080",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn callers_have_to_know_who_accepts_tls() {
        let behind = obstacles(&[pod("web")], QUIET, || vec!["other/client".to_owned()]);
        assert!(sentence(&behind).starts_with("caller other/client have not taken over"));
    }

    #[test]
    fn of_many_the_first_are_named() {
        let mut web = pod("web");
        let calls = (0..9).map(|number| call(&format!("10.0.0.{number}"), Duration::ZERO));
        web.callers = Some(calls.collect());
        let text = sentence(&obstacles(&[web], QUIET, nobody));
        assert!(
            text.contains("10.0.0.4") && !text.contains("10.0.0.5"),
            "{text}"
        );
        assert!(text.ends_with("and 4 more"), "{text}");
        let pods: Vec<PodFacts> = (0..9)
            .map(|number| PodFacts {
                accepts: false,
                ..pod(&format!("web-{number}"))
            })
            .collect();
        let text = sentence(&obstacles(&pods, QUIET, nobody));
        assert!(text.contains("web-4 and 4 more do not accept"), "{text}");
    }

    #[test]
    fn the_guides_show_what_is_said() {
        let waits = Obstacle::Plaintext {
            caller: "pod legacy/cron-28".to_owned(),
            pod: "web-6d4cf-x2x7k".to_owned(),
            port: 8080,
        };
        for guide in [
            include_str!("../../../docs/security.md"),
            include_str!("../../../docs/authorization.md"),
        ] {
            let said = super::super::task::waits("shop", std::slice::from_ref(&waits));
            assert!(guide.contains(&said), "{said}");
        }
    }
}
