//! The manifests in `config/` say the same as the code, and give no more rights than they have to.

// `allow-unwrap-in-tests` does not reach the helpers of an integration test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aviary_crds::CANARY_OF_LABEL;
use aviary_crds::condition::RELEASED;
use aviary_crds::{
    BREAK_GLASS_ANNOTATION, CREDENTIALS_ANNOTATION, CanaryRollout, INJECT_LABEL,
    REQUEST_ANNOTATION, REQUESTED_BY_ANNOTATION, RESTORED_ANNOTATION, REVISION_LABEL,
    ROLLOUT_LABEL,
};
use aviary_operator::admission::rollout::{Facts, PrometheusPolicy, Severity, Target, validate};
use aviary_operator::names;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::DynamicObject;
use serde_json::{Value, json};

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

/// Every document of every YAML file under `config/`, with the file's path inside it.
fn documents() -> Vec<(String, Value)> {
    let mut files = Vec::new();
    let mut folders = vec![config()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 15, "{files:?}");
    let mut documents = Vec::new();
    for file in files {
        let name = file.strip_prefix(config()).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let parsed: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(text.starts_with("# "), "{name}: does not say what it is");
        documents.extend(parsed.into_iter().map(|document| (name.clone(), document)));
    }
    documents
}

/// Of an installation for the whole cluster.
fn of_kind(kind: &str) -> Vec<Value> {
    documents()
        .into_iter()
        .filter(|(file, document)| {
            let other = file.starts_with("samples/") || file.starts_with("namespaced/");
            document["kind"] == kind && !other
        })
        .map(|(_, document)| document)
        .collect()
}

/// Of one for a namespace.
fn namespaced(kind: &str, name: &str) -> Value {
    let mut documents = documents().into_iter();
    let found = documents.find(|(file, document)| {
        let is_it = document["kind"] == kind && document["metadata"]["name"] == name;
        file.starts_with("namespaced/") && is_it
    });
    found.unwrap_or_else(|| panic!("{kind} {name}")).1
}

fn the(kind: &str, name: &str) -> Value {
    let all = of_kind(kind);
    let found: Vec<&Value> = all
        .iter()
        .filter(|o| o["metadata"]["name"] == name)
        .collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0].clone()
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|text| text.as_str().unwrap())
        .collect()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

#[test]
fn no_rule_has_a_wildcard() {
    let roles = [of_kind("ClusterRole"), of_kind("Role")].concat();
    assert!(roles.len() >= 4);
    for role in roles {
        for rule in list(&role["rules"]) {
            for part in ["apiGroups", "resources", "verbs"] {
                assert!(!strings(&rule[part]).is_empty(), "{rule}");
                assert!(
                    strings(&rule[part]).iter().all(|text| !text.contains('*')),
                    "{rule}"
                );
            }
        }
    }
}

#[test]
fn the_operator_reads_no_secret_but_its_own_and_writes_no_webhook_but_its_own() {
    let role = the("ClusterRole", names::OPERATOR);
    for rule in list(&role["rules"]) {
        let resources = strings(&rule["resources"]);
        assert!(!resources.contains(&"secrets"), "{rule}");
        assert!(
            resources
                .iter()
                .all(|r| !r.contains("exec") && !r.contains("proxy")),
            "{rule}"
        );
        if strings(&rule["apiGroups"]) == ["admissionregistration.k8s.io"] {
            assert_eq!(strings(&rule["resourceNames"]), [names::OPERATOR]);
        }
    }
    let role = the("Role", names::OPERATOR);
    let mut own = Vec::new();
    for rule in list(&role["rules"]) {
        let is_secret = strings(&rule["resources"]).contains(&"secrets");
        if is_secret && strings(&rule["verbs"]) != ["create"] {
            let names = strings(&rule["resourceNames"]).join(" ");
            own.push(format!("{names}: {}", strings(&rule["verbs"]).join(" ")));
        }
    }
    assert_eq!(
        own,
        [
            format!("{}: get update", names::CA_SECRET),
            // A user's own is never written to.
            format!("{}: get list watch", names::WORKLOAD_CA_SECRET),
        ]
    );
    let leases = list(&role["rules"]).iter().filter(|rule| {
        strings(&rule["resources"]) == ["leases"] && strings(&rule["verbs"]) != ["create"]
    });
    let leases: Vec<_> = leases.map(|rule| strings(&rule["resourceNames"])).collect();
    assert_eq!(leases, [[names::LEASE]]);
}

