use kube_runtime::watcher::Event;

use super::*;
use crate::rollout::views::{NamespaceSeen, Views};

/// No CallerPolicy, but these.
fn policies(all: Vec<Allowing>) -> Store<Allowing> {
    let (views, mut writers) = Views::new();
    writers.policies.apply(Event::Init);
    for policy in all {
        writers.policies.apply(Event::InitApply(policy));
    }
    writers.policies.apply(Event::InitDone);
    views.policies
}

fn injector() -> Injector {
    Injector {
        image: "aviary.local/aviary-proxy:dev".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        namespace: "aviary-system".to_owned(),
        root_pem: "-----BEGIN CERTIFICATE-----".to_owned(),
        mark: VERSION.to_owned(),
        demanded: Demanded::default(),
        policies: Some(policies(Vec::new())),
        namespaces: None,
    }
}

fn pod() -> Value {
    json!({
        "metadata": {
            "generateName": "payment-6d4cf56db6-",
            "labels": {"app": "payment", "pod-template-hash": "6d4cf56db6"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "payment-6d4cf56db6", "uid": "set", "controller": true}],
        },
        "spec": {"containers": [{
            "name": "app",
            "image": "shop/payment:1",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}}
        }]}
    })
}

fn injected(pod: &Value) -> (Value, Vec<String>) {
    match injector().inject("shop", pod).unwrap() {
        Injection::Inject { patch, warnings } => {
            let mut result = pod.clone();
            json_patch::patch(&mut result, &patch).unwrap();
            (result, warnings)
        }
        Injection::LeftAlone { warnings } => panic!("left alone: {warnings:?}"),
    }
}

fn left_alone(pod: &Value) -> Vec<String> {
    match injector().inject("shop", pod).unwrap() {
        Injection::LeftAlone { warnings } => warnings,
        Injection::Inject { patch, .. } => panic!("injected: {patch}"),
    }
}

fn init_containers(pod: &Value) -> Vec<&str> {
    let containers = pod["spec"]["initContainers"].as_array().unwrap();
    containers
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect()
}

#[test]
fn a_plain_pod_gets_the_redirect_and_the_sidecar() {
    let (result, warnings) = injected(&pod());
    assert_eq!(init_containers(&result), ["aviary-init", "aviary-proxy"]);
    assert_eq!(result["spec"]["containers"], pod()["spec"]["containers"]);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        result["metadata"]["annotations"],
        json!({
            "aviary.dev/injected": env!("CARGO_PKG_VERSION"),
            "aviary.dev/injection": "2",
            "prometheus.io/scrape": "true",
            "prometheus.io/port": "15020",
            "prometheus.io/path": "/metrics",
        })
    );
}

#[test]
fn the_sidecar_is_native_unprivileged_and_knows_where_the_operator_is() {
    let (result, _) = injected(&pod());
    let proxy = &result["spec"]["initContainers"][1];
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["args"], json!(["run"]));
    assert_eq!(proxy["image"], "aviary.local/aviary-proxy:dev");
    assert_eq!(proxy["imagePullPolicy"], "IfNotPresent");
    assert_eq!(
        proxy["env"],
        json!([
            {"name": "AVIARY_XDS_ADDRESS", "value": "https://aviary-xds.aviary-system.svc:15010"},
            {"name": "AVIARY_ROOT_CERTS", "value": "-----BEGIN CERTIFICATE-----"},
            {"name": "AVIARY_DRAIN_DELAY", "value": "0s"},
            {"name": "AVIARY_WORKLOAD", "value": "payment"},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        ])
    );
    assert_eq!(
        proxy["securityContext"],
        json!({
            "runAsUser": 2102,
            "runAsGroup": 2102,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
    assert_eq!(
        proxy["startupProbe"]["httpGet"],
        json!({"path": "/ready", "port": 15020})
    );
    assert!(proxy.get("readinessProbe").is_none() && proxy.get("livenessProbe").is_none());
}

#[test]
fn the_token_is_for_the_operator_only_and_mounted_where_the_proxy_reads_it() {
    let (result, _) = injected(&pod());
    assert_eq!(
        result["spec"]["volumes"][0]["projected"]["sources"],
        json!([{"serviceAccountToken": {"audience": "aviary", "expirationSeconds": 3607, "path": "token"}}])
    );
    assert_eq!(
        result["spec"]["initContainers"][1]["volumeMounts"],
        json!([{"name": "aviary-token", "mountPath": "/var/run/secrets/aviary", "readOnly": true}])
    );
}

#[test]
fn only_the_container_that_sets_the_redirect_has_a_privilege() {
    let (result, _) = injected(&pod());
    let init = &result["spec"]["initContainers"][0];
    assert_eq!(init["args"], json!(["init"]));
    let context = &init["securityContext"];
    assert_eq!(
        context["capabilities"],
        json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})
    );
    assert_eq!(context["runAsUser"], json!(0));
    assert_eq!(context["allowPrivilegeEscalation"], json!(false));
    assert!(init.get("volumeMounts").is_none());
}

