//! The one binary that is all of Kubernetes: built from `e2e/cluster/e2ecluster` with Go when it
//! is not in the cache, which takes minutes the first time and seconds when only our part changed.
//!
//! The cache's key is what goes into the binary, so that a branch with other sources has its own,
//! and nothing ever has to be invalidated.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::image::hex;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/e2ecluster");
const REPORT_EVERY: Duration = Duration::from_secs(15);
/// The oldest Go that can build this Kubernetes: 1.x.
const OLDEST_GO: u32 = 26;

#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    #[error(
        "the local cluster is built with Go, which is not installed: install Go 1.26 or newer from https://go.dev/dl and put it on PATH"
    )]
    NoGo(#[source] io::Error),
    #[error(
        "the local cluster needs Go 1.26 or newer, and this is {0}: install a newer one from https://go.dev/dl and put it first on PATH"
    )]
    OldGo(String),
    #[error("no place for the cluster's binary: set XDG_CACHE_HOME or HOME")]
    NoCache,
    #[error("cannot read the cluster's sources or write its cache at {0}")]
    Files(PathBuf, #[source] io::Error),
    #[error("e2e/cluster/e2ecluster/go.mod does not require k8s.io/kubernetes")]
    NoVersion,
    #[error("the cluster's binary does not build:\n{0}")]
    Build(String),
}

/// The binary's path, after building it if need be.
pub(crate) fn ensure(mut progress: impl FnMut(&str)) -> Result<PathBuf, BinaryError> {
    let go = go_version()?;
    let cache = cache_directory(
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
        std::env::var_os("HOME").map(PathBuf::from),
    )?;
    let sources = read_sources(Path::new(SOURCES))
        .map_err(|source| BinaryError::Files(SOURCES.into(), source))?;
    let binary = cache.join(format!("e2ecluster-{}", key(&go, &sources)));
    let failed = |source| BinaryError::Files(cache.clone(), source);
    if !binary.exists() {
        fs::create_dir_all(&cache).map_err(failed)?;
        // Two that start at once would build the same twice, on the same two cores.
        let turn = File::create(cache.join("e2ecluster.lock")).map_err(failed)?;
        turn.lock().map_err(failed)?;
        if !binary.exists() {
            let temporary = binary.with_extension("part");
            build(&kubernetes_version(&sources)?, &temporary, &mut progress)?;
            fs::rename(&temporary, &binary).map_err(failed)?;
        }
    }
    Ok(binary)
}

fn build(version: &str, out: &Path, progress: &mut impl FnMut(&str)) -> Result<(), BinaryError> {
    let log = out.with_extension("log");
    let failed = |source| BinaryError::Files(log.clone(), source);
    let mut go = go();
    go.current_dir(SOURCES).args([
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        &linker_flags(version),
        "-o",
    ]);
    let mut child = go
        .arg(out)
        .arg(".")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).map_err(failed)?)
        .spawn()
        .map_err(BinaryError::NoGo)?;
    let what = "building the cluster's binary from Go modules, about 9 minutes on 2 cores, only the first time";
    progress(what);
    let (start, mut reported) = (Instant::now(), Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait().map_err(BinaryError::NoGo)? {
            break status;
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            progress(&format!("{what} ... {}s", start.elapsed().as_secs()));
        }
        sleep(Duration::from_millis(100));
    };
    let output = fs::read_to_string(&log).map_err(failed)?;
    fs::remove_file(&log).map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(BinaryError::Build(output))
    }
}

/// Without them `kubectl version` fails and the API server calls itself v0.0.0.
fn linker_flags(version: &str) -> String {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let packages = [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ];
    packages.iter().fold("-s -w".to_owned(), |flags, package| {
        format!(
            "{flags} -X {package}.gitVersion={version} -X {package}.gitMajor=1 -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
        )
    })
}

/// Go, free of what the caller's environment would change in the build.
fn go() -> Command {
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "");
    go
}

fn go_version() -> Result<String, BinaryError> {
    // In the root directory, where no go.mod asks for a version first.
    let output = go()
        .current_dir("/")
        .args(["env", "GOVERSION"])
        .output()
        .map_err(BinaryError::NoGo)?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if is_new_enough(&version) {
        Ok(version)
    } else {
        Err(BinaryError::OldGo(version))
    }
}

