//! A cluster to stand on: the local one, started for this, or the user's own.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::kubectl::Kubectl;
use super::places::{Names, NamesError};
use crate::cluster::{AccessError, Cluster, ClusterError, Options};
use crate::images::{self, ImagesError, Profile};
use crate::prometheus::{Prometheus, PrometheusError};

#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    #[error(transparent)]
    Names(#[from] NamesError),
    #[error("E2E_KUBECONFIG names {0}, which is no file")]
    NoKubeconfig(PathBuf),
    #[error("{0} needs the local cluster: unset E2E_KUBECONFIG")]
    NotLocal(&'static str),
    #[error("the process of the API server was not found")]
    NoApiServer,
    #[error("cannot start a runtime")]
    Runtime(#[source] std::io::Error),
}

pub enum Ground {
    Local {
        cluster: Cluster,
        prometheus: Mutex<Option<Prometheus>>,
    },
    Yours {
        kubeconfig: PathBuf,
        names: Names,
    },
}

impl Ground {
    /// The user's cluster if `E2E_KUBECONFIG` names one, else the local one with fresh images. `holder` says who it is
    /// for, `say` is told what takes time.
    pub fn prepare(
        holder: &str,
        profile: Profile,
        mut say: impl FnMut(&str),
    ) -> Result<Ground, GroundError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(kubeconfig) = variable("E2E_KUBECONFIG").map(PathBuf::from) {
            if !kubeconfig.is_file() {
                return Err(GroundError::NoKubeconfig(kubeconfig));
            }
            say(&format!("using the cluster of {}", kubeconfig.display()));
            let images = variable("IMAGES");
            if images.is_none() {
                say(
                    "IMAGES is not set: the cluster has to have aviary.local/{aviary-operator,aviary-proxy,demo}:dev, as `make images` makes them",
                );
            }
            let names =
                Names::of_the_user(images.as_deref(), variable("PROMETHEUS_URL").as_deref())?;
            return Ok(Ground::Yours { kubeconfig, names });
        }
        let archives = images::build(profile, &images_directory(), &mut say)?;
        let cluster = Cluster::start(
            &Options {
                images: archives,
                holder: holder.to_owned(),
            },
            &mut say,
        )?;
        let prometheus = Prometheus::start(&cluster)?;
        say("Prometheus is up");
        Ok(Ground::Local {
            cluster,
            prometheus: Mutex::new(Some(prometheus)),
        })
    }

    /// Runs a future to its end where API and pods can be reached.
    pub fn run<F, T>(&self, make: impl FnOnce() -> F + Send) -> Result<T, GroundError>
    where
        F: Future<Output = T>,
        T: Send,
    {
        match self {
            Ground::Local { cluster, .. } => Ok(cluster.run_inside(make)?),
            Ground::Yours { .. } => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .enable_all()
                    .build();
                Ok(runtime.map_err(GroundError::Runtime)?.block_on(make()))
            }
        }
    }

    pub fn kubectl(&self) -> Kubectl {
        match self {
            Ground::Local { cluster, .. } => Kubectl::Local(cluster.access().clone()),
            Ground::Yours { kubeconfig, .. } => Kubectl::Yours(kubeconfig.clone()),
        }
    }

    pub fn kubeconfig(&self) -> &Path {
        match self {
            Ground::Local { cluster, .. } => cluster.kubeconfig(),
            Ground::Yours { kubeconfig, .. } => kubeconfig,
        }
    }

    pub fn names(&self) -> Names {
        match self {
            Ground::Local { .. } => Names::local(),
            Ground::Yours { names, .. } => names.clone(),
        }
    }

    /// Takes Prometheus away, as a crash would.
    pub fn take_prometheus(&self) -> Result<(), GroundError> {
        match self {
            Ground::Local { prometheus, .. } => {
                let running = prometheus
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                Ok(running.map_or(Ok(()), Prometheus::stop)?)
            }
            Ground::Yours { .. } => Err(GroundError::NotLocal("taking Prometheus away")),
        }
    }

    /// Starts it again if it is away.
    pub fn give_prometheus_back(&self) -> Result<(), GroundError> {
        match self {
            Ground::Local {
                cluster,
                prometheus,
            } => {
                let mut running = prometheus.lock().unwrap_or_else(PoisonError::into_inner);
                if running.is_none() {
                    *running = Some(Prometheus::start(cluster)?);
                }
                Ok(())
            }
            Ground::Yours { .. } => Err(GroundError::NotLocal("starting Prometheus")),
        }
    }

    /// Leaves the cluster running; returns how to use and to end it, if it is ours.
    pub fn keep(self) -> Result<Option<String>, GroundError> {
        match self {
            Ground::Local { cluster, .. } => Ok(Some(cluster.keep()?)),
            Ground::Yours { .. } => Ok(None),
        }
    }

    /// Ends what was started.
    pub fn stop(self) -> Result<(), GroundError> {
        match self {
            Ground::Local {
                cluster,
                prometheus,
            } => {
                let running = prometheus
                    .into_inner()
                    .unwrap_or_else(PoisonError::into_inner);
                let stopped = running.map_or(Ok(()), Prometheus::stop);
                cluster.stop()?;
                Ok(stopped?)
            }
            Ground::Yours { .. } => Ok(()),
        }
    }
}

fn images_directory() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join("target/images")
}
