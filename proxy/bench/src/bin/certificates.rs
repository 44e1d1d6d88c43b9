//! Writes certificates for two proxies that are not ours: `ca.pem`, and in `caller.pem` and `called.pem` a certificate with its key.

use std::path::PathBuf;

use anyhow::Context;
use aviary_bench::authority::Authority;
use clap::Parser;
use rcgen::KeyPair;

#[derive(Parser)]
struct Options {
    /// Where to write them.
    folder: PathBuf,
    /// The URI names in the certificates of the caller and the called.
    caller: String,
    called: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let authority = Authority::new()?;
    let write = |name: &str, pem: String| {
        let path = options.folder.join(name);
        std::fs::write(&path, pem).with_context(|| path.display().to_string())
    };
    write("ca.pem", authority.pem())?;
    for (name, id) in [
        ("caller.pem", &options.caller),
        ("called.pem", &options.called),
    ] {
        let key = KeyPair::generate()?;
        let leaf = authority.sign(id, &key)?;
        write(name, leaf.pem() + &key.serialize_pem())?;
    }
    Ok(())
}
