//! Keeps the pod's certificate: makes a key, has it signed on the connection that has the stream of configuration, and hands the new identity to the data plane.
//!
//! ```text
//!   due ──signed──> every worker has it ──> due again at about half of its life
//!    │ ├─failed──> due again after a while (0.1 s .. 60 s, jittered); the identity before serves until it expires
//!    │ └─not served──> nothing, as long as there is this connection: connections stay plaintext
//!    └─ without a connection: it waits for the next one
//! ```
//!
//! A key is made for each certificate, lives in memory, and is never written anywhere. How long a certificate holds is counted by the time that passes: what time of
//! day the pod believes it to be is of no importance.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aviary_xds::identity::Signed;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::connect::Connector;
use super::failure::Failure;
use crate::control::{Identify, Installed, Renewal};
use crate::identity::Generation;

/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The shortest time between two certificates: the control plane gives no pod many.
const SHORTEST_USE: Duration = Duration::from_secs(3);

/// The pod's certificate, over all connections.
pub(super) struct Certificates {
    /// `None`: nobody wants one.
    identify: Option<Arc<dyn Identify>>,
    /// Of the newest identity.
    number: u64,
    due: Instant,
    /// On its way to the workers.
    handed: Option<Handed>,
    backoff: Backoff,
    /// What was said last, which is not said again.
    said: Option<String>,
}

struct Handed {
    installed: Installed,
    expires_at: SystemTime,
    due_at: SystemTime,
}

impl Certificates {
    pub(super) fn new(identify: Option<Arc<dyn Identify>>) -> Certificates {
        if let Some(identify) = &identify {
            identify.renewal(Renewal::Awaited);
        }
        Certificates {
            identify,
            number: 0,
            due: Instant::now(),
            handed: None,
            backoff: Backoff::up_to(LONGEST_WAIT),
            said: None,
        }
    }

    /// For as long as there is this connection. Cancel safe.
    pub(super) async fn run(&mut self, connector: &Connector, channel: Channel) -> Infallible {
        let Some(identify) = self.identify.clone() else {
            return pending().await;
        };
        loop {
            self.finish(&*identify).await;
            sleep_until(self.due).await;
            match self.renew(&*identify, connector, channel.clone()).await {
                Ok(()) => {}
                Err(Failure::Unserved(reason)) => {
                    if self.say(&reason) {
                        tracing::info!(
                            reason,
                            "the control plane gives no certificates: connections between sidecars stay plaintext"
                        );
                    }
                    identify.renewal(Renewal::Unserved);
                    return pending().await;
                }
                Err(failure) => {
                    self.due = Instant::now() + self.backoff.next(fastrand::f64());
                    self.failed(&failure);
                    identify.renewal(Renewal::Failed);
                }
            }
        }
    }

    /// Waits until every worker has what was handed over.
    async fn finish(&mut self, identify: &dyn Identify) {
        if let Some(handed) = &mut self.handed {
            (&mut handed.installed).await;
            let (expires_at, due_at) = (handed.expires_at, handed.due_at);
            self.handed = None;
            identify.renewal(Renewal::Issued { expires_at, due_at });
        }
    }

    async fn renew(
        &mut self,
        identify: &dyn Identify,
        connector: &Connector,
        channel: Channel,
    ) -> Result<(), Failure> {
        let (key, csr) = request()?;
        let asked = Instant::now();
        let signed = connector.sign(channel, csr).await?;
        let (left, number) = (signed.left, self.number + 1);
        let generation = generation(number, signed, &key)?;
        let id = Arc::clone(&generation.id);
        let (now, due) = (SystemTime::now(), until_renewal(left, fastrand::f64()));
        self.handed = Some(Handed {
            installed: identify.identify(Arc::new(generation)),
            expires_at: now + left,
            due_at: now + due,
        });
        if self.number == 0 {
            tracing::info!(
                id = &*id,
                seconds = left.as_secs(),
                "this pod has a certificate"
            );
        } else {
            tracing::debug!(
                id = &*id,
                number,
                seconds = left.as_secs(),
                "certificate renewed"
            );
        }
        self.number = number;
        self.due = asked + due;
        self.backoff.reset();
        self.said = None;
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) {
        let reason = failure.to_string();
        if self.say(&reason) {
            tracing::warn!(
                reason,
                renewal = self.number,
                "no new certificate for this pod; trying again, and the last one serves until it expires"
            );
        } else {
            tracing::debug!(reason, "still no new certificate for this pod");
        }
    }

    /// Whether this is something else than what was said last.
    fn say(&mut self, text: &str) -> bool {
        let is_new = self.said.as_deref() != Some(text);
        self.said = Some(text.to_owned());
        is_new
    }
}

/// A new key on P-256, and the request for its certificate: there is nothing to say in it.
fn request() -> Result<(KeyPair, Vec<u8>), Failure> {
    let key = KeyPair::generate().map_err(Failure::Key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(Failure::Key)?;
    Ok((key, request.der().to_vec()))
}

fn generation(number: u64, signed: Signed, key: &KeyPair) -> Result<Generation, Failure> {
    let Signed {
        chain,
        roots,
        left: _,
        id,
    } = signed;
    let certificates = |all: Vec<Vec<u8>>| all.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Generation::new(
        number,
        id.as_str(),
        certificates(chain),
        key,
        certificates(roots),
    )
    .map_err(|error| Failure::Identity(error.to_string()))
}

/// At half of the life, give or take a tenth of that, so that the pods of a cluster do not come all at once. `chance` is between 0 and 1.
fn until_renewal(left: Duration, chance: f64) -> Duration {
    let half = left.mul_f64(0.45 + chance.clamp(0.0, 1.0) / 10.0);
    half.max(SHORTEST_USE)
}

/// In whole seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_about_half_of_its_life_and_never_at_once() {
        let day = Duration::from_secs(86_400);
        assert_eq!(until_renewal(day, 0.0), day.mul_f64(0.45));
        assert_eq!(until_renewal(day, 0.5), day / 2);
        assert_eq!(until_renewal(day, 1.0), day.mul_f64(0.55));
        assert_eq!(until_renewal(Duration::from_secs(1), 0.5), SHORTEST_USE);
    }

    #[test]
    fn each_request_is_for_a_new_key() {
        let (one, two) = (request().unwrap(), request().unwrap());
        assert_ne!(one.0.public_key_raw(), two.0.public_key_raw());
        assert_ne!(one.1, two.1);
    }

    #[test]
    fn what_repeats_itself_is_said_once() {
        let mut certificates = Certificates::new(None);
        assert!(certificates.say("a") && !certificates.say("a"));
        assert!(certificates.say("b") && certificates.say("a"));
    }

    #[test]
    fn a_certificate_of_another_key_is_no_identity() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let id = "spiffe://cluster.local/ns/shop/sa/web";
        let mut params = CertificateParams::default();
        let name = rcgen::SanType::URI(id.try_into().unwrap());
        params.subject_alt_names = vec![name];
        let certificate = params.self_signed(&other).unwrap().der().to_vec();
        let signed = || Signed {
            chain: vec![certificate.clone()],
            roots: vec![certificate.clone()],
            left: Duration::from_secs(60),
            id: aviary_xds::identity::SpiffeId::parse(id).unwrap(),
        };
        let identity = generation(7, signed(), &other).unwrap();
        assert_eq!((identity.number, &*identity.id), (7, id));
        let error = generation(8, signed(), &own).unwrap_err().to_string();
        assert!(error.contains("cannot be used"), "{error}");
    }
}
