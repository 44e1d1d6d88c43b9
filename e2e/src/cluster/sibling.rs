//! Programs of the workspace that are built with this one.

use std::path::PathBuf;

/// Beside this program, or one above when this one is a test.
pub(super) fn sibling(name: &str) -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
