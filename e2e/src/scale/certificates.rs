//! Many pods that start at the same moment, as after an outage: how long it takes until the last of their sidecars has its first certificate.
//!
//! Each has an address and a key of its own. Keys and tokens are made beforehand, since a real pod makes its key on its own processor; what is measured is the
//! connection, the stream of configuration and the signature, in the order in which a sidecar asks for them. Whoever is turned away comes again, as a sidecar does.

use std::net::Ipv4Addr;
use std::time::Duration;

use aviary_xds::grpc::Client as Xds;
use aviary_xds::identity::grpc::Client as Identity;
use aviary_xds::identity::{self, InvalidAnswer, SignRequest};
use aviary_xds::{DeltaClient, Node, Response};
use futures::StreamExt;
use kube::Client;
use rcgen::{CertificateParams, KeyPair};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tonic::Streaming;
use tonic::transport::Channel;

use super::sidecars::tokens;
use crate::connection::{self, ConnectionError};

/// A sidecar that is turned away waits for half a second at first, more or less.
const AGAIN: Duration = Duration::from_millis(500);
/// A sidecar that is not answered.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the API server does not answer")]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("no request for a certificate can be made")]
    Request(#[from] rcgen::Error),
}

/// Pods whose sidecars are about to start.
pub struct Starting {
    tls: TlsConnector,
    sidecars: Vec<Sidecar>,
}

struct Sidecar {
    pod: String,
    token: String,
    csr: Vec<u8>,
    address: Ipv4Addr,
}

/// The connection of one, and its stream.
struct Open {
    _channel: Channel,
    _stream: Streaming<Response>,
}

/// What became of them.
pub struct Certified {
    /// Milliseconds from the start of all until each had its certificate.
    pub took: Vec<u64>,
    /// How often one was turned away.
    pub again: usize,
}

#[derive(Debug, thiserror::Error)]
enum TurnedAway {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Status(#[from] tonic::Status),
    #[error(transparent)]
    Answer(#[from] InvalidAnswer),
    #[error("not within {PATIENCE:?}")]
    NotInTime(#[from] tokio::time::error::Elapsed),
}

impl Starting {
    /// Those of the callers' pods.
    pub async fn prepare(client: &Client) -> Result<Starting, CertificateError> {
        let tls = TlsConnector::from(connection::trusting(client).await?);
        let tokens = tokens(client).await?;
        let sidecars = tokens.into_iter().zip(addresses());
        let sidecars = sidecars.map(|((pod, token), address)| {
            let key = KeyPair::generate()?;
            let csr = CertificateParams::default().serialize_request(&key)?;
            Ok(Sidecar {
                pod,
                token,
                csr: csr.der().to_vec(),
                address,
            })
        });
        Ok(Starting {
            tls,
            sidecars: sidecars.collect::<Result<_, CertificateError>>()?,
        })
    }

    /// All of them at once.
    pub async fn start(self, port: u16) -> Certified {
        let start = Instant::now();
        let mut starting = JoinSet::new();
        for sidecar in self.sidecars {
            let tls = self.tls.clone();
            starting.spawn(async move {
                let mut again = 0;
                loop {
                    match sidecar.certify(tls.clone(), port).await {
                        Ok(connected) => return (start.elapsed(), again, connected),
                        Err(_) => again += 1,
                    }
                    tokio::time::sleep(AGAIN.mul_f64(0.5 + fastrand::f64())).await;
                }
            });
        }
        // Connections stay until all are done.
        let done = starting.join_all().await;
        Certified {
            took: done
                .iter()
                .map(|(took, ..)| u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
                .collect(),
            again: done.iter().map(|(_, again, _)| again).sum(),
        }
    }
}

impl Sidecar {
    /// A stream of configuration, and on its connection a certificate. What is returned keeps both open.
    async fn certify(&self, tls: TlsConnector, port: u16) -> Result<impl Send + use<>, TurnedAway> {
        let work = async {
            let channel = connection::dial_from(self.address, tls, port).await?;
            let node = Node {
                id: self.pod.clone(),
                version: "bench".to_owned(),
                revocations: Vec::new(),
            };
            let first = DeltaClient::new(fastrand::f64()).connected(&node).requests;
            let requests = futures::stream::iter(first).chain(futures::stream::pending());
            let stream = Xds::new(channel.clone())
                .delta_aggregated_resources(connection::signed(&self.token, requests)?)
                .await?;
            let csr = self.csr.clone();
            let request = connection::signed(&self.token, SignRequest { csr })?;
            let answer = Identity::new(channel.clone()).sign(request).await?;
            identity::decode(answer.into_inner())?;
            Ok(Open {
                _channel: channel,
                _stream: stream.into_inner(),
            })
        };
        tokio::time::timeout(PATIENCE, work).await?
    }
}

/// Of loopback, each another one: the operator bounds what comes from one address.
fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    let last = |third| (1..=250).map(move |fourth| Ipv4Addr::new(127, 1, third, fourth));
    (0..=250).flat_map(last)
}
