//! Secrets that a CanaryRollout names: what the operator proves itself with to somebody outside, and whom it believes there.
//!
//! Whoever writes a CanaryRollout may not be allowed to read Secrets. So a Secret is used only if it has the label
//! [`CREDENTIALS_LABEL`], by which whoever may write it says so, and only in its own namespace. The operator's role does not
//! let it read any: a Role in the namespace does, for the names that it lists.

use aviary_crds::CREDENTIALS_LABEL;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

/// The keys of such a Secret.
pub const HMAC_KEY: &str = "hmac-key";
pub const TOKEN: &str = "token";
pub const CA: &str = "ca.crt";

/// A key that can be guessed signs nothing.
const SHORTEST_KEY: usize = 16;

/// What a Secret has.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub hmac_key: Option<Vec<u8>>,
    pub token: Option<String>,
    /// Certificates in PEM.
    pub ca: Option<Vec<u8>>,
}

/// Why a Secret cannot be used. None of these shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("there is no Secret {0} in this namespace")]
    Missing(String),
    #[error(
        "the operator may not read Secret {0}: give its ServiceAccount a Role for that name (docs/hooks.md has one)"
    )]
    Forbidden(String),
    #[error("Secret {0} cannot be read")]
    Unreadable(String, #[source] kube::Error),
    #[error(
        "Secret {0} has no label {CREDENTIALS_LABEL}: \"true\", so the operator does not use it: whoever may write it has to say so"
    )]
    NotOptedIn(String),
    #[error("Secret {0} has none of the keys {HMAC_KEY}, {TOKEN} and {CA}")]
    Empty(String),
    #[error("the {HMAC_KEY} of Secret {0} is shorter than {SHORTEST_KEY} bytes")]
    WeakKey(String),
    #[error("the {TOKEN} of Secret {0} is no text that fits into a header")]
    BadToken(String),
}

/// Reads the Secret as it is now.
pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Credentials, CredentialsError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match secrets.get_opt(name).await {
        Ok(Some(secret)) => Credentials::of(&secret),
        Ok(None) => Err(CredentialsError::Missing(name.to_owned())),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Err(CredentialsError::Forbidden(name.to_owned()))
        }
        Err(error) => Err(CredentialsError::Unreadable(name.to_owned(), error)),
    }
}

impl Credentials {
    pub fn of(secret: &Secret) -> Result<Credentials, CredentialsError> {
        let name = || secret.name_any();
        if secret.labels().get(CREDENTIALS_LABEL).map(String::as_str) != Some("true") {
            return Err(CredentialsError::NotOptedIn(name()));
        }
        let value = |key: &str| {
            let data = secret.data.as_ref()?;
            data.get(key).map(|ByteString(bytes)| bytes.clone())
        };
        let hmac_key = value(HMAC_KEY);
        if hmac_key
            .as_ref()
            .is_some_and(|key| key.len() < SHORTEST_KEY)
        {
            return Err(CredentialsError::WeakKey(name()));
        }
        let token = value(TOKEN).map(text).transpose();
        let credentials = Credentials {
            hmac_key,
            token: token.map_err(|NoText| CredentialsError::BadToken(name()))?,
            ca: value(CA),
        };
        if credentials == Credentials::default() {
            return Err(CredentialsError::Empty(name()));
        }
        Ok(credentials)
    }
}

struct NoText;

/// Files often end with a line feed.
fn text(bytes: Vec<u8>) -> Result<String, NoText> {
    let text = String::from_utf8(bytes).map_err(|_| NoText)?;
    let text = text.trim_end_matches(['\r', '\n']);
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or(NoText)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(label: &str, data: &[(&str, &str)]) -> Secret {
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "hook", "labels": {CREDENTIALS_LABEL: label}},
        }))
        .unwrap();
        let data = data.iter().map(|(key, value)| {
            let value = ByteString(value.as_bytes().to_vec());
            ((*key).to_owned(), value)
        });
        secret.data = Some(data.collect());
        secret
    }

    fn refused(label: &str, data: &[(&str, &str)]) -> String {
        let read = Credentials::of(&secret(label, data));
        read.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_secret_that_nobody_has_opened_for_it_is_not_used() {
        let key = [(HMAC_KEY, "0123456789abcdef")];
        assert!(Credentials::of(&secret("true", &key)).is_ok());
        assert!(refused("false", &key).contains("has no label aviary.dev/credentials"));
    }

    #[test]
    fn a_token_is_read_without_the_end_of_its_line() {
        let read = Credentials::of(&secret("true", &[(TOKEN, "abc.def\n")])).ok();
        assert_eq!(read.unwrap().token.as_deref(), Some("abc.def"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_not_shown() {
        for (data, says) in [
            (&[][..], "none of the keys hmac-key, token and ca.crt"),
            (&[("other", "x")], "none of the keys"),
            (&[(HMAC_KEY, "hushhush")], "shorter than 16 bytes"),
            (&[(TOKEN, "hush\nhush")], "no text that fits"),
            (&[(TOKEN, "")], "no text that fits"),
        ] {
            let words = refused("true", data);
            assert!(words.contains(says), "{words}");
            assert!(!words.contains("hush"), "{words}");
        }
    }
}