/// Whoever adds a right has to say so here, and whoever no longer uses one takes it away.
#[test]
fn the_operator_has_these_rights_and_no_others() {
    let read = ["get", "list", "watch"];
    let with = |verbs: &[&'static str]| [&read, verbs].concat();
    let expected = [
        ("aviary.dev", "canaryrollouts", with(&["patch"])),
        (
            "aviary.dev",
            "canaryrollouts/status",
            vec!["update", "patch"],
        ),
        ("aviary.dev", "callerpolicies", vec!["list", "watch"]),
        ("apps", "deployments", with(&["create", "patch", "delete"])),
        ("apps", "deployments/status", vec!["patch"]),
        ("apps", "replicasets", with(&["create", "patch", "delete"])),
        ("apps", "controllerrevisions", with(&["create", "delete"])),
        ("", "pods", with(&[])),
        ("", "services", with(&[])),
        ("", "namespaces", with(&[])),
        ("", "persistentvolumeclaims", with(&[])),
        ("discovery.k8s.io", "endpointslices", with(&[])),
        ("events.k8s.io", "events", vec!["create", "patch"]),
        ("authentication.k8s.io", "tokenreviews", vec!["create"]),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations",
            with(&["patch"]),
        ),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
            with(&["patch"]),
        ),
    ];
    let rights = rights(&the("ClusterRole", names::OPERATOR));
    let expected: BTreeSet<String> = expected
        .iter()
        .flat_map(|(group, resource, verbs)| {
            verbs
                .iter()
                .map(move |verb| format!("{verb} {resource} of '{group}'"))
        })
        .collect();
    let more: Vec<_> = rights.difference(&expected).collect();
    let less: Vec<_> = expected.difference(&rights).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "too many: {more:?}; too few: {less:?}"
    );
}

/// What a role allows, once each.
fn rights(role: &Value) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for rule in list(&role["rules"]) {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    let right = format!("{verb} {resource} of '{group}'");
                    assert!(rights.insert(right.clone()), "twice: {right}");
                }
            }
        }
    }
    rights
}

/// It is tried on a real API server in `e2e/tests/control_plane/one_namespace.rs`.
#[test]
fn for_one_namespace_the_operator_has_the_same_rights_there_and_few_elsewhere() {
    let there = rights(&namespaced("Role", "aviary-operator-releases"));
    let cluster = namespaced("ClusterRole", "aviary-operator-cluster");
    let elsewhere = rights(&cluster);
    let everywhere = rights(&the("ClusterRole", names::OPERATOR));
    assert_eq!(
        there.union(&elsewhere).cloned().collect::<BTreeSet<_>>(),
        everywhere
    );
    assert!(there.is_disjoint(&elsewhere));
    for rule in list(&cluster["rules"]) {
        let named = !strings(&rule["resourceNames"]).is_empty();
        assert!(
            named || strings(&rule["resources"]) == ["tokenreviews"],
            "{rule}"
        );
    }
}

/// What they refuse is tried on a real API server, in `e2e/tests/rbac.rs`.
#[test]
fn policies_hold_the_operator_and_nobody_else_to_what_it_writes() {
    let policies: Vec<Value> = of_kind("ValidatingAdmissionPolicy")
        .into_iter()
        .filter(|policy| {
            let users = ["aviary-gate", "aviary-requests"].map(Value::from);
            !users.contains(&policy["metadata"]["name"])
        })
        .collect();
    let mut written = BTreeSet::new();
    for policy in &policies {
        let name = policy["metadata"]["name"].as_str().unwrap();
        let spec = &policy["spec"];
        assert_eq!(spec["failurePolicy"], "Fail", "{name}");
        let conditions = conditions(spec);
        assert_eq!(conditions.len(), 1, "{name}");
        // Split as kustomize does it, for whoever installs under another name.
        let user: Vec<&str> = conditions[0].1.split('\'').collect();
        assert_eq!(
            user,
            [
                "request.userInfo.username == ",
                "system:serviceaccount:",
                " + ",
                names::NAMESPACE,
                " + ",
                ":",
                " + ",
                names::OPERATOR,
                ""
            ],
            "{name}"
        );
        let binding = the("ValidatingAdmissionPolicyBinding", name);
        assert_eq!(
            binding["spec"],
            json!({"policyName": name, "validationActions": ["Deny"]})
        );
        for rule in list(&spec["matchConstraints"]["resourceRules"]) {
            assert_eq!(
                strings(&rule["operations"]),
                ["CREATE", "UPDATE", "DELETE"],
                "{name}"
            );
            // The one that forbids whole namespaces forbids nothing elsewhere.
            if spec["matchConstraints"].get("namespaceSelector").is_none() {
                written.extend(strings(&rule["resources"]));
            }
        }
    }
    // All that the operator can write of a kind that is not its own.
    assert_eq!(
        written,
        BTreeSet::from([
            "controllerrevisions",
            "deployments",
            "deployments/status",
            "replicasets",
        ])
    );
    let text = |name: &str| the("ValidatingAdmissionPolicy", name).to_string();
    for (name, key) in [
        ("aviary-operator-deployments", CANARY_OF_LABEL),
        ("aviary-operator-deployments", REVISION_LABEL),
        ("aviary-operator-deployments", ROLLOUT_LABEL),
        ("aviary-operator-status", RELEASED),
        ("aviary-operator-status", ROLLOUT_LABEL),
        ("aviary-operator-replicasets", RESTORED_ANNOTATION),
        ("aviary-operator-controllerrevisions", ROLLOUT_LABEL),
    ] {
        assert!(text(name).contains(&format!("'{key}'")), "{name}: {key}");
    }
    let namespaces = the("ValidatingAdmissionPolicy", "aviary-operator-namespaces");
    assert_eq!(
        namespaces["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"],
        json!([{
            "key": "kubernetes.io/metadata.name",
            "operator": "In",
            "values": ["kube-system", "kube-public", "kube-node-lease"],
        }])
    );
}

