//! The reference pages in `docs/reference`, made of the code: what is said there cannot fall behind. `make generate` writes them,
//! and `tests/generated.rs` compares.

mod annotations;
mod events;
mod fields;
mod flags;
mod markdown;

use std::path::{Path, PathBuf};

/// A page of `docs/reference`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The name of its file.
    pub file: &'static str,
    pub text: String,
}

/// All of them.
pub fn pages() -> anyhow::Result<Vec<Page>> {
    let page = |file, text| Page { file, text };
    Ok(vec![
        page("canaryrollout.md", fields::page(&aviary_crds::manifest()?)?),
        page(
            "callerpolicy.md",
            fields::page(&aviary_crds::policy_manifest()?)?,
        ),
        page("flags.md", flags::page()),
        page("events.md", events::page()),
        page("annotations.md", annotations::page()),
    ])
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where the pages are.
pub fn folder() -> PathBuf {
    repository().join("docs/reference")
}
