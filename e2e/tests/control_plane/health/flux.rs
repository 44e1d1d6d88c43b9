//! As Flux evaluates `healthCheckExprs`: a generation that was not observed is in progress; then inProgress, failed and current,
//! in this order, with the object's top-level fields as variables. What cannot be evaluated waits, as what is in progress does.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use cel::Program;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

const CONFIG: &str = include_str!("../../../../config/flux/kustomization-shop.yaml");
const ORDER: [(&str, &str); 3] = [
    ("inProgress", "InProgress"),
    ("failed", "Failed"),
    ("current", "Current"),
];

pub(crate) struct Flux(BTreeMap<String, Vec<(&'static str, Program)>>);

impl Flux {
    pub(crate) fn new() -> anyhow::Result<Flux> {
        let config: Value = serde_saphyr::from_str(CONFIG)?;
        let checks = config["spec"]["healthCheckExprs"].as_array();
        let mut kinds = BTreeMap::new();
        for check in checks.context("the example has none")? {
            let text = |field: &str| check[field].as_str().unwrap_or_default();
            let mut programs = Vec::new();
            for (field, status) in ORDER {
                let program = Program::compile(text(field));
                let program = program.with_context(|| text(field).to_owned())?;
                programs.push((status, program));
            }
            kinds.insert(format!("{} {}", text("apiVersion"), text("kind")), programs);
        }
        ensure!(kinds.len() == 2, "each kind once: {:?}", kinds.keys());
        Ok(Flux(kinds))
    }

    pub(crate) fn status(&self, object: &Value) -> anyhow::Result<String> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let kind = format!("{} {}", text("apiVersion"), text("kind"));
        let programs = self.0.get(&kind);
        let programs = programs.with_context(|| format!("no check for {kind}"))?;
        let observed = object.pointer("/status/observedGeneration");
        if observed.is_some_and(|observed| *observed != object["metadata"]["generation"]) {
            return Ok("InProgress".to_owned());
        }
        let mut context = cel::Context::default();
        for (name, value) in object.as_object().context("an object")? {
            context
                .add_variable(name.clone(), Signed(value))
                .map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        for (status, program) in programs {
            match program.execute(&context) {
                Ok(cel::Value::Bool(true)) => return Ok((*status).to_owned()),
                Ok(cel::Value::Bool(false)) => {}
                Ok(value) => anyhow::bail!("{status} is no yes or no: {value:?}"),
                Err(_) => return Ok("InProgress".to_owned()),
            }
        }
        Ok("InProgress".to_owned())
    }
}

/// JSON whose whole numbers are signed, as Kubernetes reads them.
struct Signed<'a>(&'a Value);

impl Serialize for Signed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) if number.is_i64() => {
                to.serialize_i64(number.as_i64().unwrap_or_default())
            }
            Value::Array(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Signed(item))?;
                }
                list.end()
            }
            Value::Object(fields) => {
                let mut map = to.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &Signed(value))?;
                }
                map.end()
            }
            other => other.serialize(to),
        }
    }
}
