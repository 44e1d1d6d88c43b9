//! Writes the reference pages: `make generate`.

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder = aviary_reference::folder();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    for page in aviary_reference::pages()? {
        let path = folder.join(page.file);
        std::fs::write(&path, page.text)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
