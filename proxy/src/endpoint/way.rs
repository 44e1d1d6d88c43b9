//! The way to an endpoint: where it is, how it is connected to, and who must be there.
//!
//! To an endpoint that must prove who it is nothing is ever sent in the clear: without a proof there is no connection, and a request goes elsewhere
//! as if nobody listened there.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::identity::{Generation, Inner};
use crate::metrics::Metrics;
use crate::net::connect::{ConnectError, Path, connect};
use crate::net::stream::Stream;
use crate::net::tls;

#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    path: Path,
    /// How long a connection may take to be there.
    patience: Duration,
    secured: Option<Secured>,
}

#[derive(Debug)]
struct Secured {
    /// Whom to expect.
    id: Arc<str>,
    own: RefCell<Own>,
    metrics: Arc<Metrics>,
}

/// What this proxy shows there.
#[derive(Debug)]
struct Own {
    generation: Arc<Generation>,
    /// Made for the first connection.
    config: Option<Arc<ClientConfig>>,
}

impl Way {
    /// In the clear, to whoever is there.
    pub fn plain(address: SocketAddr, path: Path, patience: Duration) -> Way {
        Way {
            address,
            path,
            patience,
            secured: None,
        }
    }

    /// To `id` and nobody else.
    pub fn secured(self, id: Arc<str>, generation: Arc<Generation>, metrics: Arc<Metrics>) -> Way {
        let config = None;
        Way {
            secured: Some(Secured {
                id,
                own: RefCell::new(Own { generation, config }),
                metrics,
            }),
            ..self
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether whoever is there must prove who they are.
    pub fn is_secured(&self) -> bool {
        self.secured.is_some()
    }

    /// From the next connection on, this proxy shows this one.
    pub fn renew(&self, generation: &Arc<Generation>) {
        if let Some(secured) = &self.secured {
            let mut own = secured.own.borrow_mut();
            if !Arc::ptr_eq(&own.generation, generation) {
                *own = Own {
                    generation: generation.clone(),
                    config: None,
                };
            }
        }
    }

    /// A connection on which `inner` will be spoken.
    pub async fn open(&self, inner: Inner) -> Result<Stream, ConnectError> {
        let address = self.address;
        let tcp = connect(address, self.path, self.patience).await?;
        let Some(secured) = &self.secured else {
            return Ok(tcp.into());
        };
        // In a box: what a plain connection needs is a small part of it.
        let connected = Box::pin(tls::connect(tcp, secured.config(), address.ip(), inner)).await;
        secured.metrics.handshakes.outbound(&connected);
        let mesh = connected.map_err(|source| ConnectError::Tls { address, source })?;
        Ok(mesh.into())
    }
}

impl Secured {
    fn config(&self) -> Arc<ClientConfig> {
        let mut own = self.own.borrow_mut();
        let Own { generation, config } = &mut *own;
        config
            .get_or_insert_with(|| Arc::new(generation.client(self.id.clone())))
            .clone()
    }
}
