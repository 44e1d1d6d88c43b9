use serde_json::{Value, json};

use super::*;
use crate::admission::inject::VERSION;
use crate::options::PullPolicy;

fn injector() -> Injector {
    Injector {
        image: "registry.example/aviary-proxy:1".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        namespace: "aviary-system".to_owned(),
        root_pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
        mark: format!("{VERSION} by manifest"),
        demanded: Default::default(),
        policies: None,
        namespaces: None,
    }
}

const DEPLOYMENT: &str = r#"# The shop's front door.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  replicas: 2
  template:
    metadata:
      labels: {app: web, version: "1.0"}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: app
        image: shop/web:1   # the newest
        ports: [{name: http, containerPort: 8080}]
        readinessProbe:
          tcpSocket: {port: http}
"#;

fn injected(text: &str) -> Injected {
    inject(text, &injector()).unwrap()
}

fn said(text: &str) -> Vec<String> {
    let notes = injected(text).notes;
    notes
        .iter()
        .map(|note| format!("{}: {}", note.at, note.text))
        .collect()
}

fn refused(text: &str) -> String {
    inject(text, &injector()).unwrap_err().to_string()
}

fn json_of(text: &str) -> Value {
    tree::read(text).unwrap().to_json()
}

fn template(kind: &str, version: &str, path: &[&str]) -> String {
    let mut object = json!({"spec": {"containers": [{"name": "app"}]}});
    for field in path.iter().rev() {
        object = json!({ *field: object });
    }
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": "web"});
    object.to_string()
}

#[test]
fn a_deployment_gets_a_sidecar_and_is_otherwise_what_it_was() {
    let Injected { text, .. } = injected(DEPLOYMENT);
    assert!(text.starts_with("# The shop's front door.\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n"), "{text}");
    assert!(text.contains("        version: \"1.0\"\n"), "{text}");
    let (before, mut after) = (json_of(DEPLOYMENT), json_of(&text));
    let pod = after.pointer_mut("/spec/template").unwrap();
    let containers = pod["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<&Value> = containers
        .iter()
        .map(|container| &container["name"])
        .collect();
    assert_eq!(names, ["aviary-init", "aviary-proxy"]);
    assert_eq!(
        containers[1]["args"],
        json!(["run", "--tcp-probe-ports=8080"])
    );
    assert_eq!(
        containers[1]["env"][1]["value"],
        injector().root_pem,
        "several lines are as they were"
    );
    // Pods that this Deployment makes are told to be its own.
    assert_eq!(containers[1]["env"][3]["value"], "web");
    let probe = pod["spec"]["containers"][0]["readinessProbe"].take();
    assert_eq!(probe["httpGet"]["path"], "/probe/tcp/8080");
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": "http"}});
    for field in ["initContainers", "volumes"] {
        pod["spec"].as_object_mut().unwrap().remove(field);
    }
    pod["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    assert_eq!(after, before);
}

#[test]
fn every_kind_that_makes_pods_gets_one_and_no_other() {
    let spec = ["spec", "template"];
    for (kind, version, path) in [
        ("Pod", "v1", &[][..]),
        ("ReplicationController", "v1", &spec),
        ("Deployment", "apps/v1", &spec),
        ("StatefulSet", "apps/v1", &spec),
        ("DaemonSet", "apps/v1", &spec),
        ("ReplicaSet", "apps/v1", &spec),
        ("Job", "batch/v1", &spec),
        (
            "CronJob",
            "batch/v1",
            &["spec", "jobTemplate", "spec", "template"],
        ),
    ] {
        let text = template(kind, version, path);
        assert_eq!(
            said(&text),
            [format!("document 1, {kind} web: sidecar added")]
        );
        let after = json_of(&injected(&text).text);
        let pod = after.pointer(
            &path
                .iter()
                .map(|field| format!("/{field}"))
                .collect::<String>(),
        );
        let containers = &pod.unwrap()["spec"]["initContainers"];
        assert_eq!(containers[1]["name"], "aviary-proxy", "{kind}");
    }
    for (kind, version) in [
        ("Deployment", "example.com/v1"),
        ("Rollout", "argoproj.io/v1alpha1"),
        ("PodTemplate", "v1"),
    ] {
        let text = template(kind, version, &spec);
        assert_eq!(
            injected(&text),
            Injected {
                text,
                notes: vec![]
            }
        );
    }
}

#[test]
fn other_documents_come_out_byte_for_byte() {
    let service = "\n# yes\napiVersion: v1\nkind:   Service\nmetadata: { name: 'web' }  # odd\n";
    let config =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: |\n    ---\n    x\n";
    let text = format!("{service}--- # two\n{DEPLOYMENT}---\n{config}...\n---\n# nothing\n---\n");
    let Injected { text: out, notes } = injected(&text);
    assert!(out.starts_with(&format!("{service}--- # two\n# The shop's front door.\n")));
    assert!(out.ends_with(&format!("---\n{config}...\n---\n# nothing\n---\n")));
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].at.to_string(), "document 2, Deployment shop/web");
    let others = format!("{service}---\n{config}");
    assert_eq!(injected(&others).text, others);
}