#[test]
fn the_pods_own_init_containers_and_volumes_come_after_and_stay() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "image": "shop/migrate:1"}]);
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    pod["metadata"]["annotations"] = json!({"prometheus.io/scrape": "false", "team": "shop"});
    let (result, _) = injected(&pod);
    assert_eq!(
        init_containers(&result),
        ["aviary-init", "aviary-proxy", "migrate"]
    );
    assert_eq!(
        result["spec"]["volumes"][0],
        json!({"name": "data", "emptyDir": {}})
    );
    assert_eq!(result["spec"]["volumes"][1]["name"], "aviary-token");
    assert_eq!(
        result["metadata"]["annotations"],
        json!({"prometheus.io/scrape": "false", "team": "shop", "aviary.dev/injected": env!("CARGO_PKG_VERSION"), "aviary.dev/injection": "2"})
    );
}

#[test]
fn injecting_twice_is_injecting_once() {
    let (result, _) = injected(&pod());
    assert_eq!(left_alone(&result), Vec::<String>::new());
}

#[test]
fn a_pod_on_the_hosts_network_is_left_alone_and_says_so() {
    let mut pod = pod();
    pod["spec"]["hostNetwork"] = json!(true);
    assert_eq!(
        left_alone(&pod),
        [
            "pod payment-6d4cf56db6-*: no sidecar, since it has hostNetwork: redirect rules would be the node's"
        ]
    );
}

#[test]
fn ports_to_skip_reach_the_redirect() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({
        "aviary.dev/skip-inbound-ports": "9090, 8081",
        "aviary.dev/skip-outbound-ports": "3306,",
    });
    let (result, _) = injected(&pod);
    assert_eq!(
        result["spec"]["initContainers"][0]["args"],
        json!([
            "init",
            "--skip-inbound-ports=8081,9090",
            "--skip-outbound-ports=3306"
        ])
    );
}

#[test]
fn limits_reach_the_proxy() {
    let mut pod = pod();
    let args = |pod: &Value| injected(pod).0["spec"]["initContainers"][1]["args"].clone();
    assert_eq!(args(&pod), json!(["run"]));
    pod["metadata"]["annotations"] = json!({
        "aviary.dev/max-header-bytes": "131072",
        "aviary.dev/max-connections": "500",
    });
    assert_eq!(
        args(&pod),
        json!(["run", "--max-connections=500", "--max-header-bytes=131072"])
    );
}

