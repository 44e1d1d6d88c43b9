//! `make bench-judge`: how soon the guard notices a bad release, and how often it blames a good one, beside the rules that
//! Flagger and Argo Rollouts document, on the same simulated traffic. Reports and acknowledgements cost no time here.
//!
//! `make bench-judge RUNS=2000` for steadier numbers (default 500 a cell).

mod rules;
mod traffic;

use rules::{Argo, Flagger, Guarded, Rule};
use traffic::{Scene, Told, Traffic, World};

/// What stable is like before the release: seconds of it alone.
const BEFORE: i64 = 600;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let runs = arguments.find_map(|argument| argument.parse().ok());
    let runs = runs.unwrap_or(500);
    println!(
        "guard: falseAlarm 1 %, maxErrorIncrease 0.5 %. Flagger: 99 % over windows of 1 min, 5 of them fail."
    );
    println!(
        "Argo: 99 % over 30 s, asked every 5 s, the first failure counts. {runs} runs a cell.\n"
    );
    noticing(runs);
    within_the_soak(runs);
    blaming(runs);
}

/// Seconds to the alarm, of each rule; `None`: not within the time.
fn play(world: World, seconds: i64, seed: u64) -> [Option<i64>; 3] {
    let mut traffic = Traffic::new(world, seed);
    let mut rules: [Box<dyn Rule>; 3] = [
        Box::new(Guarded::new()),
        Box::new(Flagger::default()),
        Box::new(Argo::default()),
    ];
    let mut alarms = [None; 3];
    for at in -BEFORE..seconds {
        let second = traffic.second(at);
        for (rule, alarm) in rules.iter_mut().zip(&mut alarms) {
            if alarm.is_none() && rule.sees(&second) {
                *alarm = Some(at + 1);
            }
        }
        if alarms.iter().all(Option::is_some) {
            break;
        }
    }
    alarms
}

fn many(world: World, seconds: i64, runs: u64) -> Vec<[Option<i64>; 3]> {
    (0..runs).map(|seed| play(world, seconds, seed)).collect()
}

fn noticing(runs: u64) {
    const PATIENCE: i64 = 1_800;
    let faults = [1.0, 0.5, 0.1, 0.05, 0.02, 0.01];
    println!(
        "Seconds to the alarm, median/p95, guard Flagger Argo; stable fails 0.1 %; the last row a minute after everybody failed 20 % for a minute\n"
    );
    print!("{:<26}", "canary's requests/s");
    for fault in faults {
        print!("| {:<22}", format!("fails {} %", fault * 100.0));
    }
    println!();
    let incident = Scene::Incident {
        from: -120,
        until: -60,
        more: 0.2,
    };
    for (total, weight, scene) in [
        (50.0, 0.01, Scene::Plain),
        (500.0, 0.01, Scene::Plain),
        (50.0, 0.5, Scene::Plain),
        (500.0, 0.1, Scene::Plain),
        (500.0, 0.5, Scene::Plain),
        (5000.0, 0.5, Scene::Plain),
        (500.0, 0.1, incident),
    ] {
        let after = match scene {
            Scene::Incident { .. } => " after 20 %",
            _ => "",
        };
        let name = format!(
            "{} ({} % of {total}){after}",
            total * weight,
            weight * 100.0
        );
        print!("{name:<26}");
        for fault in faults {
            let world = World {
                scene,
                ..World::steady(total, weight, 0.001, fault)
            };
            // What takes long is played less often.
            let runs = if fault < 0.05 { runs.div_ceil(5) } else { runs };
            let alarms = many(world, PATIENCE, runs);
            let cells = [0, 1, 2].map(|rule| {
                let mut took: Vec<i64> = alarms
                    .iter()
                    .map(|of| of[rule].unwrap_or(i64::MAX))
                    .collect();
                took.sort_unstable();
                let at = |share: f64| {
                    let index = (took.len() as f64 * share) as usize;
                    match took[index.min(took.len() - 1)] {
                        i64::MAX => "-".to_owned(),
                        seconds => seconds.to_string(),
                    }
                };
                format!("{}/{}", at(0.5), at(0.95))
            });
            print!("| {:<22}", cells.join(" "));
        }
        println!();
    }
}

/// What the default steps are for.
fn within_the_soak(runs: u64) {
    const FAULTS: [f64; 8] = [0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0];
    println!(
        "\nThe smallest share of failures that the guard sees within a default step, in 95 % of releases; stable fails 0.1 %\n"
    );
    println!(
        "{:<12}| 1 % for 1m | 10 % for 2m | 50 % for 5m",
        "requests/s"
    );
    for total in [5.0, 50.0, 500.0, 5000.0] {
        let cells = [(0.01, 60), (0.1, 120), (0.5, 300)].map(|(weight, soak)| {
            let sees = |fault: &f64| {
                let world = World::steady(total, weight, 0.001, *fault);
                let runs = runs.div_ceil(5);
                let seen = (0..runs).filter(|seed| play(world, soak, *seed)[0].is_some());
                seen.count() as f64 >= 0.95 * runs as f64
            };
            let seen = FAULTS.into_iter().find(sees);
            seen.map_or("-".to_owned(), |fault| format!("{} %", fault * 100.0))
        });
        println!(
            "{total:<12}| {:<11}| {:<12}| {}",
            cells[0], cells[1], cells[2]
        );
    }
}

