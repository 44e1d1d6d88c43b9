//! Prints the CustomResourceDefinition: `make generate` writes it to `crds/canaryrollouts.yaml`.

fn main() -> Result<(), serde_saphyr::SerializeError> {
    print!("{}", aviary_crds::manifest()?);
    Ok(())
}
