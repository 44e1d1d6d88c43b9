//! Aviary's own images: builds the programs, strips them, and writes one archive for each.
//!
//! The binaries are static, so that an image is the binary itself; the proxy's has `nft` with
//! its libraries too, for the redirect rules that `aviary-proxy init` sets.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use crate::image::{Image, ImageError};

/// The user of the images that need no rights: "nonroot" by custom.
const NONROOT: u32 = 65532;

#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error("cannot run `{0}`")]
    Run(String, #[source] io::Error),
    #[error("`{command}` failed:\n{output}")]
    Cargo { command: String, output: String },
    #[error("`{command}` did not make the program {program}")]
    NoProgram {
        command: String,
        program: &'static str,
    },
    #[error("cannot write to {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// A cargo profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Quick to build, with the demo and the plugin.
    Dev,
    /// The same with the tests, whose fixtures are programs: after `cargo test --workspace` nothing is left to build.
    Test,
    /// What is shipped, and what is measured.
    Release,
}

/// One of our programs that goes into an image of its own.
struct Program {
    package: &'static str,
    name: &'static str,
    /// `aviary.local/<image>:dev`
    image: &'static str,
    user: Option<u32>,
    /// Programs of this machine that go along.
    companions: &'static [&'static str],
    /// Files of this machine that go along.
    files: &'static [&'static str],
}

/// The certificate authorities that this machine trusts: without them an HTTPS Prometheus cannot be verified.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

const PROGRAMS: &[Program] = &[
    Program {
        package: "aviary-operator",
        name: "aviary-operator",
        image: "aviary-operator",
        user: Some(NONROOT),
        companions: &[],
        files: &[ROOTS],
    },
    // Root, because its init container sets rules; the sidecar's own user is in the pod.
    Program {
        package: "aviary-proxy",
        name: "aviary-proxy",
        image: "aviary-proxy",
        user: None,
        companions: &["/usr/sbin/nft"],
        files: &[],
    },
    Program {
        package: "aviary-e2e",
        name: "demo-app",
        image: "demo",
        user: Some(NONROOT),
        companions: &[],
        files: &[],
    },
];

/// Builds the operator, the proxy and the demo's workload, and writes `<image>.tar` for each
/// into `out`. Returns the archives.
pub fn build(
    profile: Profile,
    out: &Path,
    mut progress: impl FnMut(&str),
) -> Result<Vec<PathBuf>, ImagesError> {
    fs::create_dir_all(out).map_err(|source| ImagesError::Write(out.to_owned(), source))?;
    progress("building the operator, the proxy and the demo's workload");
    let binaries = compile(profile)?;
    let mut archives = Vec::new();
    for (program, binary) in PROGRAMS.iter().zip(&binaries) {
        let archive = out.join(format!("{}.tar", program.image));
        write(program, binary, &archive)?;
        progress(&format!(
            "aviary.local/{}:dev is in {}",
            program.image,
            archive.display()
        ));
        archives.push(archive);
    }
    Ok(archives)
}

/// The programs' paths, in the order of [`PROGRAMS`].
fn compile(profile: Profile) -> Result<Vec<PathBuf>, ImagesError> {
    let names = PROGRAMS.iter().map(|program| program.name);
    let mut command = cargo_build();
    match profile {
        Profile::Test => return compile_for_tests(names),
        // The whole workspace: as `make demo` has built it, and with what the tests are built of.
        Profile::Dev => {
            command.args(["--workspace", "--bins"]);
        }
        // Without what tests need.
        Profile::Release => {
            command.args(["--release", "--no-default-features"]);
            for program in PROGRAMS {
                command.args(["--package", program.package, "--bin", program.name]);
            }
        }
    }
    run(command, names)
}

/// Programs of the workspace as `cargo test --workspace` has built them, built now if they are not the newest.
pub(crate) fn compile_for_tests(
    names: impl Iterator<Item = &'static str>,
) -> Result<Vec<PathBuf>, ImagesError> {
    let mut command = cargo_build();
    command.args(["--workspace", "--bins", "--tests"]);
    run(command, names)
}

