//! The pod template that a Deployment asks for: which revision that is, by the operator's own rule.

use aviary_crds::revision;
use kube::api::DynamicObject;

/// The newest template of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Hash of the whole template.
    pub revision: String,
    /// Hash of the template without its annotations.
    pub content: String,
}

impl Template {
    /// `None`: it is no Deployment.
    pub fn of(deployment: &DynamicObject) -> Option<Template> {
        let template = deployment.data.pointer("/spec/template")?;
        Some(Template {
            revision: revision::revision(template),
            content: revision::content(template),
        })
    }
}
