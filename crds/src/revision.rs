//! The revision of a pod template: a short hash of it, the same wherever and whenever it is computed.
//!
//! It is taken over raw JSON, never over typed structs, which would drop fields that they don't know and call
//! two different templates the same. Keys are sorted, since neither JSON nor the API server promises an order;
//! members that are `null` count as absent, as they do for the API server (some versions write
//! `creationTimestamp: null` into templates, some don't). The label `pod-template-hash`, which the Deployment
//! controller adds on ReplicaSets and pods, does not count.
//!
//! Not seen: what a template only refers to. A ConfigMap changed in place makes no new revision.

use serde_json::Value;
use sha2::{Digest, Sha256};

const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
const HEX_DIGITS: usize = 10;

/// The revision of `template`, the `spec.template` of a Deployment or ReplicaSet: ten hexadecimal digits.
pub fn revision(template: &Value) -> String {
    hash(template, &[TEMPLATE_LABEL_PATH])
}

/// The same without the template's annotations: tools that restart pods (`kubectl rollout restart`, Reloader)
/// change only those.
pub fn content(template: &Value) -> String {
    hash(
        template,
        &[TEMPLATE_LABEL_PATH, &["metadata", "annotations"]],
    )
}

const TEMPLATE_LABEL_PATH: &[&str] = &["metadata", "labels", TEMPLATE_HASH_LABEL];

fn hash(template: &Value, without: &[&[&str]]) -> String {
    let mut canonical = String::new();
    write(template, without, &mut canonical);
    let digest = Sha256::digest(canonical.as_bytes());
    let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(HEX_DIGITS);
    hex
}

/// `without`: paths, relative to `value`, of members to leave out.
fn write(value: &Value, without: &[&[&str]], out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, &[], out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members
                .iter()
                .filter(|(key, member)| {
                    !member.is_null() && !without.contains(&&[key.as_str()][..])
                })
                .collect();
            members.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                let below: Vec<&[&str]> = without
                    .iter()
                    .filter(|path| path.len() > 1 && path[0] == key.as_str())
                    .map(|path| &path[1..])
                    .collect();
                write(member, &below, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        json!({
            "metadata": {"labels": {"app": "payment"}, "annotations": {"note": "a"}},
            "spec": {"containers": [{"name": "app", "image": "shop/payment:1", "args": ["-v", "-x"]}]}
        })
    }

    #[test]
    fn a_revision_is_the_start_of_the_sha256_of_sorted_compact_json() {
        let template = json!({"b": [1, {"d": "\u{e9}\"", "c": true}], "a": {}});
        // printf '{"a":{},"b":[1,{"c":true,"d":"é\\""}]}' | sha256sum
        let canonical = "{\"a\":{},\"b\":[1,{\"c\":true,\"d\":\"\u{e9}\\\"\"}]}";
        let mut out = String::new();
        write(&template, &[], &mut out);
        assert_eq!(out, canonical);
        assert_eq!(revision(&json!({})), "44136fa355");
    }

    #[test]
    fn the_order_of_keys_does_not_matter_and_the_order_of_lists_does() {
        let a: Value = serde_json::from_str(r#"{"spec":{"x":1,"y":[1,2]},"metadata":{}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"metadata":{},"spec":{"y":[1,2],"x":1}}"#).unwrap();
        let c: Value = serde_json::from_str(r#"{"metadata":{},"spec":{"y":[2,1],"x":1}}"#).unwrap();
        assert_eq!(revision(&a), revision(&b));
        assert_ne!(revision(&a), revision(&c));
    }

    #[test]
    fn the_template_of_a_replica_set_has_the_revision_of_its_deployment() {
        let mut of_replica_set = template();
        of_replica_set["metadata"]["labels"]["pod-template-hash"] = json!("6d4cf56db6");
        of_replica_set["metadata"]["creationTimestamp"] = Value::Null;
        assert_eq!(revision(&of_replica_set), revision(&template()));
        assert_eq!(content(&of_replica_set), content(&template()));
    }

    #[test]
    fn only_the_label_of_the_template_itself_is_left_out() {
        let mut other = template();
        other["spec"]["metadata"] = json!({"labels": {"pod-template-hash": "x"}});
        assert_ne!(revision(&other), revision(&template()));
        let mut nested = template();
        nested["spec"]["containers"][0]["pod-template-hash"] = json!("x");
        assert_ne!(revision(&nested), revision(&template()));
    }

    #[test]
    fn every_other_change_makes_a_new_revision() {
        for (pointer, value) in [
            ("/metadata/labels/app", json!("other")),
            ("/metadata/annotations/note", json!("b")),
            ("/spec/containers/0/image", json!("shop/payment:2")),
            ("/spec/containers/0/args/1", json!("-y")),
        ] {
            let mut changed = template();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert_ne!(revision(&changed), revision(&template()), "{pointer}");
        }
        let mut unknown = template();
        unknown["spec"]["fieldOfALaterKubernetes"] = json!({"x": 1});
        assert_ne!(revision(&unknown), revision(&template()));
    }

    #[test]
    fn annotations_make_a_new_revision_of_the_same_content() {
        let mut restarted = template();
        restarted["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = json!("now");
        assert_ne!(revision(&restarted), revision(&template()));
        assert_eq!(content(&restarted), content(&template()));
        let mut labelled = template();
        labelled["metadata"]["labels"]["x"] = json!("y");
        assert_ne!(content(&labelled), content(&template()));
    }

    #[test]
    fn a_revision_fits_a_label() {
        let revision = revision(&template());
        assert_eq!(revision.len(), HEX_DIGITS);
        assert!(
            revision
                .bytes()
                .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        );
    }
}
