//! What the operator's ServiceAccount may do on a real API server, and what it may not: roles and policies of `config/`,
//! tried with its name.
//!
//! Everything is a dry run, in which the API server decides as it always does, and stores nothing.

// `allow-unwrap-in-tests` does not reach the helpers of an integration test.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use aviary_e2e::control_plane::ControlPlane;
use serde_json::{Value, json};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/default");
/// What somebody has to grant for credentials.
const GRANTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../config/samples/prometheus-auth.yaml"
);
const OPERATOR: &str = "system:serviceaccount:aviary-system:aviary-operator";
/// Policies are looked at a moment after they are stored.
const IN_FORCE: Duration = Duration::from_secs(60);

struct Cluster(ControlPlane);

struct Said {
    ok: bool,
    text: String,
}

impl Cluster {
    fn kubectl(&self, args: &[&str], input: &str) -> Said {
        let mut child = self
            .0
            .kubectl(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // That it does not read its input is told by its exit code.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Said {
            ok: output.status.success(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    fn admin(&self, args: &[&str], input: &str) -> String {
        let said = self.kubectl(args, input);
        assert!(said.ok, "kubectl {}: {}", args.join(" "), said.text);
        said.text
    }

    fn create(&self, object: &Value) {
        self.admin(&["create", "-f", "-"], &object.to_string());
    }

    fn operator(&self, request: &Request) -> Said {
        let args: Vec<&str> = request.args.iter().map(String::as_str).collect();
        let mode = ["--dry-run=server", "--as", OPERATOR];
        self.kubectl(&[&args[..], &mode].concat(), &request.input)
    }

    fn uid(&self, object: &str) -> String {
        self.admin(
            &[
                "get",
                object,
                "-n",
                "shop",
                "-o",
                "jsonpath={.metadata.uid}",
            ],
            "",
        )
    }
}

/// The ReplicaSet that the Deployment has made.
fn serving(cluster: &Cluster) -> String {
    let began = Instant::now();
    loop {
        let serving = "jsonpath={.items[?(@.spec.replicas==1)].metadata.name}";
        let args = [
            "get",
            "replicasets",
            "-n",
            "shop",
            "-l",
            "!aviary.dev/revision",
            "-o",
            serving,
        ];
        let name = cluster.admin(&args, "");
        if !name.is_empty() {
            return format!("replicaset/{name}");
        }
        assert!(
            began.elapsed() < IN_FORCE,
            "the Deployment has no ReplicaSet"
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// A write of the operator's.
struct Request {
    args: Vec<String>,
    input: String,
}

fn request(args: &[&str], input: &Value) -> Request {
    Request {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        input: input.to_string(),
    }
}

fn create(object: &Value) -> Request {
    request(&["create", "-f", "-"], object)
}

fn patch(object: &str, patch: &Value) -> Request {
    let patch = patch.to_string();
    request(
        &["patch", object, "-n", "shop", "--type=merge", "-p", &patch],
        &Value::Null,
    )
}

/// Without a look at it before, as the operator does it.
fn apply_status(object: &Value, status: Value) -> Request {
    let object = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": object["metadata"]["name"], "namespace": "shop"},
        "status": status,
    });
    apply_to_status(&object)
}

fn apply_to_status(object: &Value) -> Request {
    let apply = ["apply", "--server-side", "--force-conflicts"];
    request(
        &[&apply[..], &["--subresource=status", "-f", "-"]].concat(),
        object,
    )
}

fn released() -> Value {
    json!({"conditions": [{"type": "aviary.dev/Released", "status": "True", "reason": "Released", "message": ""}]})
}

/// Of a Deployment that waits behind the gate.
fn apply_with_status(change: &Value) -> Request {
    let held = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "held", "namespace": "shop"},
        "status": released(),
    });
    apply_to_status(&changed(&held, change))
}

fn delete(object: &str) -> Request {
    request(&["delete", object, "-n", "shop"], &Value::Null)
}

fn changed(object: &Value, change: &Value) -> Value {
    let mut object = object.clone();
    merge(&mut object, change);
    object
}

/// JSON merge patch (RFC 7386).
fn merge(target: &mut Value, change: &Value) {
    let Some(members) = change.as_object() else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in members {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn template(revision: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "payment", "aviary.dev/revision": revision}},
        "spec": {"containers": [{"name": "app", "image": format!("payment:{revision}")}]},
    })
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "labels": {"team": "shop"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "payment"}},
            "template": {
                "metadata": {"labels": {"app": "payment"}},
                "spec": {"containers": [{"name": "app", "image": "payment:1"}]},
            },
        },
    })
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid})
}