#[test]
fn every_object_of_ours_is_in_our_namespace() {
    for kind in [
        "Deployment",
        "Service",
        "ServiceAccount",
        "Role",
        "RoleBinding",
    ] {
        let objects = of_kind(kind);
        assert!(!objects.is_empty(), "{kind}");
        for object in objects {
            assert_eq!(
                object["metadata"]["namespace"],
                names::NAMESPACE,
                "{object}"
            );
        }
    }
    assert_eq!(the("Namespace", names::NAMESPACE)["kind"], "Namespace");
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        let binding = the(kind, names::OPERATOR);
        assert_eq!(binding["roleRef"]["name"], names::OPERATOR);
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": names::OPERATOR, "namespace": names::NAMESPACE}])
        );
    }
}

#[test]
fn ports_are_the_ones_that_the_operator_listens_on() {
    let deployment = the("Deployment", names::OPERATOR);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["ports"],
        json!([
            {"name": "webhooks", "containerPort": names::WEBHOOK_PORT},
            {"name": "xds", "containerPort": names::XDS_PORT},
            {"name": "admin", "containerPort": names::ADMIN_PORT},
        ])
    );
    let scraped = &deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"];
    assert_eq!(*scraped, names::ADMIN_PORT.to_string());

    let webhooks = the("Service", names::OPERATOR);
    assert_eq!(
        webhooks["spec"]["ports"],
        json!([{"name": "webhooks", "port": 443, "targetPort": "webhooks"}])
    );
    let xds = the("Service", names::XDS_SERVICE);
    assert_eq!(
        xds["spec"]["ports"],
        json!([{"name": "xds", "port": names::XDS_PORT, "targetPort": "xds"}])
    );
    let all = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!(webhooks["spec"]["selector"], *all);
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"], *all);
    // The one that decides says where it is.
    assert_eq!(xds["spec"]["selector"], Value::Null);
}

#[test]
fn the_network_policy_lets_in_who_calls_the_operators_ports_and_locks_out_no_api_server() {
    let policy = the("NetworkPolicy", names::OPERATOR);
    let read: NetworkPolicy = serde_json::from_value(policy.clone()).unwrap();
    // A field that is misspelt would be a rule that is missing.
    assert_eq!(serde_json::to_value(&read).unwrap(), policy);
    let spec = &policy["spec"];
    let deployment = the("Deployment", names::OPERATOR);
    assert_eq!(spec["podSelector"], deployment["spec"]["selector"]);
    assert_eq!(spec["policyTypes"], json!(["Ingress"]));
    let ports: Vec<&Value> = list(&spec["ingress"])
        .iter()
        .map(|rule| &rule["ports"])
        .collect();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let expected: Vec<Value> = list(&container["ports"])
        .iter()
        .map(|port| json!([{"port": port["name"]}]))
        .collect();
    assert_eq!(ports, expected.iter().collect::<Vec<_>>());
    // The docs patch the first rule.
    assert_eq!(spec["ingress"][0]["ports"][0]["port"], "webhooks");
    assert_eq!(spec["ingress"][0].get("from"), None);
    let of_default = documents()
        .into_iter()
        .find(|(file, _)| file == "default/kustomization.yaml");
    let (_, default) = of_default.unwrap();
    assert!(!strings(&default["resources"]).contains(&"../network-policy"));
}