#[test]
fn items_of_lists_get_theirs() {
    let item: Value = json_of(DEPLOYMENT);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}});
    let nested = json!({"apiVersion": "v1", "kind": "List", "items": [item]});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [service, item, nested]});
    let text = list.to_string();
    assert_eq!(
        said(&text),
        ["document 1, Deployment shop/web: sidecar added"; 2]
    );
    let after = json_of(&injected(&text).text);
    assert_eq!(after["items"][0], service);
    let one = json_of(&injected(DEPLOYMENT).text);
    assert_eq!(after["items"][1], one);
    assert_eq!(after["items"][2]["items"][0], one);
}

#[test]
fn once_more_changes_nothing_and_another_installation_changes_the_sidecar() {
    let once = injected(DEPLOYMENT);
    let twice = injected(&once.text);
    assert_eq!(twice.text, once.text);
    assert_eq!(twice.notes[0].text, Said::Unchanged);
    let mut other = injector();
    other.image = "registry.example/aviary-proxy:2".to_owned();
    let renewed = inject(&once.text, &other).unwrap();
    assert_eq!(
        json_of(&renewed.text),
        json_of(&inject(DEPLOYMENT, &other).unwrap().text)
    );
}

#[test]
fn who_wants_none_or_cannot_have_one_gets_none_and_it_is_said() {
    let out = DEPLOYMENT.replace("{app: web,", "{aviary.dev/inject: \"false\", app: web,");
    assert_eq!(injected(&out).text, out);
    assert_eq!(
        said(&out),
        [
            "document 1, Deployment shop/web: no sidecar: its pods have the label aviary.dev/inject: \"false\""
        ]
    );
    let host = DEPLOYMENT.replace(
        "      terminationGrace",
        "      hostNetwork: true\n      terminationGrace",
    );
    assert_eq!(injected(&host).text, host);
    assert!(said(&host)[0].contains("hostNetwork"), "{:?}", said(&host));
    let system = DEPLOYMENT.replace("namespace: shop", "namespace: kube-system");
    assert_eq!(injected(&system).text, system);
    assert!(said(&system)[0].ends_with("pods of namespace kube-system never get one"));
}

#[test]
fn errors_name_the_document_and_the_object() {
    let bad = DEPLOYMENT.replace(
        "      labels:",
        "      annotations: {aviary.dev/proxy-cpu: lots}\n      labels:",
    );
    let error = refused(&format!("a: 1\n---\n{bad}"));
    assert!(
        error.starts_with(
            "document 2, Deployment shop/web: annotation aviary.dev/proxy-cpu: 'lots' is no amount of cpu"
        ),
        "{error}"
    );
    let error = refused("a: 1\n---\nb: [\n");
    assert!(error.starts_with("document 2: it is no YAML: "), "{error}");
    for (text, missing) in [
        (
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n",
            "spec.template.spec",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: j}\n", "spec"),
        (
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: j}\nspec: {jobTemplate: 1}\n",
            "spec.jobTemplate.spec.template.spec",
        ),
    ] {
        let error = refused(text);
        assert!(
            error.contains(&format!(" j: {missing} is missing")),
            "{error}"
        );
    }
}
