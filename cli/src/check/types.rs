//! Whether the type that the cluster has is the one that this plugin knows: by the paths of their fields.

use std::collections::BTreeSet;

use aviary_crds::CanaryRollout;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray as Items,
};
use kube::CustomResourceExt;

use super::facts::Facts;
use super::finding::Group;
use super::read::Read;
use crate::text;

pub(super) const INSTALL: &str = "install it: kubectl apply -k config/default";

pub(super) fn judge(group: &mut Group, facts: &Facts) {
    let what = "the cluster has CanaryRollouts, of this plugin's version";
    let crd = match &facts.crd {
        Read::There(crd) => crd,
        Read::Absent => return group.failed(what, "it has none", INSTALL),
        Read::Unknown(why) => return group.unknown(what, why.clone()),
    };
    let (ours, theirs) = (fields(&CanaryRollout::crd()), fields(crd));
    let missing: Vec<&String> = ours.difference(&theirs).collect();
    let newer: Vec<&String> = theirs.difference(&ours).collect();
    if let Some(field) = missing.first() {
        group.failed(
            what,
            format!(
                "theirs is older: it lacks {}, such as {field}",
                plural(missing.len())
            ),
            "kubectl apply -k config/default of this version, or use the plugin of theirs",
        );
    } else if let Some(field) = newer.first() {
        group.warning(
            what,
            format!(
                "theirs is newer: it has {} more, such as {field}",
                plural(newer.len())
            ),
            "use the plugin of that version",
        );
    } else {
        group.passed(what);
    }
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
