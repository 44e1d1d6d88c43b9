//! Tells the stories that were asked for, some side by side and some alone, and reports as `cargo test` does, line for line.
//!
//! Only the arguments are libtest-mimic's: it pads the names of its lines, and runs what it runs on threads of its own.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use libtest_mimic::Arguments;

use super::theatre::Story;

/// What is told.
pub(crate) struct Bill {
    pub side_by_side: Vec<Story>,
    /// One after another, when those are over: what they do, others would feel.
    pub alone: Vec<Story>,
}

/// Numbers are of the whole bill.
type Numbered = (usize, Story);

/// `tell` is given the number and the story; its error is for the person who reads the result.
pub(crate) fn run(
    arguments: &Arguments,
    bill: &Bill,
    lanes: usize,
    tell: impl Fn(usize, Story) -> Result<(), String> + Sync,
) -> ExitCode {
    let all: Vec<Numbered> = bill
        .side_by_side
        .iter()
        .chain(&bill.alone)
        .copied()
        .enumerate()
        .collect();
    let chosen = |(_, story): &&Numbered| is_chosen(arguments, story.name);
    let chosen: Vec<Numbered> = all.iter().filter(chosen).copied().collect();
    if arguments.list {
        chosen
            .iter()
            .filter(|_| !arguments.ignored)
            .for_each(|(_, story)| println!("{}: test", story.name));
        return ExitCode::SUCCESS;
    }
    // None is ignored, so there is nothing to run where only ignored ones are asked for.
    let chosen = if arguments.ignored {
        Vec::new()
    } else {
        chosen
    };
    println!("\nrunning {} tests", chosen.len());
    let began = Instant::now();
    let failures = Mutex::new(Vec::new());
    let one = |(number, story): Numbered| {
        // Progress goes to standard error, so that each result is a line of its own.
        eprintln!("story: {}", story.name);
        let begun = Instant::now();
        let told = tell(number, story);
        let word = if told.is_ok() { "ok" } else { "FAILED" };
        eprintln!("told in {} s: {}", begun.elapsed().as_secs(), story.name);
        println!("test {} ... {word}", story.name);
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.extend(told.err().map(|why| (story.name, why)));
    };
    let (beside, alone): (Vec<Numbered>, Vec<Numbered>) = chosen
        .iter()
        .partition(|(number, _)| *number < bill.side_by_side.len());
    in_lanes(beside, lanes, one);
    in_lanes(alone, 1, one);
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    report(chosen.len(), all.len() - chosen.len(), &failures, began)
}

/// In their order, so many at a time.
fn in_lanes(stories: Vec<Numbered>, lanes: usize, one: impl Fn(Numbered) + Sync) {
    let stories = Mutex::new(stories.into_iter());
    let next = || {
        let mut stories = stories.lock().unwrap_or_else(PoisonError::into_inner);
        stories.next()
    };
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(story) = next() {
                    one(story);
                }
            });
        }
    });
}

fn is_chosen(arguments: &Arguments, name: &str) -> bool {
    let matches = |text: &String| {
        if arguments.exact {
            name == text
        } else {
            name.contains(text.as_str())
        }
    };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}

fn report(
    told: usize,
    filtered_out: usize,
    failures: &[(&str, String)],
    began: Instant,
) -> ExitCode {
    if !failures.is_empty() {
        println!("\nfailures:\n");
        failures
            .iter()
            .for_each(|(name, why)| println!("---- {name} ----\n{why}\n"));
        println!("failures:");
        failures.iter().for_each(|(name, _)| println!("    {name}"));
    }
    let (word, code) = if failures.is_empty() {
        ("ok", ExitCode::SUCCESS)
    } else {
        ("FAILED", ExitCode::FAILURE)
    };
    println!(
        "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured; {filtered_out} filtered out; finished in {:.2}s\n",
        told - failures.len(),
        failures.len(),
        began.elapsed().as_secs_f64(),
    );
    code
}