fn blaming(runs: u64) {
    const LASTS: i64 = 480;
    println!(
        "\nGood releases that are blamed within {LASTS} s, %, guard | Flagger | Argo: worst cell, and all\n"
    );
    let cells = || {
        [50.0, 500.0, 5000.0]
            .into_iter()
            .flat_map(|total| [0.01, 0.1, 0.5].map(|weight| (total, weight)))
    };
    let scenes: [(&str, f64, Scene); 13] = [
        ("stable 0.1 %", 0.001, Scene::Plain),
        ("stable 1 %", 0.01, Scene::Plain),
        (
            "both fail 20 % more for 60 s",
            0.001,
            Scene::Incident {
                from: 120,
                until: 180,
                more: 0.2,
            },
        ),
        ("bursts of 1 s, 0.1 %", 0.001, Scene::Bursts),
        ("bursts of 1 s, 1 %", 0.01, Scene::Bursts),
        ("episodes of a pod, 0.1 %", 0.001, Scene::Pods { pods: 20 }),
        ("episodes of a pod, 1 %", 0.01, Scene::Pods { pods: 20 }),
        (
            "slow answers, quick failures",
            0.01,
            Scene::Slow(Told::Ours),
        ),
        ("  counted at their end", 0.01, Scene::Slow(Told::Naively)),
        (
            "half fail when tried again",
            0.01,
            Scene::Retried(Told::Ours),
        ),
        (
            "  every attempt counted",
            0.01,
            Scene::Retried(Told::Naively),
        ),
        (
            "callers that fail 50 times as often",
            0.001,
            Scene::Callers(Told::Ours),
        ),
        (
            "  alone with the new weight",
            0.001,
            Scene::Callers(Told::Naively),
        ),
    ];
    for (name, errors, scene) in scenes {
        let shares: Vec<[f64; 3]> = cells()
            .map(|(total, weight)| {
                let world = World {
                    scene,
                    ..World::steady(total, weight, errors, errors)
                };
                blamed(&many(world, LASTS, runs))
            })
            .collect();
        show(name, &shares);
        if matches!(scene, Scene::Pods { .. }) {
            for ((total, weight), share) in cells().zip(&shares) {
                println!("    {:>4} % of {total:<5} {:6.2}", weight * 100.0, share[0]);
            }
        }
    }
    let whole = cells().map(|(total, _)| total);
    let mut totals: Vec<f64> = whole.collect();
    totals.dedup();
    let shares: Vec<[f64; 3]> = totals
        .into_iter()
        .map(|total| blamed(&many(World::stepwise(total, 0.001), LASTS, runs)))
        .collect();
    show("a release of four steps", &shares);
    last_step(runs);
}

/// A canary that is bad at weight 100 only, from a minute after its begin on: nothing is left to compare it with.
fn last_step(runs: u64) {
    const FROM: i64 = 420;
    println!(
        "\nBad from second 60 of the last step (100 %) on, 500 requests/s: seconds to the alarm of guard | Flagger | Argo, median; noticed within 600 s\n"
    );
    for fails in [1.0, 0.5, 0.05] {
        let world = World {
            scene: Scene::Late { from: FROM, fails },
            ..World::stepwise(500.0, 0.001)
        };
        let alarms = many(world, FROM + 600, runs.div_ceil(5));
        let cells = [0, 1, 2].map(|rule| {
            let mut took: Vec<i64> = alarms
                .iter()
                .filter_map(|of| of[rule])
                .map(|at| at - FROM)
                .collect();
            took.sort_unstable();
            let share = 100.0 * took.len() as f64 / alarms.len() as f64;
            match took.get(took.len() / 2) {
                Some(median) => format!("{median} ({share:.0} %)"),
                None => "- (0 %)".to_owned(),
            }
        });
        println!(
            "fails {:<5} {:<16}| {:<16}| {:<16}",
            format!("{} %", fails * 100.0),
            cells[0],
            cells[1],
            cells[2]
        );
    }
}

/// In percent, for each rule.
fn blamed(alarms: &[[Option<i64>; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|rule| {
        let count = alarms.iter().filter(|of| of[rule].is_some()).count();
        100.0 * count as f64 / alarms.len() as f64
    })
}

fn show(name: &str, shares: &[[f64; 3]]) {
    let of = |rule: usize| {
        let worst = shares.iter().map(|share| share[rule]).fold(0.0, f64::max);
        let all: f64 = shares.iter().map(|share| share[rule]).sum();
        format!("{worst:.2} ({:.2})", all / shares.len() as f64)
    };
    println!("{name:<36} {:<16}| {:<16}| {:<16}", of(0), of(1), of(2));
}
