//! The service on the sidecars' connection that gives them their certificates: who asks is known by the token, as on the stream of their configuration, and
//! the ServiceAccount of the token is the name in the certificate.

use aviary_xds::identity::grpc::Service;
use aviary_xds::identity::{self, SignRequest, SignResponse};
use time::OffsetDateTime;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::PodIdentity;
use super::allowance::{Allowance, Asked, MOST};
use super::door::Door;
use crate::certificates::workload::{Refusal, Workloads};

pub(super) struct IdentityService {
    door: Door,
    workloads: Workloads,
    allowance: Allowance,
}

impl IdentityService {
    pub(super) fn new(door: Door, workloads: Workloads) -> IdentityService {
        IdentityService {
            door,
            workloads,
            allowance: Allowance::new(Instant::now()),
        }
    }

    fn allow(&self, pod: &PodIdentity) -> Result<(), Status> {
        let asked = self.allowance.ask(&pod.uid, Instant::now());
        if asked == Asked::Allowed {
            return Ok(());
        }
        let refusal = Refusal::TooMany(MOST);
        // Whoever asks without end must not fill the log.
        if asked == Asked::First {
            log(pod, &refusal);
        }
        self.workloads.refused(&refusal);
        Err(status(&refusal))
    }
}

#[tonic::async_trait]
impl Service for IdentityService {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let entered = self.door.enter(&request).await;
        let (pod, _stay) = entered.inspect_err(|status| {
            let is_refused = status.code() == Code::Unauthenticated;
            self.workloads.refused(&if is_refused {
                Refusal::Token
            } else {
                Refusal::Unchecked
            });
            // Anybody can send any number of bad tokens.
            tracing::debug!(
                reason = status.message(),
                "no certificate for whoever this is"
            );
        })?;
        self.allow(&pod)?;
        let csr = request.into_inner().csr;
        let now = OffsetDateTime::now_utc();
        let signed = self
            .workloads
            .sign(&pod.namespace, &pod.service_account, &csr, now);
        let signed = signed.map_err(|refusal| {
            log(&pod, &refusal);
            self.workloads.refused(&refusal);
            status(&refusal)
        })?;
        tracing::debug!(namespace = pod.namespace, pod = pod.pod, id = %signed.id, "certificate issued");
        Ok(Response::new(identity::encode(&signed)))
    }
}

fn log(pod: &PodIdentity, refusal: &Refusal) {
    // Why there is none was said once, and every pod asks again.
    if matches!(refusal, Refusal::NoIssuer) {
        return;
    }
    tracing::warn!(
        namespace = pod.namespace,
        pod = pod.pod,
        service_account = pod.service_account,
        reason = %refusal,
        "no certificate for this pod"
    );
}

fn status(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Token => Code::Unauthenticated,
        Refusal::TooMany(_) => Code::ResourceExhausted,
        Refusal::Csr(_) | Refusal::Name(_) => Code::InvalidArgument,
        Refusal::Unchecked | Refusal::NoIssuer | Refusal::Expired => Code::Unavailable,
        Refusal::Sign(_) => Code::Internal,
    };
    Status::new(code, refusal.to_string())
}
