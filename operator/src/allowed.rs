//! Which addresses the operator calls for those who write CanaryRollouts: nothing but what its flags name, so that nobody
//! makes it fetch for them. An entry is an origin, and may be a path on it: `https://hooks.example/aviary`.
//!
//! Only the parsed form is compared, as it is also called: user names, dots in paths and default ports mislead nobody.

use std::str::FromStr;

use reqwest::Url;

/// What a flag allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(Url);

/// Why an entry of the allow-list makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' allows nothing: write https://host, https://host:port or https://host/path (http:// only for what may be called without TLS)"
)]
pub struct InvalidEntry(String);

impl FromStr for Allowed {
    type Err = InvalidEntry;
    fn from_str(text: &str) -> Result<Allowed, InvalidEntry> {
        match parse(text) {
            Some(url) if url.query().is_none() && url.fragment().is_none() => Ok(Allowed(url)),
            Some(_) | None => Err(InvalidEntry(text.to_owned())),
        }
    }
}

/// Why an address is not called. None of these shows more than its origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    #[error("it is no URL: write https://host/path")]
    NoUrl,
    #[error(
        "there is a user name or a password in the URL, which everybody can read who reads the spec: put a token into the Secret of secretRef"
    )]
    Login,
    #[error(
        "the operator does not call {0}: have it allowed (operator flag --hook-allow={0}), or use an address that is"
    )]
    Address(String),
}

/// The allow-list. Empty, it allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Allowed>);

impl From<Vec<Allowed>> for AllowList {
    fn from(entries: Vec<Allowed>) -> AllowList {
        AllowList(entries)
    }
}

impl AllowList {
    /// The address as it may be called.
    pub fn check(&self, text: &str) -> Result<Url, NotAllowed> {
        let url = Url::parse(text).map_err(|_| NotAllowed::NoUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotAllowed::Login);
        }
        if self.0.iter().any(|entry| entry.covers(&url)) {
            return Ok(url);
        }
        Err(NotAllowed::Address(url.origin().ascii_serialization()))
    }
}

impl Allowed {
    /// Whether this is the address, or above it.
    pub fn covers(&self, url: &Url) -> bool {
        self.0.origin() == url.origin() && below(self.0.path(), url.path())
    }
}

/// Whether a path is the allowed one or below it, for whoever decodes slashes, too.
fn below(allowed: &str, path: &str) -> bool {
    let allowed = allowed.trim_end_matches('/');
    if allowed.is_empty() {
        return true;
    }
    let escaped = path.to_ascii_lowercase();
    let Some(rest) = path.strip_prefix(allowed) else {
        return false;
    };
    (rest.is_empty() || rest.starts_with('/'))
        && !escaped.contains("%2f")
        && !escaped.contains("%5c")
}

fn parse(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        let entries = entries.iter().map(|entry| entry.parse().unwrap());
        AllowList(entries.collect())
    }

    #[test]
    fn nothing_is_allowed_that_nobody_has_named() {
        let refused = AllowList::default().check("https://hooks.example/x");
        let words = refused.unwrap_err().to_string();
        assert!(
            words.contains("--hook-allow=https://hooks.example"),
            "{words}"
        );
    }

    #[test]
    fn an_entry_allows_its_origin_and_what_is_below_its_path_and_nothing_else() {
        let list = list(&["https://hooks.example", "http://gate.shop.svc:8080/aviary/"]);
        for url in [
            "https://hooks.example",
            "https://hooks.example:443/any?x=1",
            "HTTPS://HOOKS.EXAMPLE/any%2fthing",
            "http://gate.shop.svc:8080/aviary",
            "http://gate.shop.svc:8080/aviary/web",
            "http://gate.shop.svc:8080/other/../aviary/web",
        ] {
            assert!(list.check(url).is_ok(), "{url}");
        }
        for url in [
            "http://hooks.example/any",
            "https://hooks.example:444/any",
            "https://hooks.example.evil/any",
            "https://evil/hooks.example",
            "https://evil#@hooks.example",
            "https://evil\\@hooks.example",
            "http://gate.shop.svc:8080/",
            "http://gate.shop.svc:8080/aviaryx",
            "http://gate.shop.svc:8080/aviary/../secret",
            "http://gate.shop.svc:8080/aviary/%2e%2e/secret",
            "http://gate.shop.svc:8080/aviary/..%2fsecret",
            "http://gate.shop.svc:8080/aviary/..%5Csecret",
            "http://gate.shop.svc/aviary",
            "file:///etc/passwd",
        ] {
            assert!(
                matches!(list.check(url), Err(NotAllowed::Address(_))),
                "{url}: {:?}",
                list.check(url)
            );
        }
        for (url, why) in [
            ("https://me@hooks.example/", NotAllowed::Login),
            ("https://:pw@hooks.example/", NotAllowed::Login),
            ("https://hooks.example@evil/", NotAllowed::Login),
            ("hooks", NotAllowed::NoUrl),
        ] {
            assert_eq!(list.check(url), Err(why), "{url}");
        }
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_refused_with_the_right_form() {
        for text in [
            "hooks:80",
            "ftp://a",
            "https://",
            "/x",
            "https://a?x=1",
            "https://a#x",
            "https://me@a",
        ] {
            let error = text.parse::<Allowed>().unwrap_err().to_string();
            assert!(error.contains("write https://host"), "{text}: {error}");
        }
    }
}