fn cargo_build() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args([
        "build",
        "--locked",
        "--message-format=json-render-diagnostics",
    ]);
    command
}

fn run(
    mut command: Command,
    mut names: impl Iterator<Item = &'static str>,
) -> Result<Vec<PathBuf>, ImagesError> {
    let described = describe(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ImagesError::Run(described.clone(), source))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(ImagesError::Cargo {
            command: described,
            output,
        });
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    names.try_fold(Vec::new(), |mut paths, program| {
        paths.push(
            executable(&messages, program).ok_or_else(|| ImagesError::NoProgram {
                command: described.clone(),
                program,
            })?,
        );
        Ok(paths)
    })
}

/// Where cargo says that it put a binary.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    // Its unit tests have its name.
    artifacts
        .filter(|message| message["target"]["name"] == name && message["profile"]["test"] != true)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn write(program: &Program, binary: &Path, archive: &Path) -> Result<(), ImagesError> {
    let stripped = strip(binary, &archive.with_extension("stripped"))?;
    let inside = format!("/{}", program.name);
    let mut image = Image::from_scratch(&format!("aviary.local/{}:dev", program.image))
        .entrypoint(&[&inside])
        .label("org.opencontainers.image.title", program.image)
        .label(
            "org.opencontainers.image.version",
            env!("CARGO_PKG_VERSION"),
        )
        .file(&inside, stripped.as_deref().unwrap_or(binary))?;
    if let Some(user) = program.user {
        image = image.user(user);
    }
    for companion in program.companions {
        image = image.program(Path::new(companion))?;
    }
    for file in program.files {
        image = image.file(file, Path::new(file))?;
    }
    if let Some(file) = stripped {
        fs::remove_file(&file).map_err(|source| ImagesError::Write(file, source))?;
    }
    Ok(image.write(archive)?)
}

/// Debug builds are mostly symbols: 10 MB instead of 60 for the operator. Without binutils the
/// image is only larger, so a missing `strip` is no error.
pub(crate) fn strip(binary: &Path, to: &Path) -> Result<Option<PathBuf>, ImagesError> {
    match Command::new("strip")
        .arg("-o")
        .arg(to)
        .arg(binary)
        .stderr(Stdio::null())
        .status()
    {
        Ok(status) if status.success() => Ok(Some(to.to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImagesError::Run("strip".to_owned(), error)),
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_the_one_of_the_program_asked_for() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"aviary-proxy"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"aviary-proxy"},"executable":"/t/debug/aviary-proxy"}
{"reason":"compiler-artifact","target":{"name":"demo-app"},"executable":"/t/debug/demo-app"}
not json"#;
        assert_eq!(
            executable(messages, "aviary-proxy").unwrap(),
            Path::new("/t/debug/aviary-proxy")
        );
        assert_eq!(
            executable(messages, "demo-app").unwrap(),
            Path::new("/t/debug/demo-app")
        );
        assert!(executable(messages, "aviary-operator").is_none());
    }

    #[test]
    fn the_proxys_image_has_nft_and_its_loader_beside_the_proxy() {
        let directory = std::env::temp_dir().join(format!("aviary-images-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let archive = directory.join("aviary-proxy.tar");
        let proxy = PROGRAMS
            .iter()
            .find(|program| program.name == "aviary-proxy")
            .unwrap();
        write(proxy, &std::env::current_exe().unwrap(), &archive).unwrap();
        let listing = Command::new("tar")
            .arg("-xOf")
            .arg(&archive)
            .arg("index.json")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&listing.stdout).contains("aviary.local/aviary-proxy:dev"));
        let bytes = fs::read(&archive).unwrap();
        for path in ["usr/sbin/nft", "libnftables.so.1", "ld-linux"] {
            assert!(
                bytes
                    .windows(path.len())
                    .any(|window| window == path.as_bytes()),
                "{path} is not in the image"
            );
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
