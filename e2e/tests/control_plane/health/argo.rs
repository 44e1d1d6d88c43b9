//! As Argo CD runs a configured health check: Lua 5.1 with the base and table libraries and no other, the object as `obj`.

use anyhow::{Context, bail};
use mlua::serde::SerializeOptions;
use mlua::{Lua, LuaOptions, LuaSerdeExt, StdLib};
use serde_json::Value;

const CONFIG: &str = include_str!("../../../../config/argocd/argocd-cm.yaml");
const STATUSES: [&str; 4] = ["Healthy", "Progressing", "Degraded", "Suspended"];

pub(crate) struct Argo(Value);

impl Argo {
    pub(crate) fn new() -> anyhow::Result<Argo> {
        Ok(Argo(serde_saphyr::from_str(CONFIG)?))
    }

    /// What the check for the object's kind says.
    pub(crate) fn health(&self, object: &Value) -> anyhow::Result<String> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let group = text("apiVersion").split('/').next().unwrap_or_default();
        let key = format!("resource.customizations.health.{group}_{}", text("kind"));
        let script = self.0["data"][&key].as_str();
        let script = script.with_context(|| format!("{key} is not shipped"))?;

        let lua = Lua::new_with(StdLib::TABLE | StdLib::PACKAGE, LuaOptions::default())?;
        // What is null in JSON is nil there.
        let options = SerializeOptions::new()
            .set_array_metatable(false)
            .serialize_none_to_null(false)
            .serialize_unit_to_null(false);
        lua.globals()
            .set("obj", lua.to_value_with(object, options)?)?;
        let health: mlua::Table = lua.load(script).eval()?;
        let status: String = health.get("status")?;
        let message: Option<String> = health.get("message")?;
        if !STATUSES.contains(&status.as_str()) {
            bail!("Argo CD knows no health '{status}' ({message:?})");
        }
        Ok(status)
    }
}
