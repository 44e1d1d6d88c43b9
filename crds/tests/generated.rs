//! The committed YAML is what the types say.

use aviary_crds::CanaryRolloutSpec;

#[test]
fn the_committed_yaml_is_what_the_generator_prints() {
    let committed = include_str!("../canaryrollouts.yaml");
    let generated = aviary_crds::manifest().expect("the CRD serialises");
    assert!(
        committed == generated,
        "crds/canaryrollouts.yaml is out of date: run `make generate`"
    );
    let committed = include_str!("../callerpolicies.yaml");
    let generated = aviary_crds::policy_manifest().expect("the CRD serialises");
    assert!(
        committed == generated,
        "crds/callerpolicies.yaml is out of date: run `make generate`"
    );
}

#[test]
fn the_shortest_form_gets_the_documented_defaults() {
    let spec: CanaryRolloutSpec = serde_saphyr::from_str(
        "targetRef: {kind: Deployment, name: payment}\nservice: {name: payment}\n",
    )
    .expect("the shortest useful form is valid");
    let steps: Vec<(i32, &str)> = spec
        .steps
        .iter()
        .map(|s| (s.weight, s.soak.as_str()))
        .collect();
    assert_eq!(steps, [(1, "1m"), (10, "2m"), (50, "5m"), (100, "1m")]);
    assert_eq!(spec.target_ref.api_version, "apps/v1");
    assert_eq!(spec.analysis.failure_limit, 2);
    let checks: Vec<&str> = spec
        .analysis
        .checks
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(checks, ["success-rate", "latency"]);
    assert!(!spec.suspend);
}

/// The API server sees what the shortest form leaves out as a default in the schema, so that `kubectl get -o yaml` shows it.
#[test]
fn every_default_of_the_types_is_also_in_the_schema() {
    let yaml = aviary_crds::manifest().expect("the CRD serialises");
    let crd: serde_json::Value = serde_saphyr::from_str(&yaml).expect("the manifest is YAML");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for field in [
        "steps",
        "analysis",
        "onFailure",
        "progressDeadline",
        "capacity",
        "deletionPolicy",
        "suspend",
    ] {
        assert!(
            !spec[field]["default"].is_null(),
            "spec.{field} has no default in the schema"
        );
    }
}

/// `kubectl apply` warns about formats that it does not know, so no field may have one.
#[test]
fn no_number_has_a_format_that_kubectl_warns_about() {
    for yaml in [aviary_crds::manifest(), aviary_crds::policy_manifest()] {
        let yaml = yaml.expect("the CRD serialises");
        for format in ["uint", "double", "float"] {
            assert!(
                !yaml.contains(&format!("format: {format}")),
                "a field has the format {format}"
            );
        }
    }
}

#[test]
fn every_field_of_the_spec_is_documented() {
    fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                let here = format!("{path}.{name}");
                if property["description"].as_str().is_none_or(str::is_empty) {
                    missing.push(here.clone());
                }
                walk(&here, property, missing);
                walk(&here, &property["items"], missing);
            }
        }
    }
    for yaml in [aviary_crds::manifest(), aviary_crds::policy_manifest()] {
        let yaml = yaml.expect("the CRD serialises");
        let crd: serde_json::Value = serde_saphyr::from_str(&yaml).expect("the manifest is YAML");
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut missing = Vec::new();
        walk("spec", spec, &mut missing);
        assert_eq!(
            missing,
            Vec::<String>::new(),
            "fields without a description for `kubectl explain`"
        );
    }
}

fn schema() -> serde_json::Value {
    let yaml = aviary_crds::manifest().expect("the CRD serialises");
    let crd: serde_json::Value = serde_saphyr::from_str(&yaml).expect("the manifest is YAML");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn rules(schema: &serde_json::Value) -> Vec<&str> {
    let rules = schema["x-kubernetes-validations"].as_array();
    rules
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["rule"].as_str())
        .collect()
}

/// Two writers of different conditions must not overwrite each other's.
#[test]
fn conditions_are_a_map_by_type() {
    let schema = schema();
    let conditions = &schema["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(
        conditions["x-kubernetes-list-map-keys"],
        serde_json::json!(["type"])
    );
}

#[test]
fn the_api_server_refuses_names_that_fit_no_label() {
    let schema = schema();
    assert!(rules(&schema).contains(&"self.metadata.name.size() <= 63"));
}

#[test]
fn the_api_server_refuses_durations_of_nothing() {
    let schema = schema();
    for field in [
        "/progressDeadline",
        "/analysis/properties/interval",
        "/analysis/properties/checks/items/properties/latency/properties/atMost",
    ] {
        let pointer = format!("/properties/spec/properties{field}");
        let field = schema.pointer(&pointer).expect("the field exists");
        assert_eq!(rules(field), ["self.matches('[1-9]')"], "{pointer}");
    }
}

#[test]
fn the_name_of_a_service_is_a_dns_label() {
    let schema = schema();
    let name = &schema["properties"]["spec"]["properties"]["service"]["properties"]["name"];
    assert_eq!(name["pattern"], aviary_crds::units::DNS_LABEL_PATTERN);
}
