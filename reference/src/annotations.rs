//! Labels and annotations: `annotations.md`.

use aviary_operator::annotations::{self, Entry, Writer};

use crate::markdown::{GENERATED, code, table};

pub(crate) fn page() -> String {
    let entries = annotations::all();
    let of = |writer| entries.iter().filter(move |entry| entry.writer == writer);
    let yours = table(
        &["on", "name", "", "may be", "what"],
        of(Writer::You).map(row),
    );
    let aviarys = table(
        &["on", "name", "", "is", "what"],
        of(Writer::Aviary).map(row),
    );
    format!(
        "{GENERATED}
# Labels and annotations

## What you write

{yours}
A label or an annotation of a pod belongs into the template that makes it. One that makes no sense refuses the pod, with what would do; one of a Service is left out, and is told of.

## What Aviary writes

Leave these alone: they are how it knows its own.

{aviarys}"
    )
}

fn row(entry: &Entry) -> Vec<String> {
    let more = entry.page.map_or_else(String::new, |page| {
        let name = page.split('#').next().unwrap_or(page);
        format!(" ([{name}](../{page}))")
    });
    vec![
        entry.on.to_owned(),
        code(entry.name),
        entry.kind.name().to_owned(),
        entry.values.clone(),
        format!("{}{more}", entry.meaning),
    ]
}
