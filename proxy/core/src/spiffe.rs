//! The names of workloads, as SPIFFE writes them: `spiffe://<trust domain>/ns/<namespace>/sa/<ServiceAccount>`.
//!
//! The rules are those of the SPIFFE ID standard (sections 2.1 to 2.4). A name is compared as text, so there is one way to write it, and whatever differs
//! from that way is refused where it comes in.

use std::fmt;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";
/// The most bytes of a name.
pub const LONGEST_ID: usize = 2048;
/// The most bytes of a trust domain.
pub const LONGEST_TRUST_DOMAIN: usize = 255;

/// Whose workloads trust one another: one installation, unless it shares a root with others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no trust domain: write 1 to {LONGEST_TRUST_DOMAIN} lower-case letters, digits, dots, dashes and underscores, such as cluster.local"
)]
pub struct InvalidTrustDomain(String);

/// The name of a workload. Right by construction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no SPIFFE ID: expected spiffe://<trust domain>/<path>, such as spiffe://cluster.local/ns/shop/sa/web"
)]
pub struct InvalidId(String);

impl TrustDomain {
    pub fn parse(text: &str) -> Result<TrustDomain, InvalidTrustDomain> {
        if !is_trust_domain(text) {
            return Err(InvalidTrustDomain(excerpt(text)));
        }
        Ok(TrustDomain(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a ServiceAccount's pods.
    pub fn workload(&self, namespace: &str, service_account: &str) -> Result<SpiffeId, InvalidId> {
        let text = format!("{SCHEME}{}/ns/{namespace}/sa/{service_account}", self.0);
        // Neither may bring parts of a path with it.
        if ![namespace, service_account].into_iter().all(is_segment) {
            return Err(InvalidId(excerpt(&text)));
        }
        SpiffeId::parse(&text)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TrustDomain {
    type Err = InvalidTrustDomain;

    fn from_str(text: &str) -> Result<TrustDomain, InvalidTrustDomain> {
        TrustDomain::parse(text)
    }
}

impl SpiffeId {
    /// Any workload's name, whatever its path means.
    pub fn parse(text: &str) -> Result<SpiffeId, InvalidId> {
        let parts = text
            .strip_prefix(SCHEME)
            .filter(|_| text.len() <= LONGEST_ID)
            .and_then(|rest| rest.split_once('/'));
        match parts {
            Some((domain, path)) if is_trust_domain(domain) && path.split('/').all(is_segment) => {
                Ok(SpiffeId(text.into()))
            }
            Some(_) | None => Err(InvalidId(excerpt(text))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which trust domain it is of.
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.strip_prefix(SCHEME).unwrap_or_default();
        rest.split_once('/').map_or(rest, |(domain, _)| domain)
    }

    /// The same text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_trust_domain(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    !text.is_empty() && text.len() <= LONGEST_TRUST_DOMAIN && text.bytes().all(allowed)
}

fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

/// Enough of it to be found by whoever wrote it.
fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_named_by_its_namespace_and_its_service_account() {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let id = domain.workload("shop", "web").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(SpiffeId::parse(id.as_str()), Ok(id));
        // Names of Kubernetes may have dots.
        domain.workload("shop", "system.web-1").unwrap();
    }

    #[test]
    fn a_trust_domain_that_could_be_written_in_another_way_is_refused_with_the_right_form() {
        for text in ["cluster.local", "a", "a_b-c.9", &"a".repeat(255)] {
            assert_eq!(TrustDomain::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "Cluster.local",
            "a b",
            "a:80",
            "user@a",
            "spiffe://a",
            "a/b",
            "\u{e4}",
            &"a".repeat(256),
        ] {
            let error = TrustDomain::parse(text).unwrap_err().to_string();
            assert!(error.contains("such as cluster.local"), "{error}");
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn a_name_that_could_be_written_in_another_way_is_refused() {
        for text in ["spiffe://a/b", "spiffe://example.org/9eebccd2-12bf/A_b.c"] {
            assert_eq!(SpiffeId::parse(text).unwrap().as_str(), text);
        }
        let long = format!("spiffe://a/{}", "b".repeat(LONGEST_ID));
        for text in [
            "",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/b%63",
            "spiffe://a:80/b",
            "spiffe:///b",
            "spiffe://A/b",
            "SPIFFE://a/b",
            "https://a/b",
            "a/b",
            "spiffe://a/b\0",
            &long,
        ] {
            let error = SpiffeId::parse(text).unwrap_err().to_string();
            assert!(error.contains("is no SPIFFE ID"), "{error}");
            assert!(error.len() < 400, "{error}");
        }
        let domain = TrustDomain::parse("a").unwrap();
        for (namespace, account) in [("shop", "a/b"), ("", "web"), ("shop", ".."), ("shop", "")] {
            domain.workload(namespace, account).unwrap_err();
        }
    }
}
