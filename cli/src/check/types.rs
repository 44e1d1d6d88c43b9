//! Whether the types that the cluster has are those that this plugin knows: by their versions, and by the paths of their fields.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray as Items,
};

use super::facts::Facts;
use super::finding::Group;
use super::ours::Type;
use super::read::Read;
use crate::text;

pub(super) const INSTALL: &str = "install it: kubectl apply -k config/default";

pub(super) fn judge(group: &mut Group, facts: &Facts) {
    for type_ in &facts.types {
        one(group, type_);
    }
}

fn one(group: &mut Group, Type { ours, theirs }: &Type) {
    let kind = &ours.spec.names.kind;
    let what = format!("the cluster has the type {kind}, of this plugin's version");
    let theirs = match theirs {
        Read::There(theirs) => theirs,
        Read::Absent => return group.failed(what, "it has none", INSTALL),
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    let older = "kubectl apply -k config/default of this version, or use the plugin of theirs";
    let newer = "use the plugin of that version";
    let (speaks, served) = (served(ours), served(theirs));
    if speaks.is_disjoint(&served) {
        let seen = format!(
            "it serves {}, and this plugin speaks {}",
            listed(&served),
            listed(&speaks)
        );
        return group.failed(what, seen, format!("{newer}; or {older}"));
    }
    let (ours, theirs) = (fields(ours), fields(theirs));
    let missing: Vec<&String> = ours.difference(&theirs).collect();
    let more: Vec<&String> = theirs.difference(&ours).collect();
    if let Some(field) = missing.first() {
        group.failed(
            what,
            format!(
                "theirs is older: it lacks {}, such as {field}",
                plural(missing.len())
            ),
            older,
        );
    } else if let Some(field) = more.first() {
        group.warning(
            what,
            format!(
                "theirs is newer: it has {} more, such as {field}",
                plural(more.len())
            ),
            newer,
        );
    } else {
        group.passed(what);
    }
}

fn listed(versions: &BTreeSet<&str>) -> String {
    if versions.is_empty() {
        return "no version".to_owned();
    }
    let versions: Vec<&str> = versions.iter().copied().collect();
    versions.join(", ")
}

fn served(crd: &CustomResourceDefinition) -> BTreeSet<&str> {
    let versions = crd.spec.versions.iter().filter(|it| it.served);
    versions.map(|it| it.name.as_str()).collect()
}

fn plural(fields: usize) -> String {
    text::plural(i64::try_from(fields).unwrap_or(i64::MAX), "field")
}

/// The paths of all fields, of every version that is served.
fn fields(crd: &CustomResourceDefinition) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for version in crd.spec.versions.iter().filter(|version| version.served) {
        let schema = version.schema.as_ref();
        if let Some(schema) = schema.and_then(|it| it.open_api_v3_schema.as_ref()) {
            walk(schema, "", &mut fields);
        }
    }
    fields
}

fn walk(schema: &JSONSchemaProps, at: &str, fields: &mut BTreeSet<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        walk(property, &path, fields);
        fields.insert(path);
    }
    if let Some(items) = &schema.items {
        match items {
            Items::Schema(item) => walk(item, at, fields),
            Items::Schemas(items) => items.iter().for_each(|item| walk(item, at, fields)),
        }
    }
}
