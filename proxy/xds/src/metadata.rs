//! `google.protobuf.Struct`, read and written: where Envoy's messages have no field for what Aviary says (which rollout, which
//! revision, which run), it rides in metadata under [`KEY`]. Numbers are text: a Struct's numbers are doubles, and a run must
//! not be rounded.

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value};
use traffic_core::config::{Revocation, Signature, SignedRevocation};

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

    pub(crate) fn number_if_any(self, field: &'static str) -> Result<Option<u64>, FieldProblem> {
        match self.get(field) {
            Some(_) => self.number(field).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn text_if_any(self, field: &'static str) -> Result<Option<&'a str>, FieldProblem> {
        match self.get(field) {
            Some(_) => self.text(field).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn boolean_if_any(self, field: &'static str) -> Result<Option<bool>, FieldProblem> {
        match self.get(field) {
            Some(Kind::BoolValue(boolean)) => Ok(Some(*boolean)),
            Some(_) => Err(FieldProblem::NotA {
                field,
                expected: "true or false",
            }),
            None => Ok(None),
        }
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

    /// `None`: there is none, from somebody who does not know of signatures.
    fn signature(self, field: &'static str) -> Result<Option<Signature>, FieldProblem> {
        let wrong = || FieldProblem::NotA {
            field,
            expected: "64 hexadecimal digits",
        };
        match self.text(field) {
            Err(FieldProblem::Missing(_)) => Ok(None),
            Err(problem) => Err(problem),
            Ok(text) => unhex(text)
                .map(|bytes| Some(Signature(bytes)))
                .ok_or_else(wrong),
        }
    }

    fn structs(self, field: &'static str) -> Result<Vec<Fields<'a>>, FieldProblem> {
        Ok(self.structs_if_any(field)?.unwrap_or_default())
    }

    pub(crate) fn structs_if_any(
        self,
        field: &'static str,
    ) -> Result<Option<Vec<Fields<'a>>>, FieldProblem> {
        let wrong = FieldProblem::NotA {
            field,
            expected: "a list of structs",
        };
        match self.get(field) {
            None => Ok(None),
            Some(Kind::ListValue(list)) => list
                .values
                .iter()
                .map(|value| match &value.kind {
                    Some(Kind::StructValue(nested)) => Ok(Fields(nested)),
                    _ => Err(wrong.clone()),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(wrong),
        }
    }

    pub(crate) fn revocations(
        self,
        field: &'static str,
    ) -> Result<Vec<SignedRevocation>, FieldProblem> {
        let read = |each: Fields<'_>| {
            Ok(SignedRevocation {
                revocation: Revocation {
                    rollout: each.text("rollout")?.to_owned(),
                    revision: each.text("revision")?.to_owned(),
                    run: each.number("run")?,
                },
                signature: each.signature("signature")?,
            })
        };
        self.structs(field)?.into_iter().map(read).collect()
    }
}

pub(crate) fn fields<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Struct {
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

pub(crate) fn boolean(boolean: bool) -> Value {
    Value {
        kind: Some(Kind::BoolValue(boolean)),
    }
}

pub(crate) fn nested(fields: Struct) -> Value {
    Value {
        kind: Some(Kind::StructValue(fields)),
    }
}

pub(crate) fn revocations(revocations: &[SignedRevocation]) -> Value {
    let write = |each: &SignedRevocation| {
        let SignedRevocation {
            revocation,
            signature,
        } = each;
        let mut fields = fields([
            ("rollout", text(&revocation.rollout)),
            ("revision", text(&revocation.revision)),
            ("run", text(revocation.run.to_string())),
        ]);
        if let Some(Signature(bytes)) = signature {
            fields
                .fields
                .insert("signature".to_owned(), text(hex(bytes)));
        }
        nested(fields)
    };
    values(revocations.iter().map(write))
}

pub(crate) fn list(structs: impl IntoIterator<Item = Struct>) -> Value {
    values(structs.into_iter().map(nested))
}

fn values(values: impl Iterator<Item = Value>) -> Value {
    Value {
        kind: Some(Kind::ListValue(ListValue {
            values: values.collect(),
        })),
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect();
    let bytes: Vec<u8> = digits?
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    bytes.try_into().ok().filter(|_| text.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_sixty_four_digits_and_nothing_else() {
        let bytes: [u8; 32] = std::array::from_fn(|index| index as u8 * 8);
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        for wrong in [
            String::new(),
            "0".repeat(62),
            "0".repeat(65),
            "0".repeat(66),
            "g".repeat(64),
            "é".repeat(32),
        ] {
            assert_eq!(unhex(&wrong), None, "{wrong}");
        }
    }
}
