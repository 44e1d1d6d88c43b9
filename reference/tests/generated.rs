//! The committed pages are what the code says, and the code has no name that is on no page.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aviary_operator::annotations;
use aviary_reference::{folder, pages, repository};

#[test]
fn the_committed_pages_are_what_the_generator_writes() {
    for page in pages().unwrap() {
        let path = folder().join(page.file);
        let committed = fs::read_to_string(&path).unwrap_or_default();
        let differs = committed
            .lines()
            .zip(page.text.lines())
            .find(|(old, new)| old != new);
        assert!(
            committed == page.text,
            "docs/reference/{} is out of date: run `make generate`. First difference: {differs:?}",
            page.file
        );
    }
}

#[test]
fn nothing_in_the_folder_was_left_by_an_older_generator() {
    let written: BTreeSet<String> = pages()
        .unwrap()
        .iter()
        .map(|page| page.file.to_owned())
        .collect();
    let there = fs::read_dir(folder()).unwrap();
    let there: BTreeSet<String> = there
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, written);
}

/// A constant with such a name is a label, an annotation or the like: `"aviary.dev/` and a word.
#[test]
fn every_label_and_annotation_in_the_code_has_a_row() {
    let known: BTreeSet<&str> = annotations::all().iter().map(|entry| entry.name).collect();
    let mut missing = BTreeSet::new();
    for part in [
        "crds/src",
        "operator/src",
        "operator/core/src",
        "proxy/src",
        "proxy/core/src",
        "proxy/xds/src",
    ] {
        for file in sources(&repository().join(part)) {
            let text = fs::read_to_string(&file).unwrap();
            // Tests quote names, too, and come last.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for name in names(code) {
                if !known.contains(name) {
                    missing.insert(format!("{name} in {}", file.display()));
                }
            }
        }
    }
    assert!(
        missing.is_empty(),
        "add a row to operator/src/annotations.rs, and run `make generate`: {missing:#?}"
    );
}

/// Whole string literals that are such a name.
fn names(code: &str) -> impl Iterator<Item = &str> {
    code.split("\"aviary.dev/").skip(1).filter_map(|rest| {
        let length = rest.find('"')?;
        let is_name = rest[..length]
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || it == '-');
        let start = rest.as_ptr() as usize - code.as_ptr() as usize - "aviary.dev/".len();
        // Versions of our API are no names.
        (is_name && !rest.starts_with("v1"))
            .then(|| &code[start..start + "aviary.dev/".len() + length])
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !name.contains("test") {
            found.push(path);
        }
    }
    found.sort();
    found
}
