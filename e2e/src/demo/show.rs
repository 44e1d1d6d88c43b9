//! Where pictures go: a terminal is redrawn in place, everything else gets a line for each change.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::screen::{Frame, render};
use crate::harness::Happened;

pub struct Show {
    began: Instant,
    to: To,
}

enum To {
    /// How wide and how high it is, and how many lines of the last picture are on it.
    Terminal {
        width: usize,
        height: usize,
        drawn: usize,
    },
    /// The events and the last change that were printed.
    Lines {
        phase: String,
        events: Vec<Happened>,
    },
}

impl Show {
    pub fn on_standard_output() -> Show {
        let to = if std::io::stdout().is_terminal() {
            let (height, width) = size().unwrap_or((30, 100));
            To::Terminal {
                width,
                height,
                drawn: 0,
            }
        } else {
            To::Lines {
                phase: String::new(),
                events: Vec::new(),
            }
        };
        Show {
            began: Instant::now(),
            to,
        }
    }

    pub fn elapsed(&self) -> std::time::Duration {
        self.began.elapsed()
    }

    /// Says something that stays.
    pub fn say(&mut self, line: &str) {
        if let To::Terminal { drawn, .. } = &mut self.to {
            // The last picture stays above.
            *drawn = 0;
        }
        println!("{:>4}s  {line}", self.began.elapsed().as_secs());
    }

    pub fn picture(&mut self, frame: &Frame) {
        let elapsed = self.began.elapsed().as_secs();
        match &mut self.to {
            To::Terminal {
                width,
                height,
                drawn,
            } => {
                let mut lines = render(frame, *width);
                lines.truncate(height.saturating_sub(1));
                let mut out = std::io::stdout().lock();
                let up = if *drawn > 0 {
                    format!("\x1b[{drawn}A")
                } else {
                    String::new()
                };
                // A terminal that is gone is no reason to end a release.
                let _ = writeln!(out, "{up}\x1b[J{}", lines.join("\n"));
                let _ = out.flush();
                *drawn = lines.len();
            }
            To::Lines { phase, events } => {
                for event in &frame.events {
                    if !events.contains(event) {
                        println!("{elapsed:>4}s  {}: {}", event.reason, event.note);
                        events.push(event.clone());
                    }
                }
                let now = changes(frame);
                if *phase != now {
                    let stats = &frame.stats;
                    println!(
                        "{elapsed:>4}s  {now}; {} requests, {} failed, {} lost",
                        stats.sent,
                        stats.failed.total(),
                        stats.lost
                    );
                    *phase = now;
                }
            }
        }
    }
}

/// What a new line is worth: phase, weights and acknowledgements.
fn changes(frame: &Frame) -> String {
    let status = &frame.status;
    let phase = status.phase.map_or("?", |phase| phase.name());
    match &status.weight {
        Some(w) => format!(
            "{} {phase}: weight {}% wanted, {}% sent, acknowledged by {} of {} proxies",
            frame.canary, w.desired, w.sent, w.acknowledged, w.proxies
        ),
        None => format!("{} {phase}", frame.canary),
    }
}

/// Rows and columns. `stty` knows without unsafe code; without it there is a guess.
fn size() -> Option<(usize, usize)> {
    let output = Command::new("stty")
        .arg("size")
        .stdin(Stdio::inherit())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((
        rows.parse().ok().filter(|rows| *rows > 0)?,
        columns.parse().ok().filter(|columns| *columns > 0)?,
    ))
}
