//! Values that nobody else may read: a Secret of the rollout's namespace, or a folder in which one is mounted.
//!
//! A Secret is read for each window ([`secret`]), so a changed one is heeded at the next. Its values are sent to the address that it
//! names, and to no other.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use aviary_crds::CREDENTIALS_ANNOTATION;
use kube::Client;

use super::credentials::Values;
use crate::secret::{self, NotGot};

#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(
        "there is no Secret {0} in this namespace: create it, or name another in spec.analysis.prometheus.auth"
    )]
    Missing(String),
    #[error(
        "the operator may not get Secret {0}: allow it by a Role and a RoleBinding (docs/prometheus.md has the commands)"
    )]
    Forbidden(String),
    #[error("Secret {0} cannot be read now: {1}")]
    Away(String, &'static str),
    #[error(
        "Secret {name} is not for this address: kubectl annotate secret {name} {CREDENTIALS_ANNOTATION}={address}"
    )]
    NotFor { name: String, address: String },
    #[error(
        "{0} cannot be read ({1}): mount a Secret there, or leave out the operator's flag that names it"
    )]
    Folder(String, io::ErrorKind),
}

/// The values of a Secret, for this address.
pub(super) async fn of_secret(
    client: &Client,
    namespace: &str,
    name: &str,
    address: &str,
) -> Result<Values, Unreadable> {
    let secret = secret::get(client, namespace, name).await;
    let secret = secret.map_err(|not_got| match not_got {
        NotGot::Missing => Unreadable::Missing(name.to_owned()),
        NotGot::Forbidden => Unreadable::Forbidden(name.to_owned()),
        NotGot::Away(why) => Unreadable::Away(name.to_owned(), why),
    })?;
    let same = |of: &str| of.trim_end_matches('/') == address.trim_end_matches('/');
    if !secret::is_for(&secret).is_some_and(same) {
        return Err(Unreadable::NotFor {
            name: name.to_owned(),
            address: address.to_owned(),
        });
    }
    let data = secret.data.unwrap_or_default();
    Ok(Values {
        place: format!("Secret {name}"),
        values: data
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect(),
    })
}

/// The files of a folder, by their names. The kubelet's own, which begin with two dots, are none.
pub(super) async fn of_folder(folder: &Path) -> Result<Values, Unreadable> {
    let place = folder.display().to_string();
    match files(folder).await {
        Ok(values) => Ok(Values { place, values }),
        Err(error) => Err(Unreadable::Folder(place, error.kind())),
    }
}

async fn files(folder: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut values = BTreeMap::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Through the link: what is mounted are links to files.
        let is_file = tokio::fs::metadata(entry.path()).await?.is_file();
        if is_file && !name.starts_with("..") {
            values.insert(name, tokio::fs::read(entry.path()).await?);
        }
    }
    Ok(values)
}
