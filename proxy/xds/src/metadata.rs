//! `google.protobuf.Struct`, read and written: where Envoy's messages have no field for what Aviary says (which rollout, which
//! revision, which run), it rides in metadata under [`KEY`]. Numbers are text: a Struct's numbers are doubles, and a run must
//! not be rounded.

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value};
use traffic_core::config::Revocation;

/// The name of Aviary's metadata.
pub(crate) const KEY: &str = "aviary.dev";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    #[error("metadata field `{0}` is missing")]
    Missing(&'static str),
    #[error("metadata field `{field}` is not {expected}")]
    NotA {
        field: &'static str,
        expected: &'static str,
    },
    #[error("metadata field `{field}` is `{found}`, known are {known}")]
    UnknownWord {
        field: &'static str,
        found: String,
        known: &'static str,
    },
}

/// Fields of a Struct, by name.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Struct);

impl<'a> Fields<'a> {
    fn get(self, field: &'static str) -> Option<&'a Kind> {
        self.0.fields.get(field)?.kind.as_ref()
    }

    pub(crate) fn text(self, field: &'static str) -> Result<&'a str, FieldProblem> {
        match self.get(field) {
            Some(Kind::StringValue(text)) => Ok(text),
            Some(_) => Err(FieldProblem::NotA {
                field,
                expected: "text",
            }),
            None => Err(FieldProblem::Missing(field)),
        }
    }

    pub(crate) fn number(self, field: &'static str) -> Result<u64, FieldProblem> {
        self.text(field)?.parse().map_err(|_| FieldProblem::NotA {
            field,
            expected: "a whole number as text",
        })
    }

    pub(crate) fn nested(self, field: &'static str) -> Result<Option<Fields<'a>>, FieldProblem> {
        match self.get(field) {
            Some(Kind::StructValue(nested)) => Ok(Some(Fields(nested))),
            Some(_) => Err(FieldProblem::NotA {
                field,
                expected: "a struct",
            }),
            None => Ok(None),
        }
    }

    fn structs(self, field: &'static str) -> Result<Vec<Fields<'a>>, FieldProblem> {
        let wrong = FieldProblem::NotA {
            field,
            expected: "a list of structs",
        };
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Kind::ListValue(list)) => list
                .values
                .iter()
                .map(|value| match &value.kind {
                    Some(Kind::StructValue(nested)) => Ok(Fields(nested)),
                    _ => Err(wrong.clone()),
                })
                .collect(),
            Some(_) => Err(wrong),
        }
    }

    pub(crate) fn revocations(self, field: &'static str) -> Result<Vec<Revocation>, FieldProblem> {
        let read = |each: Fields<'_>| {
            Ok(Revocation {
                rollout: each.text("rollout")?.to_owned(),
                revision: each.text("revision")?.to_owned(),
                run: each.number("run")?,
            })
        };
        self.structs(field)?.into_iter().map(read).collect()
    }
}

pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

pub(crate) fn text(text: impl Into<String>) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.into())),
    }
}

pub(crate) fn nested(fields: Struct) -> Value {
    Value {
        kind: Some(Kind::StructValue(fields)),
    }
}

pub(crate) fn revocations(revocations: &[Revocation]) -> Value {
    let write = |each: &Revocation| {
        nested(fields([
            ("rollout", text(&each.rollout)),
            ("revision", text(&each.revision)),
            ("run", text(each.run.to_string())),
        ]))
    };
    Value {
        kind: Some(Kind::ListValue(ListValue {
            values: revocations.iter().map(write).collect(),
        })),
    }
}