fn copy(name: &str, owners: &[Value]) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"aviary.dev/canary-of": "payment", "aviary.dev/revision": "abc"},
            "ownerReferences": owners,
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "payment", "aviary.dev/revision": "abc"}},
            "template": template("abc"),
        },
    })
}

fn replica_set(name: &str, replicas: u32, owner: Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "payment", "aviary.dev/revision": name},
            "annotations": {"aviary.dev/restored": "payment"},
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "payment", "aviary.dev/revision": name}},
            "template": template(name),
        },
    })
}

fn controlled_by(mut owner: Value) -> Value {
    owner["controller"] = json!(true);
    owner
}

fn controller_revision(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "revision": 1,
        "data": template("1"),
    })
}

fn rollout() -> Value {
    json!({
        "apiVersion": "aviary.dev/v1alpha1",
        "kind": "CanaryRollout",
        "metadata": {"name": "payment", "namespace": "shop"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "payment"}, "service": {"name": "payment"}},
    })
}

fn event() -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "payment.1", "namespace": "shop"},
        "type": "Normal",
        "reason": "Promoted",
        "action": "Promote",
        "note": "promoted",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "aviary-operator",
        "reportingInstance": "aviary-operator",
        "regarding": {"kind": "CanaryRollout", "name": "payment", "namespace": "shop"},
    })
}

/// Everything that the requests are about, made by the administrator, whom no policy hinders.
fn prepare(cluster: &Cluster) -> (Value, Value) {
    // Types and objects of these types in one go: the second can come too early.
    let began = Instant::now();
    while !cluster.kubectl(&["apply", "-k", CONFIG], "").ok && began.elapsed() < IN_FORCE {
        thread::sleep(Duration::from_millis(500));
    }
    cluster.admin(&["apply", "-k", CONFIG], "");
    cluster.admin(&["create", "namespace", "shop"], "");
    cluster.create(&deployment("payment", 1));
    let payment = owner("Deployment", "payment", &cluster.uid("deployment/payment"));
    let controlling = controlled_by(payment.clone());
    cluster.create(&copy("payment-canary-abc", std::slice::from_ref(&payment)));
    let held = json!({
        "metadata": {"labels": {"aviary.dev/rollout": "payment"}},
        "spec": {"paused": true},
    });
    cluster.create(&changed(&deployment("held", 0), &held));
    cluster.create(&replica_set("empty", 0, controlling.clone()));
    // No Deployment's selector matches it.
    let other = json!({"app": "other"});
    let alone = json!({
        "metadata": {"labels": other, "ownerReferences": null},
        "spec": {"selector": {"matchLabels": other}, "template": {"metadata": {"labels": other}}},
    });
    let alone = changed(&replica_set("alone", 0, controlling.clone()), &alone);
    cluster.create(&alone);
    cluster.create(&controller_revision(
        "mine",
        json!({"aviary.dev/rollout": "payment"}),
    ));
    cluster.create(&controller_revision(
        "database-1",
        json!({"app": "database"}),
    ));
    cluster.create(&rollout());
    (payment, controlling)
}