#[test]
fn a_limit_that_is_none_is_refused_by_name() {
    for limit in traffic_core::limits::ALL {
        for bad in ["", "0", "many", "1e3", "10000000000000000000000"] {
            let mut pod = pod();
            pod["metadata"]["annotations"] = json!({limit.annotation: bad});
            let error = injector().inject("shop", &pod).unwrap_err().to_string();
            let expected = format!(
                "annotation {}: '{bad}' is no number from ",
                limit.annotation
            );
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn a_port_that_is_none_is_refused_by_name() {
    for bad in ["http", "0", "65536", "-1", "80;81", "80 81"] {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({"aviary.dev/skip-outbound-ports": bad});
        let error = injector().inject("shop", &pod).unwrap_err().to_string();
        assert!(
            error.contains("annotation aviary.dev/skip-outbound-ports: '"),
            "{error}"
        );
        assert!(error.contains("write numbers from 1 to 65535"), "{error}");
    }
}

#[test]
fn a_tcp_probe_asks_the_sidecar_which_may_try_that_port_alone() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": "http"}});
    let (result, warnings) = injected(&pod);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        result["spec"]["containers"][0]["readinessProbe"],
        json!({"httpGet": {"path": "/probe/tcp/8080", "port": 15020, "scheme": "HTTP"}})
    );
    assert_eq!(
        result["spec"]["initContainers"][1]["args"],
        json!(["run", "--tcp-probe-ports=8080"])
    );
    assert_eq!(left_alone(&result), Vec::<String>::new());
    pod["metadata"]["annotations"] = json!({"aviary.dev/skip-inbound-ports": "8080"});
    assert_eq!(
        injected(&pod).0["spec"]["containers"],
        pod["spec"]["containers"]
    );
}

#[test]
fn a_native_sidecar_of_the_pods_own_is_found_where_it_will_be() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{
        "name": "cache", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 6379}},
    }]);
    let (result, _) = injected(&pod);
    let cache = &result["spec"]["initContainers"][2];
    assert_eq!(cache["name"], "cache");
    assert_eq!(cache["startupProbe"]["httpGet"]["path"], "/probe/tcp/6379");
}

/// The API server asks again after another webhook has changed the pod.
#[test]
fn probes_that_come_later_are_rewritten_and_those_that_go_are_tried_no_more() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": "http"}});
    let (mut result, _) = injected(&pod);
    let containers = result["spec"]["containers"].as_array_mut().unwrap();
    containers[0]
        .as_object_mut()
        .unwrap()
        .remove("readinessProbe");
    containers.push(json!({"name": "late", "livenessProbe": {"tcpSocket": {"port": 7000}}}));
    let (again, _) = injected(&result);
    assert_eq!(
        again["spec"]["containers"][1]["livenessProbe"]["httpGet"]["path"],
        "/probe/tcp/7000"
    );
    assert_eq!(
        again["spec"]["initContainers"][1]["args"],
        json!(["run", "--tcp-probe-ports=7000"])
    );
    assert_eq!(init_containers(&again), ["aviary-init", "aviary-proxy"]);
    assert_eq!(left_alone(&again), Vec::<String>::new());
}

#[test]
fn what_annotations_want_of_the_sidecar_is_what_it_gets() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({
        "aviary.dev/proxy-image": "registry.example/aviary-proxy:2",
        "aviary.dev/proxy-cpu": "1",
        "aviary.dev/proxy-memory-limit": "256Mi",
        "aviary.dev/proxy-log-level": "debug",
        "aviary.dev/max-connections": "500",
    });
    let (result, _) = injected(&pod);
    let [init, proxy] = [0, 1].map(|index| &result["spec"]["initContainers"][index]);
    for container in [init, proxy] {
        assert_eq!(container["image"], "registry.example/aviary-proxy:2");
    }
    assert_eq!(
        proxy["args"],
        json!(["run", "--max-connections=500", "--log=debug"])
    );
    assert_eq!(
        proxy["resources"],
        json!({"requests": {"cpu": "1", "memory": "16Mi"}, "limits": {"memory": "256Mi"}})
    );
    assert_eq!(
        init["resources"],
        json!({"requests": {"cpu": "10m", "memory": "16Mi"}})
    );
    assert_eq!(left_alone(&result), Vec::<String>::new());
    pod["metadata"]["annotations"]["aviary.dev/proxy-cpu"] = json!("fast");
    assert!(refused(&pod).starts_with("annotation aviary.dev/proxy-cpu: 'fast'"));
}