/// Versions are `go1.26.8`, `go1.27rc1`, `go1.26-custom`; what cannot be read may try.
fn is_new_enough(version: &str) -> bool {
    let Some(rest) = version.strip_prefix("go1.") else {
        return true;
    };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|minor| minor >= OLDEST_GO)
}

fn cache_directory(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, BinaryError> {
    // By the XDG rules a relative path counts as unset.
    let xdg = xdg.filter(|path| path.is_absolute());
    let base = xdg
        .or_else(|| home.map(|home| home.join(".cache")))
        .ok_or(BinaryError::NoCache)?;
    Ok(base.join("aviary"))
}

/// Name and content, by name.
type Sources = Vec<(String, Vec<u8>)>;

fn read_sources(directory: &Path) -> io::Result<Sources> {
    let mut sources = Sources::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".go") || name == "go.mod" || name == "go.sum" {
            let content = fs::read(directory.join(&name))?;
            sources.push((name, content));
        }
    }
    sources.sort();
    Ok(sources)
}

fn key(go: &str, sources: &Sources) -> String {
    let mut hash = Sha256::new();
    hash.update(go.as_bytes());
    for (name, content) in sources {
        // With lengths, so that what moves from one file to the next changes the key.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    hex(&hash.finalize()[..8])
}

fn kubernetes_version(sources: &Sources) -> Result<String, BinaryError> {
    let go_mod = sources
        .iter()
        .find(|(name, _)| name == "go.mod")
        .map(|(_, content)| String::from_utf8_lossy(content));
    let version = go_mod.as_deref().and_then(|text| {
        text.split_whitespace()
            .skip_while(|word| *word != "k8s.io/kubernetes")
            .nth(1)
    });
    version.map(str::to_owned).ok_or(BinaryError::NoVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Sources {
        files
            .iter()
            .map(|(name, content)| (name.to_string(), content.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn the_key_depends_on_every_source_and_on_go() {
        let one = sources(&[("a.go", "package main"), ("go.mod", "module x")]);
        let base = key("go1.26.8", &one);
        assert_eq!(base, key("go1.26.8", &one));
        assert_ne!(base, key("go1.26.9", &one));
        assert_ne!(
            base,
            key(
                "go1.26.8",
                &sources(&[("b.go", "package main"), ("go.mod", "module x")])
            )
        );
        assert_ne!(
            base,
            key(
                "go1.26.8",
                &sources(&[("a.go", "package main"), ("go.mod", "module y")])
            )
        );
        assert_ne!(
            base,
            key(
                "go1.26.8",
                &sources(&[("a.go", "package mainm"), ("go.mod", "odule x")])
            )
        );
    }

    #[test]
    fn the_kubernetes_version_is_the_one_that_go_mod_requires() {
        let ours = read_sources(Path::new(SOURCES)).unwrap();
        assert!(kubernetes_version(&ours).unwrap().starts_with("v1.36."));
        assert!(matches!(
            kubernetes_version(&sources(&[("go.mod", "module x")])),
            Err(BinaryError::NoVersion)
        ));
    }

    #[test]
    fn the_linker_flags_name_the_minor_version() {
        assert!(linker_flags("v1.36.3").contains("k8s.io/client-go/pkg/version.gitMinor=36 "));
    }

    #[test]
    fn go_older_than_1_26_is_refused() {
        for (version, enough) in [
            ("go1.19.8", false),
            ("go1.25.9", false),
            ("go1.26.0", true),
            ("go1.27rc1", true),
            ("devel go1.28-abc", true),
        ] {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }

    #[test]
    fn the_cache_is_where_xdg_says_and_else_in_the_home_directory() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(
            cache_directory(path("/x"), path("/home/u")).unwrap(),
            Path::new("/x/aviary")
        );
        assert_eq!(
            cache_directory(path("relative"), path("/home/u")).unwrap(),
            Path::new("/home/u/.cache/aviary")
        );
        assert_eq!(
            cache_directory(None, path("/home/u")).unwrap(),
            Path::new("/home/u/.cache/aviary")
        );
        assert!(matches!(
            cache_directory(None, None),
            Err(BinaryError::NoCache)
        ));
    }
}
