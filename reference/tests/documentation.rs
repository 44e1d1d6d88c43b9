//! What is written by hand leads somewhere: links, the index, and what each alert says to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use aviary_reference::repository;
use serde_json::Value;

/// Every page of the repository that people read.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != "node_modules" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text without what is in fences and in code, where brackets mean something else.
fn prose(text: &str) -> String {
    let mut kept = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside = line.split('`').step_by(2);
            kept.push_str(&outside.collect::<Vec<_>>().join("code"));
            kept.push('\n');
        }
    }
    kept
}

fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets
        .map(|it| it.split(' ').next().unwrap_or_default().to_owned())
        .collect()
}

/// As GitHub makes them of headings: small letters, spaces become dashes, and the rest goes.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !fenced) else {
            continue;
        };
        let heading = heading
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .replace(' ', "-");
        let kept = |it: &char| it.is_alphanumeric() || *it == '-' || *it == '_';
        let anchor: String = heading.chars().filter(kept).collect();
        let times = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *times == 0 {
            anchor
        } else {
            format!("{anchor}-{times}")
        });
        *times += 1;
    }
    anchors
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            let heading = anchor.is_empty()
                || fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor));
            if !target.exists() || !heading {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_index_has_every_page_of_the_documentation() {
    let docs = repository().join("docs");
    let index = fs::read_to_string(docs.join("README.md")).unwrap();
    let linked: BTreeSet<PathBuf> = links(&index)
        .iter()
        .map(|link| docs.join(link.split('#').next().unwrap_or_default()))
        .collect();
    let missing: Vec<String> = pages()
        .into_iter()
        .filter(|page| {
            page.starts_with(&docs)
                && !page.starts_with(docs.join("adr"))
                && *page != docs.join("README.md")
        })
        .filter(|page| !linked.contains(page))
        .map(|page| page.display().to_string())
        .collect();
    assert!(
        missing.is_empty(),
        "link them in docs/README.md: {missing:#?}"
    );
}

#[test]
fn every_alert_names_what_to_do_about_it_and_the_page_has_it() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let rules: Value = serde_saphyr::from_str(&read("config/monitoring/alerts.yaml")).unwrap();
    let operations = read("docs/operations.md");
    let headings = anchors(&operations);
    let groups = rules["spec"]["groups"].as_array().unwrap();
    let alerts: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert!(!alerts.is_empty());
    let mut named = BTreeSet::new();
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        let anchor = name.to_lowercase();
        let runbook = format!("docs/operations.md#{anchor}");
        assert_eq!(
            alert["annotations"]["runbook"].as_str(),
            Some(runbook.as_str()),
            "{name}"
        );
        assert!(
            headings.contains(&anchor),
            "docs/operations.md has no heading {name}"
        );
        named.insert(anchor);
    }
    // What is no alert any more is taken out.
    let told = operations
        .lines()
        .filter_map(|line| line.strip_prefix("### Aviary"));
    for heading in told {
        let anchor = format!("aviary{}", heading.to_lowercase());
        assert!(named.contains(&anchor), "there is no alert {heading}");
    }
}

/// What is quoted from the repository's own programs: commands of make, and of the plugin.
#[test]
fn commands_of_make_that_are_told_are_there() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let mut unknown = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in text.lines() {
            for said in commands(line) {
                if !targets.contains(said) {
                    unknown.push(format!("{}: make {said}", shown(&page)));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// The targets in a line: at its beginning, and in code.
fn commands(line: &str) -> Vec<&str> {
    let target = |text: &'_ str| -> Option<usize> {
        let rest = text.strip_prefix("make ")?;
        let end = rest
            .find(|it: char| !it.is_ascii_lowercase() && it != '-')
            .unwrap_or(rest.len());
        (end > 0).then_some(end)
    };
    let in_code = line.split('`').skip(1).step_by(2);
    let first = std::iter::once(line);
    first
        .chain(in_code)
        .filter_map(|text| Some(&text[5..5 + target(text)?]))
        .collect()
}

fn shown(page: &Path) -> String {
    page.strip_prefix(repository())
        .unwrap_or(page)
        .display()
        .to_string()
}
