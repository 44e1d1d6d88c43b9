//! Prints a CustomResourceDefinition, that of CanaryRollouts or, with `callerpolicies` as its argument, that of CallerPolicies: `make generate` writes them to
//! `crds/`.

fn main() -> Result<(), serde_saphyr::SerializeError> {
    let manifest = match std::env::args().nth(1).as_deref() {
        Some("callerpolicies") => aviary_crds::policy_manifest()?,
        Some(_) | None => aviary_crds::manifest()?,
    };
    print!("{manifest}");
    Ok(())
}
