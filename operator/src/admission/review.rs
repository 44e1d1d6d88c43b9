//! AdmissionReview v1, with objects as raw JSON: revisions are hashes of what was sent, and a patch must find it so.

use axum::Json;
use axum::response::{IntoResponse, Response};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the API server sends.
#[derive(Debug, Deserialize)]
pub struct Review {
    pub request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub uid: String,
    #[serde(default)]
    pub namespace: String,
    /// Empty for an object whose name is generated.
    #[serde(default)]
    pub name: String,
    pub operation: String,
    #[serde(default)]
    pub user_info: User,
    #[serde(default)]
    pub object: Value,
    #[serde(default)]
    pub old_object: Value,
    #[serde(default)]
    pub options: Value,
}

#[derive(Debug, Default, Deserialize)]
pub struct User {
    #[serde(default)]
    pub username: String,
}

impl Request {
    /// The program that makes the change, as far as it says so.
    pub fn field_manager(&self) -> Option<&str> {
        self.options["fieldManager"].as_str()
    }
}

/// What the operator answers. Warnings reach whoever made the change; kubectl prints them.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Allow { warnings: Vec<String> },
    Patch { patch: Patch, warnings: Vec<String> },
    Deny { message: String },
}

impl Answer {
    /// What [`Answer::kind`] can be.
    pub const KINDS: [&'static str; 3] = ["allow", "patch", "deny"];

    pub fn kind(&self) -> &'static str {
        match self {
            Answer::Allow { .. } => "allow",
            Answer::Patch { .. } => "patch",
            Answer::Deny { .. } => "deny",
        }
    }

    /// The answer to the request `uid`.
    pub fn to_json(&self, uid: &str) -> Value {
        let mut response = json!({"uid": uid});
        match self {
            Answer::Allow { warnings } => {
                response["allowed"] = json!(true);
                response["warnings"] = json!(warnings);
            }
            Answer::Patch { patch, warnings } => {
                let patch = serde_json::to_vec(patch).expect("a patch of JSON values is JSON");
                response["allowed"] = json!(true);
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(ByteString(patch));
                response["warnings"] = json!(warnings);
            }
            Answer::Deny { message } => {
                response["allowed"] = json!(false);
                response["status"] =
                    json!({"code": 403, "reason": "Forbidden", "message": message});
            }
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    pub(super) fn into_response(self, request: &Request) -> Response {
        Json(self.to_json(&request.uid)).into_response()
    }
}

/// `add` at a path of unescaped tokens.
pub(super) fn add<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: PointerBuf::from_tokens(path),
        value,
    })
}

/// `remove` at a path of unescaped tokens.
pub(super) fn remove<const N: usize>(path: [&str; N]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation {
        path: PointerBuf::from_tokens(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_base64_of_a_json_patch() {
        let answer = Answer::Patch {
            patch: Patch(vec![add(["spec", "paused"], json!(true))]),
            warnings: vec!["note".to_owned()],
        };
        assert_eq!(
            answer.to_json("7"),
            json!({
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "response": {
                    "uid": "7",
                    "allowed": true,
                    "patchType": "JSONPatch",
                    // [{"op":"add","path":"/spec/paused","value":true}]
                    "patch": "W3sib3AiOiJhZGQiLCJwYXRoIjoiL3NwZWMvcGF1c2VkIiwidmFsdWUiOnRydWV9XQ==",
                    "warnings": ["note"],
                }
            })
        );
    }

    #[test]
    fn a_denial_says_why() {
        let answer = Answer::Deny {
            message: "no".to_owned(),
        }
        .to_json("7");
        assert_eq!(answer["response"]["allowed"], json!(false));
        assert_eq!(answer["response"]["status"]["message"], json!("no"));
    }

    #[test]
    fn paths_escape_the_slash_of_a_label() {
        let operation = remove(["metadata", "labels", "aviary.dev/rollout"]);
        let text = serde_json::to_value(operation).unwrap();
        assert_eq!(text["path"], json!("/metadata/labels/aviary.dev~1rollout"));
    }
}