fn allowed(
    cluster: &Cluster,
    payment: &Value,
    controlling: &Value,
) -> Vec<(&'static str, Request)> {
    vec![
        (
            "adopt",
            patch(
                "deployment/payment",
                &json!({"metadata": {"labels": {"aviary.dev/rollout": "payment"}}}),
            ),
        ),
        (
            "pause",
            patch("deployment/payment", &json!({"spec": {"paused": true}})),
        ),
        (
            "pause and adopt",
            patch(
                "deployment/payment",
                &json!({"metadata": {"labels": {"aviary.dev/rollout": "payment"}}, "spec": {"paused": true}}),
            ),
        ),
        (
            "resume",
            patch("deployment/held", &json!({"spec": {"paused": null}})),
        ),
        (
            "say how it stands",
            apply_status(&deployment("held", 0), released()),
        ),
        (
            "create a copy",
            create(&copy("payment-canary-def", std::slice::from_ref(payment))),
        ),
        (
            "scale a copy",
            patch(
                "deployment/payment-canary-abc",
                &json!({"spec": {"replicas": 4}}),
            ),
        ),
        ("delete a copy", delete("deployment/payment-canary-abc")),
        (
            "rebuild a ReplicaSet",
            create(&replica_set("rebuilt", 2, controlling.clone())),
        ),
        (
            "scale a ReplicaSet",
            patch(&serving(cluster), &json!({"spec": {"replicas": 2}})),
        ),
        ("delete an empty ReplicaSet", delete("replicaset/empty")),
        (
            "keep a template",
            create(&controller_revision(
                "kept",
                json!({"aviary.dev/rollout": "payment"}),
            )),
        ),
        ("forget a template", delete("controllerrevision/mine")),
        (
            "hold on to a rollout",
            patch(
                "canaryrollout/payment",
                &json!({"metadata": {"finalizers": ["aviary.dev/traffic"]}}),
            ),
        ),
        (
            "say what is true",
            apply_status(&rollout(), json!({"phase": "Stable"})),
        ),
        ("tell what happened", create(&event())),
    ]
}