#[test]
fn the_sidecar_of_another_injector_is_replaced() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "image": "shop/migrate:1"}]);
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": "http"}});
    let mut other = injector();
    other.image = "aviary.local/aviary-proxy:old".to_owned();
    other.root_pem = "another".to_owned();
    other.mark = "manifest 0.0.9".to_owned();
    let Injection::Inject { patch, .. } = other.inject("shop", &pod).unwrap() else {
        panic!("left alone");
    };
    let mut old = pod.clone();
    json_patch::patch(&mut old, &patch).unwrap();
    let (new, _) = injected(&old);
    assert_eq!(new, injected(&pod).0);
    // Only if it is where an injector puts it, and says that there was one.
    let mut elsewhere = old.clone();
    elsewhere["spec"]["containers"] = json!([{"name": "aviary-proxy", "image": "x"}]);
    refused(&elsewhere);
    let mut unmarked = old;
    unmarked["metadata"]["annotations"] = json!({});
    refused(&unmarked);
}

#[test]
fn a_pod_of_a_job_ends_with_its_containers() {
    let mut pod = pod();
    pod["metadata"] = json!({
        "generateName": "report-29404320-",
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "report-29404320", "uid": "job", "controller": true}],
    });
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["initContainers"] = json!([{"name": "fetch", "image": "shop/fetch:1"}]);
    let (result, _) = injected(&pod);
    // Only containers that are not sidecars are waited for, and init containers come after what connects them.
    assert_eq!(result["spec"]["containers"], pod["spec"]["containers"]);
    assert_eq!(
        init_containers(&result),
        ["aviary-init", "aviary-proxy", "fetch"]
    );
    let proxy = &result["spec"]["initContainers"][1];
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(
        proxy["env"][3],
        json!({"name": "AVIARY_WORKLOAD", "value": "report"})
    );
}

fn refused(pod: &Value) -> String {
    injector().inject("shop", pod).unwrap_err().to_string()
}

#[test]
fn an_app_with_the_sidecars_user_is_refused() {
    let mut pod = pod();
    pod["spec"]["securityContext"] = json!({"runAsUser": 2102});
    let error = refused(&pod);
    assert!(
        error.starts_with("container app runs as user 2102"),
        "{error}"
    );
    pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    injected(&pod);
}

#[test]
fn a_container_of_a_reserved_name_that_is_not_ours_is_refused() {
    for name in ["aviary-proxy", "aviary-init"] {
        for list in ["containers", "initContainers"] {
            let mut pod = pod();
            pod["spec"][list] = json!([{"name": name, "image": "shop/payment:1"}]);
            let error = refused(&pod);
            assert!(
                error.contains("has a name that is the sidecar's"),
                "{name}: {error}"
            );
        }
    }
    let mut bare = pod();
    bare["metadata"]["ownerReferences"] = json!([]);
    let (result, _) = injected(&bare);
    for (at, value) in [
        ("/spec/initContainers/1/image", json!("shop/payment:1")),
        ("/spec/initContainers/1/args", json!(["sleep"])),
        ("/spec/initContainers/1/command", json!(["sh"])),
        (
            "/spec/initContainers/1/env/0/value",
            json!("https://elsewhere:15010"),
        ),
        (
            "/spec/initContainers/0/args",
            json!(["init", "--skip-outbound-ports=80"]),
        ),
        ("/spec/initContainers/1/securityContext/runAsUser", json!(0)),
        (
            "/spec/initContainers/1/securityContext/privileged",
            json!(true),
        ),
    ] {
        let mut changed = result.clone();
        json_patch::patch(
            &mut changed,
            &serde_json::from_value::<Patch>(json!([{"op": "add", "path": at, "value": value}]))
                .unwrap(),
        )
        .unwrap();
        let field = at.split('/').nth(4).unwrap();
        let error = refused(&changed);
        let named = format!("the sidecar's, but its {field} is not what the injector makes");
        assert!(error.contains(&named), "{at}: {error}");
    }
    let mut defaulted = result;
    defaulted["spec"]["initContainers"][1]["terminationMessagePath"] =
        json!("/dev/termination-log");
    defaulted["spec"]["initContainers"][1]["securityContext"]["seccompProfile"] =
        json!({"type": "RuntimeDefault"});
    let environment = defaulted["spec"]["initContainers"][1]["env"]
        .as_array_mut()
        .unwrap();
    for entry in environment.iter_mut() {
        if entry["value"] == "" {
            entry.as_object_mut().unwrap().remove("value");
        }
    }
    environment.push(json!({"name": "HTTP_PROXY", "value": "x"}));
    assert_eq!(left_alone(&defaulted), Vec::<String>::new());
}

