//! OCI image archives FROM scratch, made of files of this machine.
//!
//! No Docker and no registry: an image is one uncompressed layer and four small JSON documents
//! in a tar file, as `ctr images import`, `kind load image-archive` and `docker load` take it.
//! The same files give the same bytes (no clock, no owner, sorted names), so an image changes
//! only when what is in it does.
//!
//! Not here: base images, more than one layer, other platforms than this machine's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The search path in every image: where Debian keeps the programs that [`Image::program`] copies.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("cannot read {path} for the image {image}")]
    Read {
        image: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot find the libraries of {path}: `ldd` does not run (Debian package libc-bin)")]
    Ldd { path: PathBuf, source: io::Error },
    #[error("{path} needs the library {library}, which is not on this machine")]
    NoLibrary { path: PathBuf, library: String },
    #[error("cannot write the image archive {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// An image under construction.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    entrypoint: Vec<String>,
    labels: BTreeMap<String, String>,
    user: Option<u32>,
    /// By path inside the image, without the leading slash.
    files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// An empty image; `name` has a tag: `aviary.local/demo:dev`.
    pub fn from_scratch(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: Vec::new(),
            labels: BTreeMap::new(),
            user: None,
            files: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn entrypoint(mut self, argv: &[&str]) -> Self {
        self.entrypoint = argv.iter().map(ToString::to_string).collect();
        self
    }

    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Who the entrypoint runs as; root without it.
    #[must_use]
    pub fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Puts a file's content at `inside`, executable for everyone.
    pub fn file(mut self, inside: &str, from: &Path) -> Result<Self, ImageError> {
        let content = fs::read(from).map_err(|source| ImageError::Read {
            image: self.name.clone(),
            path: from.to_owned(),
            source,
        })?;
        self.files
            .insert(inside.trim_start_matches('/').to_owned(), content);
        Ok(self)
    }

    /// Copies a program of this machine to the same place, with its loader and libraries if it is dynamic.
    pub fn program(self, path: &Path) -> Result<Self, ImageError> {
        let libraries = libraries(path)?;
        std::iter::once(path.to_owned())
            .chain(libraries)
            .try_fold(self, |image, file| {
                let inside = file.to_string_lossy().into_owned();
                image.file(&inside, &file)
            })
    }

    /// Writes the archive; `out` is replaced in one step.
    pub fn write(&self, out: &Path) -> Result<(), ImageError> {
        let temporary = out.with_extension("tar.part");
        self.archive()
            .and_then(|bytes| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, out))
            .map_err(|source| ImageError::Write {
                path: out.to_owned(),
                source,
            })
    }

    /// The archive's bytes: an OCI image layout in a tar file.
    fn archive(&self) -> io::Result<Vec<u8>> {
        let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", self.layer()?);
        let config = Blob::json(
            "application/vnd.oci.image.config.v1+json",
            &self.config(&layer),
        );
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = Blob::json(
            manifest_type,
            &json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config.descriptor(), "layers": [layer.descriptor()]}),
        );
        let mut entry = manifest.descriptor();
        entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
        entry["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rsplit(':').next(),
        });
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});

        let mut tar = tar::Builder::new(Vec::new());
        append_file(
            &mut tar,
            "oci-layout",
            0o644,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        append_file(&mut tar, "index.json", 0o644, index.to_string().as_bytes())?;
        for blob in [&manifest, &config, &layer] {
            append_file(
                &mut tar,
                &format!("blobs/sha256/{}", blob.digest),
                0o644,
                &blob.bytes,
            )?;
        }
        tar.into_inner()
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for directory in self.directories() {
            append(&mut tar, tar::EntryType::Directory, &directory, 0o755, &[])?;
        }
        append(&mut tar, tar::EntryType::Directory, "tmp", 0o1777, &[])?;
        for (path, content) in &self.files {
            append_file(&mut tar, path, 0o755, content)?;
        }
        tar.into_inner()
    }

    /// The parents of all files, each before its children.
    fn directories(&self) -> Vec<String> {
        let parents = self
            .files
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        parents
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    fn config(&self, layer: &Blob) -> Value {
        let mut run = json!({"Entrypoint": self.entrypoint, "Env": [PATH], "Labels": self.labels, "WorkingDir": "/"});
        if let Some(uid) = self.user {
            run["User"] = json!(format!("{uid}:{uid}"));
        }
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
            "history": [{"created_by": "aviary-e2e"}],
        })
    }
}

