//! The fields of a resource, from the schema that the API server has: one table for each object in it.

use anyhow::Context;
use aviary_crds::units;
use serde_json::{Map, Value};

use crate::markdown::{GENERATED, capital, code, table};

/// Patterns that have a name.
const PATTERNS: [(&str, &str); 6] = [
    (units::DURATION_PATTERN, "duration"),
    (units::DAYS_PATTERN, "days"),
    (units::PERCENT_PATTERN, "percentage"),
    (units::QUANTILE_PATTERN, "quantile"),
    (units::DECIMAL_PATTERN, "decimal"),
    (units::DNS_LABEL_PATTERN, "DNS label"),
];

/// A default that is longer is in the tables of its own fields.
const LONGEST_DEFAULT: usize = 40;

/// The page about the resource of this CustomResourceDefinition.
pub(crate) fn page(manifest: &str) -> anyhow::Result<String> {
    let crd: Value = serde_saphyr::from_str(manifest)?;
    let spec = &crd["spec"];
    let version = &spec["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let name = |key: &str| spec["names"][key].as_str().unwrap_or_default();
    let (kind, group) = (name("kind"), spec["group"].as_str().unwrap_or_default());
    let v = version["name"].as_str().unwrap_or_default();
    let mut short: Vec<&str> = vec![name("plural")];
    short.extend(
        spec["names"]["shortNames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str),
    );
    let mut page = format!(
        "{GENERATED}
# {kind}

`apiVersion: {group}/{v}`, `kind: {kind}`; with kubectl {}. {}

The same at a prompt: `kubectl explain {}.spec`. {} Durations are written `500ms`, `30s`, `1m30s`, `1h`; percentages `99%`, `99.5%`.
",
        short.iter().map(|it| code(it)).collect::<Vec<_>>().join(", "),
        described(schema),
        name("singular"),
        "A field with a * has to be there.",
    );
    let properties = schema["properties"]
        .as_object()
        .context("the schema has no properties")?;
    for part in ["spec", "status"] {
        if let Some(part_schema) = properties.get(part) {
            object(&mut page, part, part_schema);
        }
    }
    Ok(page)
}

/// The table of an object's fields and what has to hold between them, then those of the objects in it.
fn object(page: &mut String, path: &str, schema: &Value) {
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    page.push_str(&format!("\n## {path}\n\n"));
    let what = described(schema);
    if !what.is_empty() && path != "spec" {
        page.push_str(&format!("{what}\n\n"));
    }
    let is_spec = path.starts_with("spec");
    let mut head = vec!["field", "type"];
    if is_spec {
        head.push("default");
    }
    head.push("what");
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let rows = fields.iter().map(|(name, field)| {
        let star = if is_spec && required.contains(&name.as_str()) {
            " *"
        } else {
            ""
        };
        let mut row = vec![format!("{}{star}", code(name)), kind(path, name, field)];
        if is_spec {
            row.push(default(field));
        }
        row.push(what_of(field));
        row
    });
    page.push_str(&table(&head, rows));
    let rules = messages(schema);
    if !rules.is_empty() {
        page.push_str("\nWhat has to hold:\n\n");
        rules
            .iter()
            .for_each(|rule| page.push_str(&format!("- {rule}\n")));
    }
    for (name, field) in fields {
        let (path, schema) = inner(path, name, field);
        object(page, &path, schema);
    }
}

/// The object that a field has, or that its list has.
fn inner<'a>(path: &str, name: &str, field: &'a Value) -> (String, &'a Value) {
    match field.get("items") {
        Some(items) => (format!("{path}.{name}[]"), items),
        None => (format!("{path}.{name}"), field),
    }
}

/// As GitHub makes an anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|it| it.is_alphanumeric() || *it == '-' || *it == '_');
    kept.flat_map(char::to_lowercase).collect()
}