#[test]
fn no_pod_makes_the_injector_fail_to_patch_it() {
    for pod in [
        json!({}),
        json!({"spec": {}}),
        json!({"spec": {"initContainers": null, "volumes": null}, "metadata": {"annotations": null}}),
        json!({"spec": {"initContainers": [], "volumes": []}, "metadata": {}}),
    ] {
        // An API server never sends a pod without metadata or spec; a patch of one fails, and nothing panics.
        if let Injection::Inject { patch, .. } = injector().inject("shop", &pod).unwrap() {
            let mut result = pod.clone();
            let applied = json_patch::patch(&mut result, &patch);
            assert_eq!(
                applied.is_ok(),
                pod["metadata"].is_object() && pod["spec"].is_object()
            );
        }
    }
}

fn strict() -> Injector {
    let injector = injector();
    injector.demanded.set(["shop".to_owned()].into());
    injector
}

fn args(pod: &Value) -> Vec<&str> {
    let containers = pod["spec"]["initContainers"].as_array().unwrap();
    let proxy = containers
        .iter()
        .find(|each| each["name"] == "aviary-proxy");
    let args = proxy.unwrap()["args"].as_array().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap()).collect()
}

#[test]
fn where_plaintext_is_refused_a_new_sidecar_lets_in_probes_until_it_is_told_who_may_call() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["livenessProbe"] = json!({"grpc": {"port": 9090}});
    assert_eq!(args(&injected(&pod).0), ["run"]);
    let Injection::Inject { patch, warnings } = strict().inject("shop", &pod).unwrap() else {
        panic!("left alone");
    };
    assert_eq!(warnings, Vec::<String>::new());
    let mut result = pod.clone();
    json_patch::patch(&mut result, &patch).unwrap();
    assert_eq!(
        args(&result),
        ["run", "--until-told=closed", "--probes=8080/ready 9090"]
    );
    // Another webhook may add a container meanwhile, and the namespace may be another way.
    let other = json!({"name": "log", "livenessProbe": {"httpGet": {"port": 2020}}});
    let containers = result["spec"]["containers"].as_array_mut().unwrap();
    containers.push(other);
    for injector in [strict(), injector()] {
        let Injection::Inject { patch, .. } = injector.inject("shop", &result).unwrap() else {
            panic!("left alone");
        };
        let mut again = result.clone();
        json_patch::patch(&mut again, &patch).unwrap();
        let expected = [
            "run",
            "--until-told=closed",
            "--probes=2020/ 8080/ready 9090",
        ];
        assert_eq!(args(&again), expected);
    }
    let elsewhere = strict().inject("other", &pod).unwrap();
    let here = injector().inject("shop", &pod).unwrap();
    assert_eq!(elsewhere, here);
}