fn refused(
    cluster: &Cluster,
    payment: &Value,
    controlling: &Value,
) -> Vec<(&'static str, Request, &'static str)> {
    let copy_of = |owners: &[Value]| copy("payment-canary-def", owners);
    let lacks = |label: &str| {
        changed(
            &copy_of(std::slice::from_ref(payment)),
            &json!({"metadata": {"labels": {label: null}}}),
        )
    };
    let stateful = owner(
        "StatefulSet",
        "payment",
        "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    );
    let rebuilt = replica_set("rebuilt", 2, controlling.clone());
    let (copies, no_copy) = ("creates canary copies only", "deletes canary copies only");
    let (only_paused, only_label) = (
        "changes spec.paused of it and nothing else in its spec",
        "changes the label aviary.dev/rollout and nothing else in its metadata",
    );
    let (lost, empty) = (
        "creates only what a paused Deployment has lost",
        "deletes only empty ReplicaSets of Deployments",
    );
    let only_replicas = "scales it and changes nothing else";
    let only_released = "writes the condition aviary.dev/Released and nothing else in its status";
    let releases = "keeps templates of releases only";
    let user = |change: Value| patch("deployment/payment", &change);
    vec![
        (
            "a Deployment of its own",
            create(&deployment("anything", 1)),
            copies,
        ),
        (
            "a copy without its rollout",
            create(&lacks("aviary.dev/canary-of")),
            copies,
        ),
        (
            "a copy without its revision",
            create(&lacks("aviary.dev/revision")),
            copies,
        ),
        ("a copy of nothing", create(&copy_of(&[])), copies),
        (
            "a copy of two",
            create(&copy_of(&[
                payment.clone(),
                owner(
                    "Deployment",
                    "other",
                    "6f9619ff-8b86-d011-b42d-00c04fc964ff",
                ),
            ])),
            copies,
        ),
        (
            "a copy of a StatefulSet",
            create(&copy_of(&[stateful])),
            copies,
        ),
        (
            "another image",
            user(json!({"spec": {"template": {"spec": {"serviceAccountName": "admin"}}}})),
            only_paused,
        ),
        (
            "the user's replicas",
            user(json!({"spec": {"replicas": 9}})),
            only_paused,
        ),
        (
            "another strategy",
            user(json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})),
            only_paused,
        ),
        (
            "a field that was not there",
            user(json!({"spec": {"minReadySeconds": 5}})),
            only_paused,
        ),
        (
            "another label",
            user(json!({"metadata": {"labels": {"team": "other"}}})),
            only_label,
        ),
        (
            "a label less",
            user(json!({"metadata": {"labels": {"team": null}}})),
            only_label,
        ),
        (
            "a user's Deployment made a copy",
            user(
                json!({"metadata": {"labels": {"aviary.dev/canary-of": "payment"}}, "spec": {"replicas": 9}}),
            ),
            only_paused,
        ),
        (
            "an annotation",
            user(json!({"metadata": {"annotations": {"a": "b"}}})),
            only_label,
        ),
        (
            "a finalizer",
            user(json!({"metadata": {"finalizers": ["a.b/c"]}})),
            only_label,
        ),
        (
            "another owner",
            user(json!({"metadata": {"ownerReferences": [payment]}})),
            only_label,
        ),
        (
            "another template of a copy",
            patch(
                "deployment/payment-canary-abc",
                &json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}),
            ),
            "changes spec.paused and spec.replicas of it and nothing else",
        ),
        (
            "another condition",
            apply_status(
                &deployment("held", 0),
                json!({"conditions": [{"type": "Strange", "status": "True", "reason": "Why", "message": ""}]}),
            ),
            only_released,
        ),
        (
            "what its controller has seen",
            apply_status(&deployment("held", 0), json!({"observedGeneration": 99})),
            only_released,
        ),
        (
            "an annotation with the status",
            apply_with_status(&json!({"metadata": {"annotations": {"a": "b"}}})),
            "changes nothing in its metadata with its status",
        ),
        (
            "the release of what nobody releases",
            apply_status(&deployment("payment", 1), released()),
            "of adopted Deployments only",
        ),
        (
            "the user's Deployment",
            delete("deployment/payment"),
            no_copy,
        ),
        (
            "a ReplicaSet of nobody",
            create(&changed(
                &rebuilt,
                &json!({"metadata": {"ownerReferences": null}}),
            )),
            lost,
        ),
        (
            "a ReplicaSet that nobody controls",
            create(&replica_set("rebuilt", 2, payment.clone())),
            lost,
        ),
        (
            "a ReplicaSet that was not lost",
            create(&changed(
                &rebuilt,
                &json!({"metadata": {"annotations": null}}),
            )),
            lost,
        ),
        (
            "another template of a ReplicaSet",
            patch(
                "replicaset/empty",
                &json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}),
            ),
            only_replicas,
        ),
        (
            "a label of a ReplicaSet",
            patch(
                "replicaset/empty",
                &json!({"metadata": {"labels": {"a": "b"}}}),
            ),
            only_replicas,
        ),
        ("a ReplicaSet that serves", delete(&serving(cluster)), empty),
        (
            "an empty ReplicaSet of nobody",
            delete("replicaset/alone"),
            empty,
        ),
        (
            "a ControllerRevision of its own",
            create(&controller_revision("own", json!({"app": "database"}))),
            releases,
        ),
        (
            "a StatefulSet's history",
            delete("controllerrevision/database-1"),
            releases,
        ),
    ]
}

/// The same requests, where the cluster itself runs.
fn in_the_systems_namespaces(payment: &Value, controlling: &Value) -> Vec<Request> {
    let mut requests = Vec::new();
    for namespace in ["kube-system", "kube-public", "kube-node-lease"] {
        let there = json!({"metadata": {"namespace": namespace}});
        for object in [
            copy("payment-canary-def", std::slice::from_ref(payment)),
            replica_set("rebuilt", 2, controlling.clone()),
            controller_revision("kept", json!({"aviary.dev/rollout": "payment"})),
        ] {
            requests.push(create(&changed(&object, &there)));
        }
    }
    requests
}

