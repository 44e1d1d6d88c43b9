//! Manifests with sidecars: text in, text out, nothing else looked at.
//!
//! What gets no sidecar comes out byte for byte as it went in. A document that gets one is written anew as YAML, with its fields in their
//! order, the comments at its head, and without those inside it.

mod documents;
mod emit;
mod tree;
mod workloads;

use std::fmt;

use crate::admission::inject::{Injection, Injector, InvalidPod};
use tree::{Misfit, Tree};
use workloads::{Place, Workload};

/// Manifests with sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    pub text: String,
    /// For people, in the order of the documents.
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub at: At,
    pub text: Said,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Added,
    /// It has the sidecar that it would get.
    Unchanged,
    /// It gets none, on purpose.
    LeftAlone(String),
    Warning(String),
}

/// Where in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Counted from 1.
    pub document: usize,
    /// Kind and name, as far as they are known.
    pub object: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}", self.document)?;
        if self.object.is_empty() {
            return Ok(());
        }
        write!(f, ", {}", self.object)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Added => f.write_str("sidecar added"),
            Said::Unchanged => f.write_str("has its sidecar already"),
            Said::LeftAlone(why) => write!(f, "no sidecar: {why}"),
            Said::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{at}: {source}")]
pub struct ManifestError {
    pub at: At,
    pub source: Box<Cause>,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("it is no YAML: {0}")]
    Syntax(String),
    #[error("{0} is missing, in which its pods are described")]
    NoTemplate(&'static str),
    #[error(transparent)]
    Pod(#[from] InvalidPod),
    #[error("the sidecar does not fit in: {0}")]
    Misfit(#[from] Misfit),
    #[error(
        "what would be written is not read as what is meant; this is a fault of the program, please report it"
    )]
    Garbled,
}

/// Adds a sidecar to everything in `text` that makes pods.
pub fn inject(text: &str, injector: &Injector) -> Result<Injected, ManifestError> {
    let mut injected = Injected::default();
    for (number, document) in documents::of(text).enumerate() {
        injected.text.push_str(document.separator);
        let at = |object: &str| At {
            document: number + 1,
            object: object.to_owned(),
        };
        let failed = |object: &str, source: Cause| ManifestError {
            at: at(object),
            source: Box::new(source),
        };
        let read = tree::read(document.text).map_err(|error| failed("", Cause::Syntax(error)))?;
        let mut changed = read;
        let mut is_changed = false;
        for place in workloads::places(&changed) {
            let workload = Workload::at(&changed, &place);
            let name = workload.to_string();
            let said = one(&mut changed, &place, &workload, injector)
                .map_err(|error| failed(&name, error))?;
            is_changed |= said.contains(&Said::Added);
            injected.notes.extend(said.into_iter().map(|text| Note {
                at: at(&name),
                text,
            }));
        }
        if is_changed {
            let written = emit::yaml(&changed);
            // A reader of YAML is no small thing to write for: what would be read otherwise is not printed.
            if tree::read(&written).as_ref() != Ok(&changed) {
                return Err(failed("", Cause::Garbled));
            }
            injected.text.push_str(document.head());
            injected.text.push_str(&written);
        } else {
            injected.text.push_str(document.text);
        }
    }
    Ok(injected)
}

/// One workload's pods.
fn one(
    tree: &mut Tree,
    place: &Place,
    workload: &Workload,
    injector: &Injector,
) -> Result<Vec<Said>, Cause> {
    if let Some(why) = workload.left_alone(&injector.namespace) {
        return Ok(vec![Said::LeftAlone(why)]);
    }
    let template = workloads::template(tree, place)?;
    let pod = workload.pod(template);
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let (patch, warnings) = match injector.inject_anew(namespace, &pod)? {
        Injection::Inject { patch, warnings } => (patch, warnings),
        Injection::LeftAlone { warnings } => {
            return Ok(warnings.into_iter().map(Said::LeftAlone).collect());
        }
    };
    let mut changed = template.clone();
    changed.make_map("metadata");
    changed.patch(&patch)?;
    let warnings = warnings.into_iter().map(Said::Warning);
    if changed.to_json() == template.to_json() {
        return Ok([Said::Unchanged].into_iter().chain(warnings).collect());
    }
    *template = changed;
    Ok([Said::Added].into_iter().chain(warnings).collect())
}

#[cfg(test)]
mod tests;
