//! What is shown to a Prometheus, and whom is trusted: read from the values of Secrets. Pure.
//!
//! Values are headers and certificates from here on: nothing prints them, and no error repeats one. An error names the
//! Secret, or the folder, and the key in it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What a part of the credentials is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Basic,
    Bearer,
    Headers,
    Tls,
}

/// The values of one Secret, or of one folder, by their keys.
pub(super) struct Values {
    /// Where they are from, as people are told.
    pub(super) place: String,
    pub(super) values: BTreeMap<String, Vec<u8>>,
}

/// What all parts come to.
#[derive(Default)]
pub(super) struct Credentials {
    /// Of every request. Each value is marked as one that is not to be printed.
    pub(super) headers: HeaderMap,
    pub(super) tls: Option<Tls>,
}

pub(super) struct Tls {
    /// None: those that the operator trusts anyway.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Where they are from.
    pub(super) place: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidCredentials {
    #[error("{place} has no key {key}, or nothing in it: {mend}")]
    Missing {
        place: String,
        key: &'static str,
        mend: &'static str,
    },
    #[error(
        "the value of {key} in {place} cannot be sent in a header: it has a line break (often at its end) or another control character; write it without"
    )]
    NoHeader { place: String, key: String },
    #[error(
        "the username in {place} has a colon, which ends a username in a header: choose another"
    )]
    Colon { place: String },
    #[error("{key} in {place} is no name of a header that can be chosen: name another key")]
    HeaderName { place: String, key: String },
    #[error(
        "{place} has the header {key}, which basic, bearer or another key says already: leave one out"
    )]
    HeaderTwice { place: String, key: String },
    #[error(
        "{key} in {place} is no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----"
    )]
    NoCertificate { place: String, key: &'static str },
    #[error(
        "tls.key in {place} is no private key in PEM: it begins with -----BEGIN PRIVATE KEY-----"
    )]
    NoPrivateKey { place: String },
}

impl Credentials {
    /// Takes in one part more.
    pub(super) fn add(&mut self, part: Part, from: &Values) -> Result<(), InvalidCredentials> {
        match part {
            Part::Basic => self.basic(from),
            Part::Bearer => self.bearer(from),
            Part::Headers => from
                .values
                .keys()
                .try_for_each(|key| self.chosen(from, key)),
            Part::Tls => {
                self.tls = Some(tls(from)?);
                Ok(())
            }
        }
    }

    fn basic(&mut self, from: &Values) -> Result<(), InvalidCredentials> {
        const MEND: &str = "basic needs username and password";
        let (username, password) = (from.of("username", MEND)?, from.of("password", MEND)?);
        for (key, value) in [("username", username), ("password", password)] {
            if value.iter().any(u8::is_ascii_control) {
                return Err(from.no_header(key));
            }
        }
        if username.contains(&b':') {
            let place = from.place.clone();
            return Err(InvalidCredentials::Colon { place });
        }
        let both = [username, b":", password].concat();
        let value = format!("Basic {}", STANDARD.encode(both));
        self.header(from, AUTHORIZATION, value.as_bytes(), "username")
    }

    fn bearer(&mut self, from: &Values) -> Result<(), InvalidCredentials> {
        let token = from.of("token", "bearer needs it")?;
        let value = [b"Bearer ", token].concat();
        self.header(from, AUTHORIZATION, &value, "token")
    }

    /// A header that somebody has chosen: none that belongs to the connection, or to how the question is asked.
    fn chosen(&mut self, from: &Values, key: &str) -> Result<(), InvalidCredentials> {
        const OURS: [HeaderName; 14] = [
            header::HOST,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
            header::UPGRADE,
            header::TE,
            header::TRAILER,
            header::EXPECT,
            header::ACCEPT,
            header::ACCEPT_ENCODING,
            header::RANGE,
            header::PROXY_AUTHORIZATION,
        ];
        let name = HeaderName::from_bytes(key.as_bytes()).ok();
        let Some(name) = name.filter(|name| !OURS.contains(name)) else {
            return Err(InvalidCredentials::HeaderName {
                place: from.place.clone(),
                key: key.to_owned(),
            });
        };
        let value = from.values.get(key).map_or(&[][..], Vec::as_slice);
        self.header(from, name, value, key)
    }

    fn header(
        &mut self,
        from: &Values,
        name: HeaderName,
        value: &[u8],
        key: &str,
    ) -> Result<(), InvalidCredentials> {
        let mut value = HeaderValue::from_bytes(value).map_err(|_| from.no_header(key))?;
        value.set_sensitive(true);
        let place = from.place.clone();
        let key = name.to_string();
        match self.headers.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(InvalidCredentials::HeaderTwice { place, key }),
        }
    }
}

fn tls(from: &Values) -> Result<Tls, InvalidCredentials> {
    const PAIR: &str = "a client's certificate is tls.crt and tls.key";
    let has = |key: &str| from.values.contains_key(key);
    let client = if has("tls.crt") || has("tls.key") {
        let chain = certificates(from, "tls.crt", PAIR)?;
        let key = PrivateKeyDer::from_pem_slice(from.of("tls.key", PAIR)?);
        let place = from.place.clone();
        Some((
            chain,
            key.map_err(|_| InvalidCredentials::NoPrivateKey { place })?,
        ))
    } else {
        None
    };
    let authorities = if has("ca.crt") || client.is_none() {
        const ONE: &str = "tls needs ca.crt, or tls.crt and tls.key";
        certificates(from, "ca.crt", ONE)?
    } else {
        Vec::new()
    };
    Ok(Tls {
        authorities,
        client,
        place: from.place.clone(),
    })
}