#[test]
fn where_plaintext_is_refused_no_port_bypasses_the_sidecar() {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"aviary.dev/skip-inbound-ports": "9090"});
    injector().inject("shop", &pod).unwrap();
    let error = strict().inject("shop", &pod).unwrap_err().to_string();
    for part in [
        "skip-inbound-ports",
        "namespace shop refuses plaintext",
        "take the annotation out",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn where_plaintext_is_refused_whoever_makes_a_pod_hears_what_the_kubelet_cannot_ask() {
    let mut pod = pod();
    let app = &mut pod["spec"]["containers"][0];
    app["livenessProbe"] = json!({"httpGet": {"port": "nobody", "scheme": "HTTPS"}});
    app["readinessProbe"] = json!({"httpGet": {"port": 8443, "scheme": "HTTPS"}});
    app["lifecycle"] = json!({"preStop": {"httpGet": {"port": 8080, "path": "/quit"}}});
    let Injection::Inject { warnings, .. } = strict().inject("shop", &pod).unwrap() else {
        panic!("left alone");
    };
    let [probe, hook] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    assert!(
        probe.contains("livenessProbe (httpGet by HTTPS) is refused"),
        "{probe}"
    );
    assert!(hook.contains("preStop (httpGet) in plaintext"), "{hook}");
}

#[test]
fn a_pod_that_a_policy_selects_or_may_select_is_closed_until_it_is_told_who_may_call() {
    let is_closed =
        |injector: &Injector, namespace: &str| match injector.inject(namespace, &pod()).unwrap() {
            Injection::Inject { patch, .. } => {
                let mut result = pod();
                json_patch::patch(&mut result, &patch).unwrap();
                args(&result).contains(&"--until-told=closed")
            }
            Injection::LeftAlone { .. } => panic!("left alone"),
        };
    let selecting = |app: Option<&str>| {
        let label = app.map(|app| ("app".to_owned(), app.to_owned()));
        let policy = Allowing {
            key: Key::new("shop", "policy"),
            selector: label.into_iter().collect(),
            allow: Vec::new(),
        };
        Injector {
            policies: Some(policies(vec![policy])),
            ..injector()
        }
    };
    assert!(is_closed(&selecting(None), "shop"));
    assert!(is_closed(&selecting(Some("payment")), "shop"));
    assert!(!is_closed(&selecting(Some("other")), "shop"));
    assert!(!is_closed(&selecting(None), "other"));
    let young = Injector {
        policies: Some(Views::new().0.policies),
        ..injector()
    };
    assert!(is_closed(&young, "shop"), "nobody knows of policies yet");
}

#[test]
fn what_a_namespace_wants_its_pods_inherit_unless_they_say_otherwise() {
    let (views, mut writers) = Views::new();
    writers.namespaces.apply(Event::Apply(NamespaceSeen {
        key: Key::new("", "shop"),
        wishes: vec![
            ("aviary.dev/access-log", "errors".into()),
            ("aviary.dev/metrics", "istio".into()),
        ],
    }));
    let injector = Injector {
        namespaces: Some(views.namespaces),
        ..injector()
    };
    let made = |namespace: &str, mut pod: Value| {
        let Injection::Inject { patch, warnings } = injector.inject(namespace, &pod).unwrap()
        else {
            panic!("left alone");
        };
        json_patch::patch(&mut pod, &patch).unwrap();
        (pod, warnings)
    };
    let (inherits, warnings) = made("shop", pod());
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        args(&inherits),
        ["run", "--access-log=errors", "--metrics=istio"]
    );
    let annotations = &inherits["metadata"]["annotations"];
    assert_eq!(annotations["aviary.dev/metrics"], "istio");
    // It is looked at once more, perhaps when the namespace says something else.
    assert_eq!(
        injector.inject("other", &inherits).unwrap(),
        Injection::LeftAlone { warnings: vec![] }
    );
    let mut own = pod();
    own["metadata"]["annotations"]["aviary.dev/access-log"] = json!("off");
    assert_eq!(
        args(&made("shop", own).0),
        ["run", "--access-log=off", "--metrics=istio"]
    );
    assert_eq!(args(&made("other", pod()).0), ["run"]);

    writers.namespaces.apply(Event::Apply(NamespaceSeen {
        key: Key::new("", "shop"),
        wishes: vec![("aviary.dev/metrics", "prometheus".into())],
    }));
    let (mistaken, warnings) = made("shop", pod());
    assert_eq!(args(&mistaken), ["run"]);
    assert_eq!(warnings.len(), 1);
    let begins = "namespace shop, annotation aviary.dev/metrics: 'prometheus' is none; write";
    assert!(warnings[0].starts_with(begins), "{warnings:?}");
}
