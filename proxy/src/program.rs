//! `aviary-proxy run`: a proxy and the control plane's client beside it, from their start to their end, on the thread that calls.

use std::io;

use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;

use crate::ads;
use crate::control::ControlPlane;
use crate::run::{Options, Proxy, StartError, WorkerDied};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start the control thread, or hear signals: {0}")]
    Control(#[from] io::Error),
    #[error(transparent)]
    Died(#[from] WorkerDied),
}

/// Serves until SIGTERM or SIGINT, then drains.
pub fn run(options: Options, control_plane: ControlPlane) -> Result<(), RunError> {
    // Refused only if a provider is installed already, and then it is this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        // Before anybody can know that it is there: who hears no signal yet is killed by one.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let workers = options.workers;
        let mut proxy = Proxy::start(options)?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            outbound = ?proxy.outbound,
            inbound = ?proxy.inbound,
            admin = ?proxy.admin,
            workers,
            "listening"
        );
        if let Some(demands) = proxy.demands() {
            let data = proxy.data.clone();
            spawn_local(async move {
                if let Err(error) = ads::run(control_plane, data.clone(), Some(data), demands).await {
                    tracing::error!(%error, "there will be no configuration: everything is passed through");
                }
            });
        }
        Ok(proxy.serve(stop).await?)
    })
}
