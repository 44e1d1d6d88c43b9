//! Who a proxy is: the API server reviews the ServiceAccount token that it shows.
//!
//! The token is projected into the pod for the audience `aviary` alone, so it is of no use at the API server, and a
//! token for the API server is of none here. It is bound to its pod: name and UID come from the review, never from
//! what the proxy says of itself.

use std::collections::BTreeMap;

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;

use crate::ads::{AuthError, Authenticated, Authenticator, PodIdentity};
use crate::names;

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Reviews under way at once; others wait for their turn, as long as the stream's opening may take.
const AT_ONCE: usize = 16;
/// A projected token has about one kilobyte.
const LONGEST_TOKEN: usize = 8 << 10;

/// Authenticates by TokenReview.
#[derive(Clone)]
pub struct TokenReviews {
    reviews: Api<TokenReview>,
    turns: Arc<Semaphore>,
}

impl TokenReviews {
    pub fn new(client: Client) -> TokenReviews {
        TokenReviews {
            reviews: Api::all(client),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    async fn review(&self, token: &str) -> Result<PodIdentity, AuthError> {
        if !is_jwt(token) {
            return Err(AuthError::Refused(
                "it is no token of a ServiceAccount".to_owned(),
            ));
        }
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|error| AuthError::Unavailable(error.to_string()))?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![names::TOKEN_AUDIENCE.to_owned()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let reviewed = self
            .reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| AuthError::Unavailable(error.to_string()))?;
        let status = reviewed
            .status
            .ok_or_else(|| AuthError::Unavailable("the review has no status".to_owned()))?;
        identity(status)
    }
}

impl Authenticator for TokenReviews {
    fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a> {
        Box::pin(self.review(token))
    }
}

/// Header, claims and signature in base64url: whatever is not, the API server need not be asked about.
fn is_jwt(token: &str) -> bool {
    let is_base64url = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty()
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    token.len() <= LONGEST_TOKEN
        && token.starts_with("eyJ")
        && token.split('.').count() == 3
        && token.split('.').all(is_base64url)
}

fn identity(status: TokenReviewStatus) -> Result<PodIdentity, AuthError> {
    let refuse = |text: &str| AuthError::Refused(text.to_owned());
    if status.authenticated != Some(true) {
        return Err(AuthError::Refused(
            status.error.unwrap_or_else(|| "it is not valid".to_owned()),
        ));
    }
    // An API server that knows no audiences would say yes to any token.
    let audiences = status.audiences.unwrap_or_default();
    if !audiences
        .iter()
        .any(|audience| audience == names::TOKEN_AUDIENCE)
    {
        return Err(refuse("it is not for the audience 'aviary'"));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let (namespace, service_account) = name
        .strip_prefix(SERVICE_ACCOUNT)
        .and_then(|rest| rest.split_once(':'))
        .map(|(namespace, account)| (namespace.to_owned(), account.to_owned()))
        .ok_or_else(|| refuse("it belongs to no ServiceAccount"))?;
    let mut extra: BTreeMap<String, Vec<String>> = user.extra.unwrap_or_default();
    let mut bound = |key: &str| {
        let value = extra.remove(key).unwrap_or_default().into_iter().next();
        value.ok_or_else(|| {
            refuse("it is bound to no pod; use the token that is projected into the pod")
        })
    };
    Ok(PodIdentity {
        namespace,
        pod: bound(POD_NAME)?,
        uid: bound(POD_UID)?,
        service_account,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;

    use super::*;

    /// An API server that never answers, and how many requests have come to it.
    fn silent() -> (TokenReviews, Arc<AtomicUsize>) {
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        let service = tower::service_fn(move |_: http::Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        (TokenReviews::new(Client::new(service, "default")), came)
    }

    #[tokio::test]
    async fn a_thousand_streams_cause_a_few_reviews_and_garbage_causes_none() {
        for (token, reviewed) in [("garbage", 0), ("a.b.c", 0), ("eyJh.eyJi.c2", AT_ONCE)] {
            let (reviews, came) = silent();
            let mut asked = tokio::task::JoinSet::new();
            for _ in 0..1000 {
                let reviews = reviews.clone();
                asked.spawn(async move { reviews.review(token).await });
            }
            let settled = async {
                while came.load(Ordering::Relaxed) < reviewed {
                    tokio::task::yield_now().await;
                }
                for _ in 0..10_000 {
                    tokio::task::yield_now().await;
                }
            };
            settled.await;
            assert_eq!(came.load(Ordering::Relaxed), reviewed, "{token}");
        }
    }

    #[test]
    fn a_token_has_three_parts_and_a_limit() {
        assert!(is_jwt(
            "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsiYXZpYXJ5Il19.c2ln-_"
        ));
        let long = format!("eyJh.{}.c", "a".repeat(LONGEST_TOKEN));
        for token in [
            "",
            "x",
            "eyJh.b",
            "eyJh.b.c.d",
            "eyJh..c",
            "eyJh.b!.c",
            &long,
        ] {
            assert!(!is_jwt(token), "{token}");
        }
    }

    /// What a 1.36 API server answers for a projected token.
    fn status() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["aviary"],
            "user": {
                "username": "system:serviceaccount:shop:default",
                "uid": "c7d5e1f0",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                "extra": {
                    "authentication.kubernetes.io/credential-id": ["JTI=1"],
                    "authentication.kubernetes.io/node-name": ["node"],
                    "authentication.kubernetes.io/pod-name": ["payment-6d4cf56db6-x2x4v"],
                    "authentication.kubernetes.io/pod-uid": ["4a0c2e6b"],
                },
            },
        })
    }

    fn identified(change: Value) -> Result<PodIdentity, AuthError> {
        let mut status = status();
        json_patch::merge(&mut status, &change);
        identity(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn a_projected_token_names_its_pod() {
        assert_eq!(
            identified(json!({})),
            Ok(PodIdentity {
                namespace: "shop".to_owned(),
                pod: "payment-6d4cf56db6-x2x4v".to_owned(),
                uid: "4a0c2e6b".to_owned(),
                service_account: "default".to_owned(),
            })
        );
    }

    #[test]
    fn every_other_token_is_refused_with_the_reason() {
        for (change, reason) in [
            (
                json!({"authenticated": false, "error": "token expired"}),
                "token expired",
            ),
            (json!({"authenticated": null}), "it is not valid"),
            (
                json!({"audiences": ["https://kubernetes.default.svc"]}),
                "audience 'aviary'",
            ),
            (json!({"audiences": null}), "audience 'aviary'"),
            (json!({"user": {"username": "alice"}}), "no ServiceAccount"),
            (
                json!({"user": {"extra": {"authentication.kubernetes.io/pod-uid": null}}}),
                "bound to no pod",
            ),
            (json!({"user": {"extra": null}}), "bound to no pod"),
        ] {
            match identified(change.clone()) {
                Err(AuthError::Refused(text)) => assert!(text.contains(reason), "{text}"),
                other @ (Ok(_) | Err(AuthError::Unavailable(_))) => panic!("{change}: {other:?}"),
            }
        }
    }
}