fn certificates(
    from: &Values,
    key: &'static str,
    mend: &'static str,
) -> Result<Vec<CertificateDer<'static>>, InvalidCredentials> {
    let no_certificate = || InvalidCredentials::NoCertificate {
        place: from.place.clone(),
        key,
    };
    let pem = from.of(key, mend)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| no_certificate())?;
    if all.is_empty() {
        return Err(no_certificate());
    }
    Ok(all)
}

impl Values {
    fn of(&self, key: &'static str, mend: &'static str) -> Result<&[u8], InvalidCredentials> {
        match self.values.get(key) {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) | None => Err(InvalidCredentials::Missing {
                place: self.place.clone(),
                key,
                mend,
            }),
        }
    }

    fn no_header(&self, key: &str) -> InvalidCredentials {
        InvalidCredentials::NoHeader {
            place: self.place.clone(),
            key: key.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[(&str, &str)]) -> Values {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), value.as_bytes().to_vec());
        Values {
            place: "Secret prometheus".to_owned(),
            values: of.iter().map(owned).collect(),
        }
    }

    fn of(parts: &[(Part, Values)]) -> Result<Credentials, String> {
        let mut credentials = Credentials::default();
        for (part, values) in parts {
            let added = credentials.add(*part, values);
            added.map_err(|error| error.to_string())?;
        }
        Ok(credentials)
    }

    fn header(credentials: &Credentials, name: &str) -> String {
        let value = credentials.headers.get(name).unwrap();
        assert!(value.is_sensitive(), "{name} would be printed");
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_password_a_token_and_headers_are_headers_that_nothing_prints() {
        // The example of RFC 7617.
        let basic = values(&[("username", "Aladdin"), ("password", "open sesame")]);
        let tenant = values(&[("X-Scope-OrgID", "team-a")]);
        let both = of(&[(Part::Basic, basic), (Part::Headers, tenant)]).unwrap();
        let expected = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(header(&both, "authorization"), expected);
        assert_eq!(header(&both, "x-scope-orgid"), "team-a");
        let printed = format!("{:?}", both.headers);
        assert!(
            !printed.contains("QWxh") && !printed.contains("team-a"),
            "{printed}"
        );
        let bearer = of(&[(Part::Bearer, values(&[("token", "abc.def")]))]).unwrap();
        assert_eq!(header(&bearer, "authorization"), "Bearer abc.def");
    }

    #[test]
    fn what_is_wrong_is_named_by_secret_and_key_and_no_value_is_repeated() {
        const SECRET: &str = "s3cret";
        let broken = format!("{SECRET}\n");
        for (part, of_secret, words) in [
            (
                Part::Basic,
                vec![("password", SECRET)],
                "Secret prometheus has no key username, or nothing in it: basic needs username and password",
            ),
            (
                Part::Basic,
                vec![("username", "me"), ("password", "")],
                "Secret prometheus has no key password, or nothing in it",
            ),
            (
                Part::Basic,
                vec![("username", "me"), ("password", &broken)],
                "the value of password in Secret prometheus cannot be sent in a header: it has a line break",
            ),
            (
                Part::Basic,
                vec![("username", "a:b"), ("password", SECRET)],
                "has a colon",
            ),
            (
                Part::Bearer,
                vec![("password", SECRET)],
                "has no key token, or nothing in it: bearer needs it",
            ),
            (
                Part::Bearer,
                vec![("token", &broken)],
                "the value of token in Secret prometheus cannot be sent in a header",
            ),
            (
                Part::Headers,
                vec![("X-Scope-OrgID", &broken)],
                "the value of x-scope-orgid in Secret prometheus cannot be",
            ),
            (
                Part::Headers,
                vec![("Content-Length", SECRET)],
                "Content-Length in Secret prometheus is no name of a header that can be chosen",
            ),
            (
                Part::Headers,
                vec![("a b", SECRET)],
                "a b in Secret prometheus is no name of a header that can be chosen",
            ),
            (
                Part::Headers,
                vec![("X-A", SECRET), ("x-a", SECRET)],
                "Secret prometheus has the header x-a, which",
            ),
            (
                Part::Tls,
                vec![("token", SECRET)],
                "has no key ca.crt, or nothing in it: tls needs ca.crt, or tls.crt and tls.key",
            ),
            (
                Part::Tls,
                vec![("ca.crt", SECRET)],
                "ca.crt in Secret prometheus is no certificate in PEM",
            ),
            (
                Part::Tls,
                vec![("tls.crt", SECRET), ("tls.key", SECRET)],
                "tls.crt in Secret prometheus is no certificate in PEM",
            ),
            (
                Part::Tls,
                vec![("tls.key", SECRET)],
                "has no key tls.crt, or nothing in it: a client's certificate is tls.crt and tls.key",
            ),
        ] {
            let why = of(&[(part, values(&of_secret))]).err().unwrap();
            assert!(
                why.to_lowercase().contains(&words.to_lowercase()),
                "{why}, and not {words}"
            );
            assert!(!why.contains(SECRET), "{why}");
            assert!(
                why.len() <= super::super::LONGEST_REASON,
                "{} bytes: {why}",
                why.len()
            );
        }
    }

    #[test]
    fn nobody_says_who_it_is_twice() {
        let bearer = (Part::Bearer, values(&[("token", "abc")]));
        let own = (Part::Headers, values(&[("Authorization", "Bearer def")]));
        let why = of(&[bearer, own]).err().unwrap();
        assert!(
            why.contains(
                "has the header authorization, which basic, bearer or another key says already"
            ),
            "{why}"
        );
    }
}
