//! Secrets that a CanaryRollout names: what the operator proves itself with to somebody outside, and whom it believes there.
//!
//! It is used for the address that it says it is for, or for what is below that ([`secret`]), and for nothing else.

use aviary_crds::CREDENTIALS_ANNOTATION;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt};
use reqwest::Url;

use crate::allowed::Allowed;
use crate::secret::{self, NotGot};

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
    #[error("Secret {0} cannot be read now: {1}")]
    Away(String, &'static str),
    #[error(
        "Secret {name} is not for this address: kubectl annotate secret {name} {CREDENTIALS_ANNOTATION}={origin}"
    )]
    NotFor { name: String, origin: String },
    #[error("Secret {0} has none of the keys {HMAC_KEY}, {TOKEN} and {CA}")]
    Empty(String),
    #[error("the {HMAC_KEY} of Secret {0} is shorter than {SHORTEST_KEY} bytes")]
    WeakKey(String),
    #[error("the {TOKEN} of Secret {0} is no text that fits into a header")]
    BadToken(String),
}

/// Reads the Secret as it is now, for a call to this address.
pub async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
    url: &Url,
) -> Result<Credentials, CredentialsError> {
    match secret::get(client, namespace, name).await {
        Ok(secret) => Credentials::of(&secret, url),
        Err(NotGot::Missing) => Err(CredentialsError::Missing(name.to_owned())),
        Err(NotGot::Forbidden) => Err(CredentialsError::Forbidden(name.to_owned())),
        Err(NotGot::Away(why)) => Err(CredentialsError::Away(name.to_owned(), why)),
    }
}

impl Credentials {
    pub fn of(secret: &Secret, url: &Url) -> Result<Credentials, CredentialsError> {
        let name = || secret.name_any();
        let is_for = secret::is_for(secret).and_then(|said| said.parse::<Allowed>().ok());
        if !is_for.is_some_and(|is_for| is_for.covers(url)) {
            return Err(CredentialsError::NotFor {
                name: name(),
                origin: url.origin().ascii_serialization(),
            });
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

    const ADDRESS: &str = "https://hooks.example";

    fn secret(is_for: &str, data: &[(&str, &str)]) -> Secret {
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "hook", "annotations": {CREDENTIALS_ANNOTATION: is_for}},
        }))
        .unwrap();
        let data = data.iter().map(|(key, value)| {
            let value = ByteString(value.as_bytes().to_vec());
            ((*key).to_owned(), value)
        });
        secret.data = Some(data.collect());
        secret
    }

    fn read(is_for: &str, data: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        let url = "https://hooks.example/aviary/load-test".parse().unwrap();
        Credentials::of(&secret(is_for, data), &url)
    }

    fn refused(is_for: &str, data: &[(&str, &str)]) -> String {
        read(is_for, data).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_secret_is_used_for_the_address_that_it_names_and_for_no_other() {
        let key = [(HMAC_KEY, "0123456789abcdef")];
        for is_for in [
            ADDRESS,
            "https://hooks.example/",
            "https://hooks.example/aviary",
        ] {
            assert!(read(is_for, &key).is_ok(), "{is_for}");
        }
        for is_for in [
            "",
            "true",
            "hooks.example",
            "http://hooks.example",
            "https://hooks.example/other",
            "https://hooks.example:8443",
            "https://hooks.example.org",
        ] {
            let says = "Secret hook is not for this address: kubectl annotate secret hook aviary.dev/credentials-for=https://hooks.example";
            assert_eq!(refused(is_for, &key), says, "{is_for}");
        }
    }

    #[test]
    fn a_token_is_read_without_the_end_of_its_line() {
        let read = self::tests::read(ADDRESS, &[(TOKEN, "abc.def\n")]).ok();
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
            let words = refused(ADDRESS, data);
            assert!(words.contains(says), "{words}");
            assert!(!words.contains("hush"), "{words}");
        }
    }
}
