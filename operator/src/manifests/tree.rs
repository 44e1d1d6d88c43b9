//! A document whose fields keep their order, which JSON values do not.

use std::fmt;

use json_patch::{Patch, PatchOperation};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("there is no {0}")]
    Nowhere(String),
    #[error("nothing but additions and removals is made of manifests")]
    Unsupported,
}

/// As kubectl reads it: `0644` is octal, and `yes` is true.
pub(super) fn read(text: &str) -> Result<Tree, String> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

impl Tree {
    pub(super) fn get(&self, field: &str) -> Option<&Tree> {
        match self {
            Tree::Map(fields) => fields
                .iter()
                .find(|(name, _)| name == field)
                .map(|(_, value)| value),
            Tree::List(items) => items.get(field.parse::<usize>().ok()?),
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, field: &str) -> Option<&mut Tree> {
        match self {
            Tree::Map(fields) => fields
                .iter_mut()
                .find(|(name, _)| name == field)
                .map(|(_, value)| value),
            Tree::List(items) => items.get_mut(field.parse::<usize>().ok()?),
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => None,
        }
    }

    pub(super) fn text(&self, field: &str) -> &str {
        match self.get(field) {
            Some(Tree::Text(text)) => text,
            Some(_) | None => "",
        }
    }

    /// Sees to it that `field` is a map, if need be an empty one.
    pub(super) fn make_map(&mut self, field: &str) {
        if matches!(self.get(field), None | Some(Tree::Null)) {
            let _ = self.add(field, Tree::Map(Vec::new()));
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(items) => items.iter().map(Tree::to_json).collect(),
            Tree::Map(fields) => {
                let fields = fields.iter();
                Value::Object(
                    fields
                        .map(|(name, value)| (name.clone(), value.to_json()))
                        .collect(),
                )
            }
        }
    }

    /// What is new comes last among the fields beside it.
    pub(super) fn patch(&mut self, patch: &Patch) -> Result<(), Misfit> {
        for operation in patch.iter() {
            let path = operation.path();
            let mut tokens: Vec<String> = path
                .tokens()
                .map(|token| token.decoded().into_owned())
                .collect();
            let nowhere = || Misfit::Nowhere(path.to_string());
            let last = tokens.pop().ok_or_else(nowhere)?;
            let mut parent = &mut *self;
            for token in &tokens {
                parent = parent.get_mut(token).ok_or_else(nowhere)?;
            }
            let done = match operation {
                PatchOperation::Add(add) => parent.add(&last, Tree::from(&add.value)),
                PatchOperation::Remove(_) => parent.remove(&last),
                _ => return Err(Misfit::Unsupported),
            };
            done.ok_or_else(nowhere)?;
        }
        Ok(())
    }

    fn add(&mut self, field: &str, value: Tree) -> Option<()> {
        match self {
            Tree::Map(fields) => {
                match fields.iter_mut().find(|(name, _)| name == field) {
                    Some((_, old)) => *old = value,
                    None => fields.push((field.to_owned(), value)),
                }
                Some(())
            }
            Tree::List(items) => {
                let end = items.len();
                let at = if field == "-" {
                    end
                } else {
                    field.parse().ok()?
                };
                (at <= end).then(|| items.insert(at, value))
            }
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => None,
        }
    }

    fn remove(&mut self, field: &str) -> Option<()> {
        match self {
            Tree::Map(fields) => {
                let at = fields.iter().position(|(name, _)| name == field)?;
                fields.remove(at);
            }
            Tree::List(items) => {
                let at = field.parse().ok().filter(|at| *at < items.len())?;
                items.remove(at);
            }
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => return None,
        }
        Some(())
    }
}

impl From<&Value> for Tree {
    fn from(value: &Value) -> Tree {
        match value {
            Value::Null => Tree::Null,
            Value::Bool(value) => Tree::Bool(*value),
            Value::Number(number) => Tree::Number(number.clone()),
            Value::String(text) => Tree::Text(text.clone()),
            Value::Array(items) => Tree::List(items.iter().map(Tree::from).collect()),
            // A container is known by its name.
            Value::Object(fields) => {
                let mut fields: Vec<(String, Tree)> = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), Tree::from(value)))
                    .collect();
                fields.sort_by_key(|(name, _)| name != "name");
                Tree::Map(fields)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom("a number that is none has no place here"));
        number.map(Tree::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_keep_their_order_and_scalars_are_what_kubectl_reads() {
        let tree = read("z: 0644\na: yes\nm: [1.5, -3, '7', ~, 1e2]\n").unwrap();
        let Tree::Map(fields) = &tree else {
            panic!("{tree:?}")
        };
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a", "m"]);
        assert_eq!(
            tree.to_json(),
            json!({"z": 420, "a": true, "m": [1.5, -3, "7", null, 100.0]})
        );
        assert_eq!(read("# nothing\n"), Ok(Tree::Null));
        assert!(read("a: 1\na: 2\n").is_err());
        assert!(read("a: [1\n").is_err());
    }

    #[test]
    fn a_patch_does_to_a_tree_what_it_does_to_json() {
        let json = json!({"spec": {"list": [1, {"a/b": 2}], "gone": true}, "metadata": {}});
        let patch: Patch = serde_json::from_value(json!([
            {"op": "remove", "path": "/spec/gone"},
            {"op": "add", "path": "/spec/list/0", "value": 0},
            {"op": "add", "path": "/spec/list/-", "value": {"b": 1, "name": "x"}},
            {"op": "add", "path": "/spec/list/2/a~1b", "value": 3},
            {"op": "remove", "path": "/spec/list/1"},
            {"op": "add", "path": "/metadata/annotations", "value": {}},
        ]))
        .unwrap();
        let (mut expected, mut tree) = (json.clone(), Tree::from(&json));
        json_patch::patch(&mut expected, &patch).unwrap();
        tree.patch(&patch).unwrap();
        assert_eq!(tree.to_json(), expected);
        for (path, op) in [
            ("/none/x", "add"),
            ("/spec/list/9", "add"),
            ("/x", "remove"),
        ] {
            let patch: Patch =
                serde_json::from_value(json!([{"op": op, "path": path, "value": 1}])).unwrap();
            assert_eq!(tree.patch(&patch), Err(Misfit::Nowhere(path.to_owned())));
        }
    }
}