/// Content that is addressed by its hash.
struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: hex(&Sha256::digest(&bytes)),
            bytes,
        }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

fn append_file(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    append(tar, tar::EntryType::Regular, path, mode, content)
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's architecture by Go's name for it, which is the registries' too.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The loader and the libraries of a dynamic program; none for a static one.
fn libraries(path: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let ldd = Command::new("ldd")
        .arg(path)
        .output()
        .map_err(|source| ImageError::Ldd {
            path: path.to_owned(),
            source,
        })?;
    parse_ldd(&String::from_utf8_lossy(&ldd.stdout)).map_err(|library| ImageError::NoLibrary {
        path: path.to_owned(),
        library,
    })
}

/// Lines are `name => /path (0x..)`, `/path/of/the/loader (0x..)`, `linux-vdso.so.1 (0x..)`, or
/// `name => not found`, which is the error.
fn parse_ldd(output: &str) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for line in output.lines().map(str::trim) {
        let (name, found) = line.split_once(" => ").unwrap_or((line, line));
        if found.starts_with("not found") {
            return Err(name.to_owned());
        }
        if found.starts_with('/') {
            libraries.push(PathBuf::from(
                found.split_whitespace().next().unwrap_or(found),
            ));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Image {
        let this = std::env::current_exe().unwrap();
        Image::from_scratch("aviary.local/example:1")
            .entrypoint(&["/bin/example", "--port", "80"])
            .label("b", "2")
            .label("a", "1")
            .file("/usr/share/example/data", Path::new("/proc/version"))
            .unwrap()
            .file("/bin/example", &this)
            .unwrap()
    }

    fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).unwrap();
            (
                entry.path().unwrap().to_string_lossy().into_owned(),
                content,
            )
        });
        entries.collect()
    }

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        assert!(example().archive().unwrap() == example().archive().unwrap());
    }

    #[test]
    fn another_entrypoint_gives_another_image() {
        assert!(
            example().archive().unwrap()
                != example().entrypoint(&["/bin/other"]).archive().unwrap()
        );
    }

    #[test]
    fn every_blob_is_named_by_the_hash_of_its_content_and_referred_to_by_its_size() {
        let archive = entries(&example().archive().unwrap());
        for (path, content) in archive
            .iter()
            .filter(|(path, _)| path.starts_with("blobs/"))
        {
            assert_eq!(
                *path,
                format!("blobs/sha256/{}", hex(&Sha256::digest(content)))
            );
        }
        let blob = |descriptor: &Value| {
            let content = &archive[&descriptor["digest"]
                .as_str()
                .unwrap()
                .replace("sha256:", "blobs/sha256/")];
            assert_eq!(descriptor["size"], content.len());
            content
        };
        let index = parse(&archive["index.json"]);
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "aviary.local/example:1"
        );
        let manifest = parse(blob(&index["manifests"][0]));
        let config = parse(blob(&manifest["config"]));
        assert_eq!(
            config["config"]["Entrypoint"],
            json!(["/bin/example", "--port", "80"])
        );
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        let layer: Vec<_> = entries(blob(&manifest["layers"][0])).into_keys().collect();
        assert_eq!(
            layer,
            [
                "bin",
                "bin/example",
                "tmp",
                "usr",
                "usr/share",
                "usr/share/example",
                "usr/share/example/data"
            ]
        );
    }

    #[test]
    fn the_libraries_of_a_dynamic_program_and_its_loader_are_found() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibnftables.so.1 => /lib/x/libnftables.so.1 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            parse_ldd(ldd).unwrap(),
            [
                PathBuf::from("/lib/x/libnftables.so.1"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn a_static_program_has_no_libraries() {
        assert!(parse_ldd("\tstatically linked\n").unwrap().is_empty());
        assert!(parse_ldd("").unwrap().is_empty());
    }

    #[test]
    fn a_missing_library_is_an_error_that_names_it() {
        assert_eq!(
            parse_ldd("\tliba.so.1 => not found\n").unwrap_err(),
            "liba.so.1"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_image() {
        let error = Image::from_scratch("aviary.local/x:1")
            .file("/x", Path::new("/nonexistent/x"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read /nonexistent/x for the image aviary.local/x:1"
        );
    }
}
