//! `docs/metrics.md` has every metric that is exposed and no other, and dashboards and alerts ask for what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

use crate::exposed::{self, Families, Family};

/// What the scrape adds to every series.
const OF_TARGETS: [&str; 4] = ["job", "instance", "namespace", "pod"];
/// Whose metrics are not ours.
const OTHERS: [&str; 1] = ["apiserver_admission_webhook_rejection_count"];

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A line of the page.
#[derive(Debug)]
struct Told {
    kind: String,
    unit: String,
    labels: BTreeSet<String>,
    meaning: String,
}

/// The tables of one section of the page.
fn page(section: &str) -> BTreeMap<String, Told> {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let heading = format!("\n## {section}\n");
    let from = text
        .find(&heading)
        .unwrap_or_else(|| panic!("no {heading}"))
        + heading.len();
    let until = text[from..]
        .find("\n## ")
        .map_or(text.len(), |end| from + end);
    let lines = text[from..until]
        .lines()
        .filter(|line| line.starts_with("| `"));
    let told = lines.map(|line| {
        let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [name, kind, unit, labels, meaning] = cells[..] else {
            panic!("not five cells: {line}");
        };
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        let told = Told {
            kind: kind.to_owned(),
            unit: unit.to_owned(),
            labels: labels
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            meaning: meaning.trim_end_matches('|').trim().to_owned(),
        };
        (name.trim_matches(['|', ' ', '`']).to_owned(), told)
    });
    told.collect()
}

/// By its name (Prometheus, metric and label naming).
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    [
        ("_timestamp_seconds", "seconds since 1970"),
        ("_milliseconds", "milliseconds"),
        ("_seconds", "seconds"),
        ("_bytes", "bytes"),
        ("_ratio", "1 is all"),
    ]
    .into_iter()
    .find_map(|(suffix, unit)| name.ends_with(suffix).then_some(unit))
    .unwrap_or("")
}

fn compare(section: &str, exposed: &Families) {
    let told = page(section);
    let names = |of: Vec<&String>| of.into_iter().cloned().collect::<BTreeSet<String>>();
    let (there, written) = (
        names(exposed.keys().collect()),
        names(told.keys().collect()),
    );
    let missing: Vec<String> = there
        .difference(&written)
        .map(|name| line(name, &exposed[name]))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/metrics.md lacks, under {section}:\n{}",
        missing.join("\n")
    );
    let stale: Vec<&String> = written.difference(&there).collect();
    assert!(
        stale.is_empty(),
        "docs/metrics.md has under {section}, and nobody exposes: {stale:?}"
    );
    for (name, told) in told {
        let Family { kind, labels, .. } = &exposed[&name];
        assert_eq!(told.kind, *kind, "{name}");
        assert_eq!(told.unit, unit(&name), "{name}");
        assert!(!told.meaning.is_empty(), "{name} means nothing");
        assert_eq!(told.labels, *labels, "{name}");
    }
}

/// As it could stand on the page.
fn line(name: &str, family: &Family) -> String {
    let labels: Vec<String> = family
        .labels
        .iter()
        .map(|label| format!("`{label}`"))
        .collect();
    let (kind, unit, labels, help) = (&family.kind, unit(name), labels.join(", "), &family.help);
    format!("| `{name}` | {kind} | {unit} | {labels} | {help} |")
}

#[test]
fn the_page_has_every_metric_of_a_sidecar() {
    let (istio, own): (Families, Families) = exposed::of_sidecar()
        .into_iter()
        .partition(|(name, _)| name.starts_with("istio_"));
    compare("The sidecar", &own);
    compare("Istio's names", &istio);
}

#[tokio::test]
async fn the_page_has_every_metric_of_the_operator() {
    compare("The operator", &exposed::of_operator().await);
}

/// What is asked of Prometheus: each query, and the file that it is in.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(root().join("config/monitoring")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let mut found = Vec::new();
        if file.ends_with(".json") {
            collect(&serde_json::from_str(&text).unwrap(), &mut found);
        } else {
            for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                collect(&document, &mut found);
            }
        }
        queries.extend(found.into_iter().map(|query| (file.clone(), query)));
    }
    queries
}

/// Every `expr`, and what fills the variables of a dashboard.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr", Value::String(query)) => found.push(query.clone()),
                    ("definition", Value::String(values)) => {
                        let values = values.strip_prefix("label_values(").unwrap();
                        let (series, label) =
                            values.trim_end_matches(')').rsplit_once(", ").unwrap();
                        found.push(format!("count by ({label}) ({series})"));
                    }
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|each| collect(each, found)),
        _ => {}
    }
}

/// The series that a query reads, and the labels that it groups by.
#[derive(Default)]
struct Asked {
    selectors: Vec<VectorSelector>,
    groups: Vec<String>,
}

impl ExprVisitor for Asked {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selector) => self.selectors.push(selector.clone()),
            Expr::MatrixSelector(matrix) => self.selectors.push(matrix.vs.clone()),
            Expr::Aggregate(aggregate) => {
                if let Some(LabelModifier::Include(labels)) = &aggregate.modifier {
                    self.groups.extend(labels.labels.iter().cloned());
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

#[tokio::test]
async fn every_query_of_the_dashboards_and_alerts_asks_for_a_metric_and_labels_that_are_exposed() {
    let mut exposed = exposed::of_sidecar();
    exposed.extend(exposed::of_operator().await);
    let mut files = BTreeSet::new();
    for (file, query) in queries() {
        let parsed = query
            .replace("$__rate_interval", "5m")
            .replace("$__interval", "5m");
        let parsed = parser::parse(&parsed).unwrap_or_else(|e| panic!("{file}: {query}: {e}"));
        let mut asked = Asked::default();
        let Ok(_) = walk_expr(&mut asked, &parsed);
        assert!(!asked.selectors.is_empty(), "{file}: {query}");
        let mut known: BTreeSet<&str> = OF_TARGETS.into_iter().chain(["le"]).collect();
        for selector in &asked.selectors {
            let name = selector.name.as_deref().unwrap();
            if OTHERS.contains(&name) {
                continue;
            }
            let family = exposed.get(name.strip_suffix("_bucket").unwrap_or(name));
            let family = family.unwrap_or_else(|| panic!("{file} asks for {name}: {query}"));
            assert!(family.samples.contains(name), "{file}: {name}: {query}");
            known.extend(family.labels.iter().map(String::as_str));
            for matcher in &selector.matchers.matchers {
                let label = matcher.name.as_str();
                let there = family.labels.contains(label) || OF_TARGETS.contains(&label);
                assert!(there, "{file}: {name} has no label {label}: {query}");
            }
        }
        for label in &asked.groups {
            assert!(
                known.contains(label.as_str()),
                "{file}: no {label}: {query}"
            );
        }
        files.insert(file);
    }
    let expected = [
        "alerts.yaml",
        "dashboard.json",
        "release.json",
        "service.json",
    ];
    assert_eq!(files.into_iter().collect::<Vec<_>>(), expected);
}
