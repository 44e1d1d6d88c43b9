//! Proxies as the operator sees them: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::text::clock;

/// One proxy, as the operator's `/proxies` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proxy {
    pub(super) namespace: String,
    pub(super) pod: String,
    connected: bool,
    /// At the latest then it is waited for no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    tls: bool,
    pub(super) rollouts: BTreeMap<String, Stands>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stands {
    acknowledged: bool,
    endpoints: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Proxy {
    /// `rollout`: that one alone.
    pub(super) fn lags(&self, rollout: Option<&str>) -> bool {
        let mut of = self.of(rollout);
        of.any(|(_, stands)| !stands.acknowledged)
    }

    fn of(&self, rollout: Option<&str>) -> impl Iterator<Item = (&String, &Stands)> {
        let all = self.rollouts.iter();
        all.filter(move |(name, _)| rollout.is_none_or(|rollout| *name == rollout))
    }
}

/// A line for each proxy and rollout, and one above.
pub(super) fn rows(proxies: &[Proxy], rollout: Option<&str>, now: Timestamp) -> Vec<Vec<String>> {
    let head = ["PROXY", "CONNECTED", "TLS", "ROLLOUT", "STANDS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for proxy in proxies {
        let row = |rollout: &str, stands: String| {
            vec![
                format!("{}/{}", proxy.namespace, proxy.pod),
                yes(proxy.connected),
                yes(proxy.tls),
                rollout.to_owned(),
                stands,
            ]
        };
        let mut of = proxy.of(rollout).peekable();
        if of.peek().is_none() {
            rows.push(row("-", "calls no rollout".to_owned()));
        }
        rows.extend(of.map(|(name, stands)| row(name, words(proxy, stands, now))));
    }
    rows
}

fn words(proxy: &Proxy, stands: &Stands, now: Timestamp) -> String {
    match (proxy.until, &stands.refused) {
        (Some(until), _) => format!("lost; waited for until {}", clock(until, now)),
        (None, Some(why)) => format!("refused it, and goes on with the last good one: {why}"),
        (None, None) if !stands.acknowledged => "lags: has not acknowledged yet".to_owned(),
        (None, None) if !stands.endpoints => {
            "acknowledged; newer endpoints are on their way".to_owned()
        }
        (None, None) => "acknowledged".to_owned(),
    }
}

fn yes(it: bool) -> String {
    if it { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::text::table;

    fn proxies() -> Vec<Proxy> {
        let proxy = |pod: &str, more: Value| {
            let mut proxy = json!({"namespace": "shop", "pod": pod, "connected": true, "tls": true, "rollouts": {}});
            proxy
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            proxy
        };
        let all = json!([
            proxy("calls-none", json!({})),
            proxy(
                "client",
                json!({"rollouts": {
                    "shop/payment": {"acknowledged": true, "endpoints": true},
                    "shop/stock": {"acknowledged": true, "endpoints": false},
                }})
            ),
            proxy(
                "lags",
                json!({"tls": false, "rollouts": {"shop/payment": {"acknowledged": false, "endpoints": true}}})
            ),
            proxy(
                "lost",
                json!({"connected": false, "until": "2026-03-04T10:02:00Z",
                "rollouts": {"shop/payment": {"acknowledged": false, "endpoints": false}}})
            ),
            proxy(
                "refused",
                json!({"rollouts": {"shop/payment":
                {"acknowledged": false, "endpoints": true, "refused": "no such cluster"}}})
            ),
        ]);
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn each_proxy_stands_somewhere_with_each_rollout_that_it_calls() {
        let now = "2026-03-04T10:00:00Z".parse().unwrap();
        assert_eq!(
            table(&rows(&proxies(), None, now)),
            [
                "PROXY            CONNECTED  TLS  ROLLOUT       STANDS",
                "shop/calls-none  yes        yes  -             calls no rollout",
                "shop/client      yes        yes  shop/payment  acknowledged",
                "shop/client      yes        yes  shop/stock    acknowledged; newer endpoints are on their way",
                "shop/lags        yes        no   shop/payment  lags: has not acknowledged yet",
                "shop/lost        no         yes  shop/payment  lost; waited for until 10:02:00Z",
                "shop/refused     yes        yes  shop/payment  refused it, and goes on with the last good one: no such cluster",
            ]
        );
    }

    #[test]
    fn who_has_not_acknowledged_lags() {
        let lagging: Vec<String> = proxies()
            .into_iter()
            .filter(|it| it.lags(Some("shop/payment")))
            .map(|it| it.pod)
            .collect();
        assert_eq!(lagging, ["lags", "lost", "refused"]);
        assert!(!proxies().iter().any(|it| it.lags(Some("shop/stock"))));
    }
}