fn kind(path: &str, name: &str, field: &Value) -> String {
    let (inner_path, schema) = inner(path, name, field);
    let link = |what: &str| {
        let there = schema["properties"]
            .as_object()
            .is_some_and(|it| !it.is_empty());
        if there {
            format!("[{what}](#{})", anchor(&inner_path))
        } else {
            what.to_owned()
        }
    };
    if field.get("items").is_some() {
        let of = scalar(schema);
        return if schema["type"] == "object" {
            link("list of objects")
        } else {
            format!("list of {of}")
        };
    }
    if field["type"] == "object" {
        link("object")
    } else {
        scalar(field)
    }
}

fn scalar(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> = values.iter().filter_map(Value::as_str).map(code).collect();
        return values.join(", ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    let pattern = field["pattern"].as_str().unwrap_or_default();
    if let Some((_, name)) = PATTERNS.iter().find(|(known, _)| *known == pattern) {
        return (*name).to_owned();
    }
    if field["format"] == "date-time" {
        return "time".to_owned();
    }
    let name = field["type"].as_str().unwrap_or("any");
    let bounds = ["minimum", "maximum"].map(|key| whole(&field[key]));
    match bounds {
        [Some(least), Some(most)] => format!("{name}, {least} to {most}"),
        [Some(least), None] => format!("{name}, at least {least}"),
        [None, Some(most)] => format!("{name}, at most {most}"),
        [None, None] => name.to_owned(),
    }
}

/// Bounds are numbers with a point in the schema, and whole ones here.
fn whole(value: &Value) -> Option<String> {
    let number = value.as_f64()?;
    Some(format!("{number}"))
}

fn default(field: &Value) -> String {
    let Some(value) = field.get("default") else {
        return String::new();
    };
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() <= LONGEST_DEFAULT {
        code(&text)
    } else {
        "below".to_owned()
    }
}

/// The description, the bounds of a list, and the rules of a field that is no object.
fn what_of(field: &Value) -> String {
    let mut said = vec![described(field)];
    let bound = |key: &str| field[key].as_u64();
    match (bound("minItems"), bound("maxItems")) {
        (Some(least), Some(most)) => said.push(format!("{least} to {most} of them.")),
        (None, Some(most)) => said.push(format!("At most {most}.")),
        (Some(least), None) => said.push(format!("At least {least}.")),
        (None, None) => {}
    }
    if let Some(value) = field
        .get("default")
        .filter(|it| it.to_string().len() > LONGEST_DEFAULT)
    {
        said.push(format!("Default: {}.", code(&value.to_string())));
    }
    if field.get("properties").is_none() {
        said.extend(
            messages(field)
                .into_iter()
                .map(|rule| format!("{}.", capital(&rule))),
        );
    }
    said.retain(|it| !it.is_empty());
    said.join(" ")
}

fn described(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the API server says to who breaks a rule.
fn messages(schema: &Value) -> Vec<String> {
    let none = Vec::new();
    let rules = schema["x-kubernetes-validations"]
        .as_array()
        .unwrap_or(&none);
    let text = |rule: &Map<String, Value>| {
        rule.get("message")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    rules
        .iter()
        .filter_map(Value::as_object)
        .filter_map(text)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_told_by_the_name_of_its_pattern_and_by_its_bounds() {
        let duration = json!({"type": "string", "pattern": units::DURATION_PATTERN});
        assert_eq!(scalar(&duration), "duration");
        let bounded = json!({"type": "integer", "minimum": 0.0, "maximum": 100.0});
        assert_eq!(scalar(&bounded), "integer, 0 to 100");
        let closed = json!({"type": "string", "enum": ["A", "B"]});
        assert_eq!(scalar(&closed), "`A`, `B`");
    }

    #[test]
    fn an_anchor_is_what_github_makes_of_a_heading() {
        assert_eq!(anchor("spec.analysis.checks[]"), "specanalysischecks");
    }

    #[test]
    fn every_field_of_the_spec_says_what_it_is() {
        let page = page(&aviary_crds::manifest().unwrap()).unwrap();
        let spec = page.split("\n## status").next().unwrap();
        for line in spec.lines().filter(|line| line.starts_with("| `")) {
            assert!(!line.ends_with("| |"), "no description: {line}");
        }
    }
}
