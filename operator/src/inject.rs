//! `aviary-operator inject`: manifests in, manifests with sidecars out. For whoever wants to see what injection does, or to have it done in
//! CI where no webhook may be. The same injector as at admission ([`crate::admission::inject`]).

mod installation;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::admission::inject::{Injector, VERSION};
use crate::manifests::{self, ManifestError, Said};
use crate::names;
use crate::options::PullPolicy;
use crate::strict::Demanded;
use installation::{Installation, InstallationError, Source};

const EXAMPLES: &str = "\
Examples:
  # See what a pod would get. Image, pull policy and root certificate come from the cluster of your kubeconfig:
  aviary-operator inject -f deployment.yaml | diff deployment.yaml -

  # Inject on the way to the cluster:
  kustomize build overlays/prod | aviary-operator inject -f - | kubectl apply -f -

  # In CI, without a cluster. Its root certificate, once:
  #   kubectl get mutatingwebhookconfiguration aviary-operator -o jsonpath='{.webhooks[0].clientConfig.caBundle}' | base64 -d >root.pem
  aviary-operator inject -f all.yaml --image registry.example/aviary-proxy:0.1.0 --root-certificate root.pem

Sidecars go into Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs, CronJobs and Pods, also those
in Lists. Everything else comes out byte for byte as it went in. A sidecar that is there already is made anew. Pods with the label
aviary.dev/inject: \"false\" get none.

A namespace with the label aviary.dev/inject=enabled needs none of this: its pods get their sidecars when they are made. Pods of
injected manifests get a sidecar of the operator's version there too, so a manifest of an older version does no harm.

What was done is told on the standard error, one line for each workload. The exit code is 1, and nothing is printed, if one of
them cannot have a sidecar.";

/// Print manifests with sidecars in them.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "--help has examples.")]
pub struct Inject {
    /// The manifests, YAML or JSON, of any number of documents; `-` is the standard input. Repeat the flag for more.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Image of the sidecar and of its init container. Default: what the operator in the cluster injects.
    #[arg(long, env = "AVIARY_PROXY_IMAGE")]
    pub image: Option<String>,

    /// Pull policy of that image. Default: the operator's; IfNotPresent where no cluster is asked.
    #[arg(long, env = "AVIARY_PROXY_IMAGE_PULL_POLICY")]
    pub pull_policy: Option<PullPolicy>,

    /// PEM of the certificate authority that sidecars trust. Default: that of the operator in the cluster. With this and --image no
    /// cluster is asked for anything.
    #[arg(long, value_name = "FILE")]
    pub root_certificate: Option<PathBuf>,

    /// The operator's namespace.
    #[arg(long, default_value = names::NAMESPACE)]
    pub namespace: String,

    /// The kubeconfig of the cluster to ask. Default: $KUBECONFIG, ~/.kube/config, or the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig. Default: its current one.
    #[arg(long)]
    pub context: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: io::Error },
    #[error("{file} has no certificate in it: a PEM begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate { file: String },
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error("{file}: {source}")]
    Manifest { file: String, source: ManifestError },
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
}

/// Reads, asks the cluster for what the flags leave open, and prints.
pub async fn run(
    flags: &Inject,
    out: &mut impl Write,
    told: &mut impl Write,
) -> Result<(), InjectError> {
    let texts = flags
        .files
        .iter()
        .map(|file| Ok((name(file), read(file)?)))
        .collect::<Result<Vec<_>, InjectError>>()?;
    let injector = injector(flags).await?;
    let mut printed = String::new();
    for (file, text) in texts {
        let injected = manifests::inject(&text, &injector).map_err(|source| {
            let file = file.clone();
            InjectError::Manifest { file, source }
        })?;
        for note in &injected.notes {
            writeln!(told, "{file}: {}: {}", note.at, note.text).map_err(InjectError::Write)?;
        }
        if injected.notes.iter().all(|note| note.text != Said::Added) {
            writeln!(told, "{file}: nothing was changed").map_err(InjectError::Write)?;
        }
        append(&mut printed, &injected.text);
    }
    out.write_all(printed.as_bytes())
        .and_then(|()| out.flush())
        .map_err(InjectError::Write)
}

