//! What makes pods, and where it says how.

use std::fmt;

use serde_json::{Value, json};

use super::Cause;
use super::tree::Tree;

/// The way from the top of a document to an object in it.
pub(super) type Place = Vec<String>;

/// An object that makes pods, or is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    kind: Kind,
    namespace: String,
    name: String,
    /// The label of its pods that says whether they get a sidecar.
    wish: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pod,
    /// With its name.
    Template(&'static str),
    CronJob,
}

impl Kind {
    fn of(tree: &Tree) -> Option<Kind> {
        let version = tree.text("apiVersion");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        Some(match (group, tree.text("kind")) {
            ("", "Pod") => Kind::Pod,
            ("", "ReplicationController") => Kind::Template("ReplicationController"),
            ("apps", "Deployment") => Kind::Template("Deployment"),
            ("apps", "StatefulSet") => Kind::Template("StatefulSet"),
            ("apps", "DaemonSet") => Kind::Template("DaemonSet"),
            ("apps", "ReplicaSet") => Kind::Template("ReplicaSet"),
            ("batch", "Job") => Kind::Template("Job"),
            ("batch", "CronJob") => Kind::CronJob,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Pod => "Pod",
            Kind::Template(name) => name,
            Kind::CronJob => "CronJob",
        }
    }

    /// From the object to its pods' description.
    fn path(self) -> &'static [&'static str] {
        match self {
            Kind::Pod => &[],
            Kind::Template(_) => &["spec", "template"],
            Kind::CronJob => &["spec", "jobTemplate", "spec", "template"],
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Kind::Pod => "spec",
            Kind::Template(_) => "spec.template.spec",
            Kind::CronJob => "spec.jobTemplate.spec.template.spec",
        }
    }
}

/// The places of all that make pods; of a list, those of its items.
pub(super) fn places(tree: &Tree) -> Vec<Place> {
    let mut found = Vec::new();
    find(tree, &mut Vec::new(), &mut found);
    found
}

fn find(tree: &Tree, at: &mut Place, found: &mut Vec<Place>) {
    if Kind::of(tree).is_some() {
        found.push(at.clone());
    } else if tree.text("kind").ends_with("List")
        && let Some(Tree::List(items)) = tree.get("items")
    {
        at.push("items".to_owned());
        for (index, item) in items.iter().enumerate() {
            at.push(index.to_string());
            find(item, at, found);
            at.pop();
        }
        at.pop();
    }
}

fn follow<'t>(tree: &'t Tree, path: &[impl AsRef<str>]) -> Option<&'t Tree> {
    let mut path = path.iter();
    path.try_fold(tree, |tree, field| tree.get(field.as_ref()))
}

/// The description of the pods of the workload at `place`.
pub(super) fn template<'t>(tree: &'t mut Tree, place: &Place) -> Result<&'t mut Tree, Cause> {
    let kind = follow(tree, place).and_then(Kind::of).unwrap_or(Kind::Pod);
    let missing = || Cause::NoTemplate(kind.missing());
    let path = place
        .iter()
        .map(String::as_str)
        .chain(kind.path().iter().copied());
    let mut template = tree;
    for field in path {
        template = template.get_mut(field).ok_or_else(missing)?;
    }
    match template.get("spec") {
        Some(Tree::Map(_)) => Ok(template),
        Some(_) | None => Err(missing()),
    }
}

impl Workload {
    pub(super) fn at(tree: &Tree, place: &Place) -> Workload {
        let object = follow(tree, place).unwrap_or(tree);
        let kind = Kind::of(object).unwrap_or(Kind::Pod);
        let metadata = object.get("metadata").unwrap_or(&Tree::Null);
        let name = match (metadata.text("name"), metadata.text("generateName")) {
            ("", "") => String::new(),
            ("", prefix) => format!("{prefix}*"),
            (name, _) => name.to_owned(),
        };
        let labels = follow(object, kind.path()).and_then(|it| follow(it, &["metadata", "labels"]));
        let wish = labels.map(|labels| labels.text(aviary_crds::INJECT_LABEL));
        Workload {
            kind,
            namespace: metadata.text("namespace").to_owned(),
            name,
            wish: wish.filter(|wish| !wish.is_empty()).map(str::to_owned),
        }
    }

    /// Why its pods get no sidecar, if so: what the webhooks' selectors say at admission.
    pub(super) fn left_alone(&self, operators: &str) -> Option<String> {
        if self.wish.as_deref() == Some("false") {
            return Some(format!(
                "its pods have the label {}: \"false\"",
                aviary_crds::INJECT_LABEL
            ));
        }
        let is_systems = [operators, "kube-system"].contains(&self.namespace.as_str());
        is_systems.then(|| format!("pods of namespace {} never get one", self.namespace))
    }

    /// A pod of it, as the injector wants to see it.
    pub(super) fn pod(&self, template: &Tree) -> Value {
        let mut pod = template.to_json();
        if pod["metadata"].is_null() {
            pod["metadata"] = json!({});
        }
        match self.kind {
            Kind::Pod => {}
            Kind::Template(_) | Kind::CronJob => {
                pod["metadata"]["ownerReferences"] = json!([
                    {"kind": self.kind.name(), "name": self.name, "controller": true},
                ]);
                if let Some(metadata) = pod["metadata"].as_object_mut() {
                    metadata.remove("name");
                    metadata.insert("generateName".to_owned(), json!(format!("{}-", self.name)));
                }
            }
        }
        pod
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (self.namespace.as_str(), self.name.as_str()) {
            (_, "") => "without a name",
            ("", name) => name,
            (namespace, name) => return write!(f, "{} {namespace}/{name}", self.kind.name()),
        };
        write!(f, "{} {name}", self.kind.name())
    }
}
