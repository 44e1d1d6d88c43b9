//! What a notification looks like.

use serde_json::{Value, json};

use super::Notification;
use super::config::Kind;

pub(super) fn body(kind: Kind, notification: &Notification) -> Value {
    let Notification {
        on,
        reason,
        rollout,
        text,
        at,
    } = notification;
    match kind {
        Kind::Slack => json!({
            "text": format!("*{}* {}: {}", escaped(&rollout.to_string()), on.name(), escaped(text)),
        }),
        Kind::Generic => json!({
            "event": on.name(), "reason": reason, "namespace": rollout.namespace, "name": rollout.name, "text": text,
            "time": at,
        }),
    }
}

/// The three characters with a meaning in Slack's text: nothing that was measured calls a channel or shows as another link.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    fn rolled_back(text: &str) -> Notification {
        Notification::of(&Key::new("shop", "web"), "RolledBack", text, 17).unwrap()
    }

    #[test]
    fn slack_gets_one_line_that_calls_nobody() {
        let body = body(Kind::Slack, &rolled_back("<!channel> & more"));
        assert_eq!(
            body,
            json!({"text": "*shop/web* RolledBack: &lt;!channel&gt; &amp; more"})
        );
    }

    #[test]
    fn others_get_fields() {
        let body = body(Kind::Generic, &rolled_back("because"));
        assert_eq!(
            body,
            json!({"event": "RolledBack", "reason": "RolledBack", "namespace": "shop", "name": "web", "text": "because", "time": 17})
        );
    }
}