/// `resource`: with a subresource after a `+`, and a name after a `/`.
fn can_i(cluster: &Cluster, verb: &str, resource: &str, namespace: &str) -> bool {
    may(cluster, &["--as", OPERATOR], verb, resource, namespace)
}

/// Whether `who`, as kubectl is told it, may do that.
fn may(cluster: &Cluster, who: &[&str], verb: &str, resource: &str, namespace: &str) -> bool {
    let (resource, subresource) = resource.split_once('+').unwrap_or((resource, ""));
    let subresource = format!("--subresource={subresource}");
    let what = [
        "auth",
        "can-i",
        verb,
        resource,
        &subresource,
        "-n",
        namespace,
    ];
    let said = cluster.kubectl(&[&what, who].concat(), "");
    // Beside warnings, it is one word.
    let is = |word: &str| said.text.lines().any(|line| line == word);
    assert!(is("yes") != is("no"), "{verb} {resource}: {}", said.text);
    is("yes")
}

#[test]
fn the_operator_may_do_what_it_is_for_and_nothing_else() {
    let cluster = Cluster(ControlPlane::start(|line| eprintln!("{line}")).unwrap());
    let (payment, controlling) = prepare(&cluster);
    let refused = refused(&cluster, &payment, &controlling);

    // Policies come into force one after the other: the last refusal of each kind says that it has.
    let began = Instant::now();
    for (what, request, _) in &refused {
        while cluster.operator(request).ok {
            assert!(began.elapsed() < IN_FORCE, "allowed: {what}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    let mut wrong = Vec::new();
    for (what, request, part) in &refused {
        let said = cluster.operator(request);
        if said.ok || !said.text.contains(part) {
            wrong.push(format!("{what}: not refused with '{part}': {}", said.text));
        }
    }
    for (what, request) in allowed(&cluster, &payment, &controlling) {
        let said = cluster.operator(&request);
        if !said.ok {
            wrong.push(format!("{what}: refused: {}", said.text));
        }
    }
    for request in in_the_systems_namespaces(&payment, &controlling) {
        let said = cluster.operator(&request);
        if said.ok || !said.text.contains("where the cluster itself runs") {
            wrong.push(format!("{}: {}", request.input, said.text));
        }
    }
    for (verb, resource, namespace) in [
        ("get", "secrets", "shop"),
        ("list", "secrets", "aviary-system"),
        ("watch", "secrets/aviary-ca", "aviary-system"),
        ("update", "secrets/aviary-workload-ca", "aviary-system"),
        ("update", "namespaces", "shop"),
        ("update", "canaryrollouts.aviary.dev", "shop"),
        ("delete", "canaryrollouts.aviary.dev", "shop"),
        ("update", "deployments.apps", "shop"),
        ("deletecollection", "deployments.apps", "shop"),
        ("update", "deployments.apps+finalizers", "shop"),
        ("create", "pods", "shop"),
        ("delete", "pods", "shop"),
        ("create", "pods+exec", "shop"),
        ("patch", "services", "shop"),
        ("get", "configmaps", "shop"),
        ("create", "configmaps", "aviary-system"),
        ("patch", "namespaces", "shop"),
        ("patch", "callerpolicies.aviary.dev", "shop"),
        (
            "create",
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            "shop",
        ),
        ("patch", "clusterroles.rbac.authorization.k8s.io", "shop"),
    ] {
        if can_i(&cluster, verb, resource, namespace) {
            wrong.push(format!("the operator may {verb} {resource} in {namespace}"));
        }
    }
    for (verb, resource, namespace) in [
        ("patch", "canaryrollouts.aviary.dev+status", "shop"),
        ("watch", "persistentvolumeclaims", "shop"),
        ("watch", "namespaces", "shop"),
        ("watch", "controllerrevisions.apps", "shop"),
        ("get", "secrets/aviary-ca", "aviary-system"),
        ("get", "secrets/aviary-workload-ca", "aviary-system"),
        ("watch", "secrets/aviary-workload-ca", "aviary-system"),
        ("watch", "configmaps/aviary-freeze", "aviary-system"),
        ("create", "configmaps/aviary-mtls", "aviary-system"),
        ("patch", "configmaps/aviary-mtls", "aviary-system"),
        ("watch", "callerpolicies.aviary.dev", "shop"),
    ] {
        if !can_i(&cluster, verb, resource, namespace) {
            wrong.push(format!(
                "the operator may not {verb} {resource} in {namespace}"
            ));
        }
    }

    // A Secret that somebody grants is got by its name, and no other is.
    cluster.admin(&["apply", "-f", GRANTED], "");
    for (verb, resource, may) in [
        ("get", "secrets/prometheus-login", true),
        ("get", "secrets/another", false),
        ("get", "secrets", false),
        ("list", "secrets", false),
        ("watch", "secrets/prometheus-login", false),
        ("update", "secrets/prometheus-login", false),
    ] {
        let began = Instant::now();
        // Roles come into force a moment after they are stored.
        while can_i(&cluster, verb, resource, "shop") != may && began.elapsed() < IN_FORCE {
            thread::sleep(Duration::from_millis(200));
        }
        if can_i(&cluster, verb, resource, "shop") != may {
            wrong.push(format!("the operator may {verb} {resource}: not {may}"));
        }
    }

    // Whoever only releases may ask for everything, and edits nothing else. Who may call whom is an administrator's, and of
    // whoever is given it by name.
    let who = [
        ("releasers", "aviary-release"),
        ("doorkeepers", "aviary-authorize"),
        ("viewers", "view"),
        ("editors", "edit"),
        ("admins", "admin"),
    ];
    for (group, role) in who {
        let bind = ["create", "rolebinding", group, "-n", "shop"];
        let role = format!("--clusterrole={role}");
        let group = format!("--group={group}");
        cluster.admin(&[&bind[..], &[&role, &group]].concat(), "");
    }
    let (rollouts, policies) = ("canaryrollouts.aviary.dev", "callerpolicies.aviary.dev");
    for (group, verb, resource, expected) in [
        ("releasers", "patch", rollouts, true),
        ("releasers", "watch", rollouts, true),
        ("releasers", "list", "pods", true),
        (
            "releasers",
            "patch",
            "canaryrollouts.aviary.dev+status",
            false,
        ),
        ("releasers", "delete", rollouts, false),
        ("releasers", "patch", "deployments.apps", false),
        ("releasers", "get", "secrets", false),
        ("releasers", "patch", policies, false),
        ("doorkeepers", "patch", policies, true),
        ("doorkeepers", "patch", rollouts, false),
        ("viewers", "list", policies, true),
        ("viewers", "patch", policies, false),
        ("editors", "patch", rollouts, true),
        ("editors", "list", policies, true),
        ("editors", "delete", policies, false),
        ("admins", "delete", policies, true),
    ] {
        let began = Instant::now();
        let who = ["--as", "rita", "--as-group", group];
        let is = || may(&cluster, &who, verb, resource, "shop");
        while is() != expected && began.elapsed() < IN_FORCE {
            thread::sleep(Duration::from_millis(200));
        }
        if is() != expected {
            wrong.push(format!("{group} may {verb} {resource}: not {expected}"));
        }
    }

    // Nobody else is hindered, and the API server finds no fault with the policies.
    cluster.create(&deployment("anything", 0));
    cluster.admin(
        &[
            "delete",
            "deployment/payment",
            "-n",
            "shop",
            "--dry-run=server",
        ],
        "",
    );
    let faults = "jsonpath={.items[*].status.typeChecking.expressionWarnings}";
    let faults = cluster.admin(&["get", "validatingadmissionpolicies", "-o", faults], "");
    assert_eq!(faults.trim(), "");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