/// The next file is a document of its own.
fn append(printed: &mut String, text: &str) {
    if !printed.is_empty() {
        if !printed.ends_with('\n') {
            printed.push('\n');
        }
        if !text.starts_with("---") {
            printed.push_str("---\n");
        }
    }
    printed.push_str(text);
}

async fn injector(flags: &Inject) -> Result<Injector, InjectError> {
    let root = match &flags.root_certificate {
        Some(file) => {
            let pem = read(file)?;
            if !pem.contains("-----BEGIN CERTIFICATE-----") {
                return Err(InjectError::NoCertificate { file: name(file) });
            }
            Some(pem)
        }
        None => None,
    };
    let known = match (&flags.image, root) {
        (Some(image), Some(root_pem)) => Installation {
            image: image.clone(),
            pull_policy: flags.pull_policy.unwrap_or(PullPolicy::IfNotPresent),
            root_pem,
        },
        (image, root_pem) => {
            let source = Source {
                kubeconfig: flags.kubeconfig.clone(),
                context: flags.context.clone(),
                namespace: flags.namespace.clone(),
            };
            let found = source.ask().await?;
            Installation {
                image: image.clone().unwrap_or(found.image),
                pull_policy: flags.pull_policy.unwrap_or(found.pull_policy),
                root_pem: root_pem.unwrap_or(found.root_pem),
            }
        }
    };
    Ok(Injector {
        image: known.image,
        pull_policy: known.pull_policy,
        namespace: flags.namespace.clone(),
        root_pem: known.root_pem,
        mark: format!("{VERSION} by manifest"),
        // What a namespace asks for is known where the pod is created.
        demanded: Demanded::default(),
        policies: None,
        namespaces: None,
    })
}

fn name(file: &Path) -> String {
    if file.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

fn read(file: &Path) -> Result<String, InjectError> {
    let failed = |source| InjectError::Read {
        file: name(file),
        source,
    };
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file).map_err(failed);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_documents_of_one_text_and_what_was_done_is_told() {
        let folder = std::env::temp_dir().join(format!("aviary-inject-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: app\n";
        let flags = |files: Vec<PathBuf>| Inject {
            files,
            image: Some("registry.example/proxy:1".to_owned()),
            pull_policy: None,
            root_certificate: Some(file("root.pem", "-----BEGIN CERTIFICATE-----\nx\n")),
            namespace: "aviary-system".to_owned(),
            kubeconfig: None,
            context: None,
        };
        let both = flags(vec![file("a.yaml", "a: 1"), file("b.yaml", pod)]);
        let (mut out, mut told) = (Vec::new(), Vec::new());
        run(&both, &mut out, &mut told).await.unwrap();
        let (out, told) = (
            String::from_utf8(out).unwrap(),
            String::from_utf8(told).unwrap(),
        );
        assert!(out.starts_with("a: 1\n---\napiVersion: v1\n"), "{out}");
        assert!(
            out.contains("    image: registry.example/proxy:1\n"),
            "{out}"
        );
        assert!(told.contains("a.yaml: nothing was changed\n"), "{told}");
        assert!(
            told.ends_with("b.yaml: document 1, Pod web: sidecar added\n"),
            "{told}"
        );

        let bad = flags(vec![file("c.yaml", "kind: [\n")]);
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let error = run(&bad, &mut out, &mut told)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("c.yaml: document 1: it is no YAML"),
            "{error}"
        );
        assert!(out.is_empty());
        let missing = flags(vec![folder.join("none.yaml")]);
        let error = run(&missing, &mut out, &mut told)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot read ") && error.contains("none.yaml"),
            "{error}"
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