#[test]
fn the_operator_is_two_unprivileged_processes_of_which_one_may_go() {
    let deployment = the("Deployment", names::OPERATOR);
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["strategy"]["type"], "RollingUpdate");
    let budget = the("PodDisruptionBudget", names::OPERATOR);
    assert_eq!(budget["spec"]["minAvailable"], 1);
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], names::OPERATOR);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(
        pod["containers"][0]["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        })
    );
}

/// Whatever sets images of manifests sets this one.
#[test]
fn sidecars_get_the_image_of_an_init_container_that_does_nothing() {
    let deployment = the("Deployment", names::OPERATOR);
    let pod = &deployment["spec"]["template"]["spec"];
    let first = &pod["initContainers"][0];
    assert_eq!(first["name"], names::PROXY_CONTAINER);
    assert_eq!(first["image"], names::PROXY_IMAGE);
    assert_eq!(first["args"], json!(["--version"]));
    assert_eq!(
        first["securityContext"],
        pod["containers"][0]["securityContext"]
    );
    let set = list(&pod["containers"][0]["env"]).iter();
    let mut set = set.map(|variable| variable["name"].as_str().unwrap());
    assert!(set.all(|name| name != "AVIARY_PROXY_IMAGE"));
}

fn webhooks() -> Vec<Value> {
    [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ]
    .into_iter()
    .flat_map(|kind| list(&the(kind, names::OPERATOR)["webhooks"]).clone())
    .collect()
}

fn webhook(name: &str) -> Value {
    webhooks()
        .into_iter()
        .find(|webhook| webhook["name"] == name)
        .unwrap()
}

