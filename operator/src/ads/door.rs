//! What the services on the sidecars' connection have in common: who may come in, and what answers are.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::authenticate::bearer;
use super::remembered::Remembered;
use super::visit::{Stay, Visit};
use super::{Ads, AuthError, Authenticator, PodIdentity};

/// A token review takes milliseconds.
const AUTHENTICATION: Duration = Duration::from_secs(5);

pub(super) type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Who may come in, and to what.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) ads: Ads,
    pub(super) stop: CancellationToken,
    authenticator: Arc<dyn Authenticator>,
}

impl Door {
    pub(super) fn new(
        ads: Ads,
        authenticator: Arc<dyn Authenticator>,
        stop: CancellationToken,
    ) -> Door {
        Door {
            ads,
            stop,
            authenticator: Arc::new(Remembered::new(authenticator)),
        }
    }

    /// The pod that the token of a request belongs to. Its connection stays for as long as the [`Stay`] does.
    pub(super) async fn enter<T>(
        &self,
        request: &Request<T>,
    ) -> Result<(PodIdentity, Option<Stay>), Status> {
        let token = bearer(request.metadata())?;
        let answer = tokio::time::timeout(AUTHENTICATION, self.authenticator.authenticate(token));
        let too_late =
            || AuthError::Unavailable("the API server did not answer in time".to_owned());
        let pod = answer.await.map_err(|_| too_late())??;
        Ok((pod, Visit::of(request.extensions()).map(Visit::stay)))
    }
}
