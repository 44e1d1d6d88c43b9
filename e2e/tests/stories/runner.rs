//! Tells the stories that were asked for one after another, and reports as `cargo test` does, line for line.
//!
//! Only the arguments are libtest-mimic's: it pads the names of its lines, and runs what it runs on threads of its own.

use std::process::ExitCode;
use std::time::Instant;

use libtest_mimic::Arguments;

use super::theatre::Story;

/// `tell` is given the number and the story; its error is for the person who reads the result.
pub(crate) fn run(
    arguments: &Arguments,
    stories: &[Story],
    mut tell: impl FnMut(usize, Story) -> Result<(), String>,
) -> ExitCode {
    let chosen: Vec<(usize, Story)> = stories
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, story)| is_chosen(arguments, story.name))
        .collect();
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
    let mut failures = Vec::new();
    for (place, (number, story)) in chosen.iter().enumerate() {
        // Progress goes to standard error, so that each result is a line of its own.
        eprintln!("story {} of {}: {}", place + 1, chosen.len(), story.name);
        let told = tell(*number, *story);
        let word = if told.is_ok() { "ok" } else { "FAILED" };
        println!("test {} ... {word}", story.name);
        failures.extend(told.err().map(|why| (story.name, why)));
    }
    report(chosen.len(), stories.len() - chosen.len(), &failures, began)
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