#[test]
fn webhooks_call_the_operator_and_have_no_side_effects() {
    let mut paths = BTreeSet::new();
    for webhook in webhooks() {
        let service = &webhook["clientConfig"]["service"];
        assert_eq!(service["name"], names::OPERATOR);
        assert_eq!(service["namespace"], names::NAMESPACE);
        assert_eq!(service["port"], 443);
        assert_eq!(webhook["sideEffects"], "None");
        assert!(webhook["timeoutSeconds"].as_i64().unwrap() <= 5);
        assert!(
            webhook["clientConfig"].get("caBundle").is_none(),
            "the operator writes it"
        );
        for rule in list(&webhook["rules"]) {
            let operations = strings(&rule["operations"]);
            assert!(
                !operations.contains(&"DELETE") && !operations.contains(&"*"),
                "{rule}"
            );
        }
        paths.insert(service["path"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        paths.iter().map(String::as_str).collect::<Vec<_>>(),
        ["/gate", "/inject", "/request", "/services", "/validate"]
    );
}

#[test]
fn a_webhook_that_can_block_never_sees_the_operators_namespace_or_the_systems() {
    for webhook in webhooks()
        .iter()
        .filter(|webhook| webhook["failurePolicy"] == "Fail")
    {
        let excluded = json!({
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": [names::NAMESPACE, "kube-system"],
        });
        let namespaces = list(&webhook["namespaceSelector"]["matchExpressions"]);
        assert!(namespaces.contains(&excluded), "{webhook}");
        // And of the rest, only what asked for it.
        assert!(webhook["objectSelector"].is_object(), "{webhook}");
    }
    for name in ["validate.aviary.dev", "services.aviary.dev"] {
        assert_eq!(webhook(name)["failurePolicy"], "Ignore");
    }
}

#[test]
fn sidecars_are_asked_for_with_the_label_that_the_code_knows() {
    for name in ["inject-by-namespace.aviary.dev", "inject-by-pod.aviary.dev"] {
        let webhook = webhook(name);
        let by_namespace = list(&webhook["namespaceSelector"]["matchExpressions"]);
        assert!(
            by_namespace
                .iter()
                .any(|selector| selector["key"] == INJECT_LABEL),
            "{name}"
        );
        assert_eq!(
            webhook["objectSelector"]["matchExpressions"][0]["key"],
            INJECT_LABEL
        );
    }
}

fn conditions(of: &Value) -> Vec<(String, String)> {
    list(&of["matchConditions"])
        .iter()
        .map(|c| {
            (
                c["name"].as_str().unwrap().to_owned(),
                c["expression"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn the_gate_and_its_second_lock_have_the_same_exclusions() {
    let gate = webhook("gate.aviary.dev");
    let policy = the("ValidatingAdmissionPolicy", "aviary-gate");
    let (of_gate, of_policy) = (conditions(&gate), conditions(&policy["spec"]));
    for name in ["not-the-operator", "not-break-glass", "not-a-canary-copy"] {
        let find = |all: &[(String, String)]| all.iter().find(|(n, _)| n == name).cloned();
        assert!(find(&of_gate).is_some(), "{name}");
        assert_eq!(find(&of_gate), find(&of_policy));
    }
    let text = |name: &str| of_gate.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let user = format!(
        "'system:serviceaccount:{}:{}'",
        names::NAMESPACE,
        names::OPERATOR
    );
    assert!(text("not-the-operator").contains(&user));
    assert!(text("not-break-glass").contains(&format!("'{BREAK_GLASS_ANNOTATION}'")));
    assert!(text("not-a-canary-copy").contains(&format!("'{REVISION_LABEL}'")));
    assert!(of_gate[0].1.contains(&format!("'{ROLLOUT_LABEL}'")));
    for part in ["namespaceSelector", "objectSelector"] {
        assert_eq!(gate[part], policy["spec"]["matchConstraints"][part]);
    }
    assert_eq!(
        gate["objectSelector"]["matchExpressions"][0]["key"],
        ROLLOUT_LABEL
    );
    let binding = the("ValidatingAdmissionPolicyBinding", "aviary-gate");
    assert_eq!(
        binding["spec"],
        json!({"policyName": "aviary-gate", "validationActions": ["Deny"]})
    );
}

/// What they let through is tried on a real API server, in `e2e/tests/control_plane/requests.rs`.
#[test]
fn no_request_waits_for_the_operator_and_nobody_takes_anothers_name() {
    let stamp = webhook("request.aviary.dev");
    assert_eq!(stamp["failurePolicy"], "Ignore");
    assert_eq!(stamp["rules"][0]["resources"], json!(["canaryrollouts"]));
    let policy = the("ValidatingAdmissionPolicy", "aviary-requests");
    for of in [&stamp, &policy["spec"]] {
        let named = format!("'{REQUESTED_BY_ANNOTATION}'");
        for (name, expression) in conditions(of) {
            assert!(expression.contains(&named), "{name}");
        }
    }
    let request = format!("'{REQUEST_ANNOTATION}'");
    assert!(
        conditions(&stamp)
            .iter()
            .all(|(_, text)| text.contains(&request))
    );
    let binding = the("ValidatingAdmissionPolicyBinding", "aviary-requests");
    assert_eq!(
        binding["spec"],
        json!({"policyName": "aviary-requests", "validationActions": ["Deny"]})
    );
}

/// A policy that goes opens a door: that is an administrator's, and of whoever is given it by name.
#[test]
fn whoever_writes_caller_policies_is_no_mere_editor_and_no_releaser() {
    let mut writers = Vec::new();
    for name in [
        "aviary-view",
        "aviary-edit",
        "aviary-authorize",
        "aviary-release",
    ] {
        let role = the("ClusterRole", name);
        let rules = list(&role["rules"]).iter();
        let policies: Vec<&str> = rules
            .filter(|rule| strings(&rule["resources"]).contains(&"callerpolicies"))
            .flat_map(|rule| strings(&rule["verbs"]))
            .collect();
        if policies
            .iter()
            .any(|verb| !["get", "list", "watch"].contains(verb))
        {
            writers.push(name);
        }
    }
    assert_eq!(writers, ["aviary-authorize"]);
    assert_eq!(
        the("ClusterRole", "aviary-authorize")["metadata"]["labels"],
        json!({"rbac.authorization.k8s.io/aggregate-to-admin": "true"})
    );
    let view = the("ClusterRole", "aviary-view");
    assert_eq!(
        strings(&view["rules"][0]["resources"]),
        ["canaryrollouts", "callerpolicies"]
    );
}

/// The built-in roles have them too; whoever releases and may not edit Deployments has a role of their own.
#[test]
fn whoever_watches_and_whoever_releases_has_a_role() {
    let view = the("ClusterRole", "aviary-view");
    let release = the("ClusterRole", "aviary-release");
    let verbs = |role: &Value| {
        let rules = list(&role["rules"]).iter();
        let ours = rules.filter(|rule| strings(&rule["apiGroups"]) == ["aviary.dev"]);
        ours.flat_map(|rule| strings(&rule["verbs"]))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(verbs(&view), ["get", "list", "watch"]);
    assert_eq!(verbs(&release), ["get", "list", "watch", "patch"]);
    assert!(release["metadata"].get("labels").is_none(), "edit has it");
    for rule in list(&release["rules"]) {
        let ours = strings(&rule["apiGroups"]) == ["aviary.dev"];
        assert!(
            ours || strings(&rule["verbs"]) == ["get", "list", "watch"],
            "{rule}"
        );
    }
}

#[test]
fn every_manifest_is_in_a_kustomization() {
    let mut files = BTreeSet::new();
    let mut named = BTreeSet::new();
    for (file, document) in documents() {
        let folder = file
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder)
            .to_owned();
        if document["kind"] == "Kustomization" || document["kind"] == "Component" {
            for resource in strings(&document["resources"]) {
                named.insert(format!("{folder}/{resource}"));
            }
        } else {
            files.insert(file);
        }
    }
    // The long form is instead of the short one.
    files.remove("samples/canaryrollout-full.yaml");
    // What somebody has to grant by hand.
    files.remove("samples/prometheus-auth.yaml");
    // What would refuse callers.
    files.remove("samples/callerpolicy.yaml");
    for file in files {
        assert!(named.contains(&file), "{file} is in no kustomization");
    }
}

#[test]
fn the_samples_are_right() {
    let documents = documents();
    let find = |kind: &str, name: &str| {
        let found = documents.iter().find(|(file, document)| {
            file == "samples/app.yaml"
                && document["kind"] == kind
                && document["metadata"]["name"] == name
        });
        found.map(|(_, document)| document.clone()).unwrap()
    };
    let deployment: DynamicObject = serde_json::from_value(find("Deployment", "payment")).unwrap();
    let facts = Facts {
        deployment: Some(Target::from(&deployment)),
        service: serde_json::from_value(find("Service", "payment")).unwrap(),
        prometheus: PrometheusPolicy {
            default: Some("http://prometheus.monitoring:9090".to_owned()),
            allowed: Vec::new(),
        },
        ..Facts::default()
    };
    let rollouts: Vec<&Value> = documents
        .iter()
        .map(|(_, d)| d)
        .filter(|d| d["kind"] == "CanaryRollout")
        .collect();
    assert_eq!(rollouts.len(), 2);
    for rollout in rollouts {
        let rollout: CanaryRollout = serde_json::from_value(rollout.clone()).unwrap();
        let problems = validate(&rollout, &facts);
        assert!(
            problems
                .iter()
                .all(|problem| problem.severity < Severity::Wait),
            "{problems:?}"
        );
        assert!(problems.is_empty(), "{problems:?}");
    }
    assert_eq!(
        find("Namespace", "shop")["metadata"]["labels"][INJECT_LABEL],
        "enabled"
    );
}

/// Tried on a real API server in `e2e/tests/rbac.rs`.
#[test]
fn the_sample_of_credentials_lets_the_operator_get_one_secret() {
    let documents = documents();
    let find = |kind: &str| {
        let of_file = documents
            .iter()
            .filter(|(file, _)| file == "samples/prometheus-auth.yaml");
        let mut found = of_file.filter(|(_, document)| document["kind"] == kind);
        found.next().unwrap().1.clone()
    };
    let secret = find("Secret");
    assert!(secret["metadata"]["annotations"][CREDENTIALS_ANNOTATION].is_string());
    assert_eq!(
        find("Role")["rules"],
        json!([{
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [secret["metadata"]["name"]],
            "verbs": ["get"],
        }])
    );
    assert_eq!(
        find("RoleBinding")["subjects"],
        json!([{"kind": "ServiceAccount", "name": names::OPERATOR, "namespace": names::NAMESPACE}])
    );
}

/// What the built-in queries ask for is set by Prometheus, and not by what it scrapes.
#[test]
fn the_sidecars_scrape_job_has_the_name_that_queries_ask_for() {
    let monitor = the("PodMonitor", names::PROMETHEUS_JOB);
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["honorLabels"], false);
    assert!(monitor["spec"].get("jobLabel").is_none());
    let relabelings = list(&endpoint["relabelings"]);
    let job = json!({"targetLabel": "job", "replacement": names::PROMETHEUS_JOB});
    assert!(relabelings.contains(&job), "{endpoint}");
    let kept = format!("{};{}", names::PROXY_CONTAINER, names::PROXY_HEALTH_PORT);
    assert_eq!(relabelings[0]["regex"], kept);
}
