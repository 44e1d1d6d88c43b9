//! The way to an endpoint: where it is, how it is connected to, and who must be there.
//!
//! To an endpoint that must prove who it is nothing is ever sent in the clear: without a proof there is no connection, and a request goes elsewhere
//! as if nobody listened there.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::identity::{Generation, Inner};
use crate::metrics::Metrics;
use crate::net::connect::{ConnectError, Path, connect};
use crate::net::stream::Stream;
use crate::net::tls;

/// How long a request waits for this proxy's first identity, where nothing may be sent without one.
const FIRST_IDENTITY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    path: Path,
    /// How long a connection may take to be there.
    patience: Duration,
    security: Security,
}

#[derive(Debug)]
enum Security {
    Plain,
    Secured(Secured),
    /// By TLS or not at all, as soon as this proxy has an identity.
    Awaiting(Awaiting),
}

#[derive(Debug)]
struct Awaiting {
    /// Whom to expect.
    id: Arc<str>,
    arrival: Rc<Arrival>,
    metrics: Arc<Metrics>,
}

/// Where this proxy's first identity arrives.
#[derive(Debug, Default)]
pub struct Arrival {
    arrived: RefCell<Option<Arc<Generation>>>,
    news: Notify,
}

impl Arrival {
    pub fn set(&self, generation: &Arc<Generation>) {
        self.arrived.replace(Some(generation.clone()));
        self.news.notify_waiters();
    }

    /// Cancel safe.
    async fn wait(&self) -> Arc<Generation> {
        loop {
            let news = self.news.notified();
            if let Some(generation) = &*self.arrived.borrow() {
                return generation.clone();
            }
            news.await;
        }
    }
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
            security: Security::Plain,
        }
    }

    /// To `id` and nobody else, and not before this proxy has an identity.
    pub fn awaiting(self, id: Arc<str>, arrival: Rc<Arrival>, metrics: Arc<Metrics>) -> Way {
        let security = Security::Awaiting(Awaiting {
            id,
            arrival,
            metrics,
        });
        Way { security, ..self }
    }

    /// To `id` and nobody else.
    pub fn secured(self, id: Arc<str>, generation: Arc<Generation>, metrics: Arc<Metrics>) -> Way {
        let config = None;
        Way {
            security: Security::Secured(Secured {
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
        match &self.security {
            Security::Plain => false,
            Security::Secured(_) | Security::Awaiting(_) => true,
        }
    }

    /// From the next connection on, this proxy shows this one.
    pub fn renew(&self, generation: &Arc<Generation>) {
        if let Security::Secured(secured) = &self.security {
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
        let (config, metrics) = match &self.security {
            Security::Plain => return Ok(self.connect().await?.into()),
            Security::Secured(secured) => (secured.config(), &secured.metrics),
            Security::Awaiting(awaiting) => (awaiting.config(address).await?, &awaiting.metrics),
        };
        let tcp = self.connect().await?;
        // In a box: what a plain connection needs is a small part of it.
        let connected = Box::pin(tls::connect(tcp, config, address.ip(), inner)).await;
        metrics.handshakes.outbound(&connected);
        let mesh = connected.map_err(|source| ConnectError::Tls { address, source })?;
        Ok(mesh.into())
    }

    async fn connect(&self) -> Result<TcpStream, ConnectError> {
        connect(self.address, self.path, self.patience).await
    }
}

impl Awaiting {
    /// With the identity that this proxy has, or gets in a moment.
    async fn config(&self, address: SocketAddr) -> Result<Arc<ClientConfig>, ConnectError> {
        let own = timeout(FIRST_IDENTITY, self.arrival.wait()).await;
        let own = own.map_err(|_elapsed| ConnectError::NoIdentity { address })?;
        Ok(Arc::new(own.client(self.id.clone())))
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
