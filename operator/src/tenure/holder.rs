//! Where proxies find the holder: the EndpointSlice of the Service `aviary-xds`, which has no selector.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use aviary_crds::FIELD_MANAGER;
use tokio_util::sync::CancellationToken;

use crate::names;
use crate::text::innermost;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Whose slices are of a Service, and who writes them.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// This replica, as proxies reach it.
#[derive(Clone, Debug)]
pub struct Holder {
    pub namespace: String,
    pub pod: String,
    pub address: IpAddr,
}

impl Holder {
    /// From now on the Service leads here, and nowhere else: it is said until it is done, or `until`. Ends only then.
    pub async fn announced(self, client: Client, until: CancellationToken) {
        let said = async {
            while let Err(error) = self.announce(client.clone()).await {
                let error = innermost(&error);
                tracing::error!(
                    error,
                    "the EndpointSlice of {} cannot be written: proxies do not find this replica",
                    names::XDS_SERVICE
                );
                tokio::time::sleep(AGAIN).await;
            }
        };
        until.run_until_cancelled(said).await;
        until.cancelled().await;
    }

    async fn announce(&self, client: Client) -> kube::Result<()> {
        let slices: Api<EndpointSlice> = Api::namespaced(client, &self.namespace);
        let slice = self.slice();
        let name = slice.name_any();
        let how = PatchParams::apply(FIELD_MANAGER).force();
        slices.patch(&name, &how, &Patch::Apply(&slice)).await?;
        // Others may be left: of a Service that had a selector before, or of the other family of addresses.
        let of_service =
            ListParams::default().labels(&format!("{SERVICE_LABEL}={}", names::XDS_SERVICE));
        for other in slices.list(&of_service).await? {
            if other.name_any() != name {
                slices
                    .delete(&other.name_any(), &DeleteParams::default())
                    .await?;
                tracing::info!(
                    slice = other.name_any(),
                    "an older EndpointSlice of {} is gone",
                    names::XDS_SERVICE
                );
            }
        }
        Ok(())
    }

    fn slice(&self) -> EndpointSlice {
        let (family, name) = match self.address {
            IpAddr::V4(_) => ("IPv4", names::XDS_SERVICE.to_owned()),
            // The family of a slice cannot be changed.
            IpAddr::V6(_) => ("IPv6", format!("{}-ipv6", names::XDS_SERVICE)),
        };
        let labels = [
            (SERVICE_LABEL, names::XDS_SERVICE),
            (MANAGER_LABEL, FIELD_MANAGER),
            ("app.kubernetes.io/part-of", "aviary"),
        ];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(name),
                labels: Some(BTreeMap::from(labels)),
                ..ObjectMeta::default()
            },
            address_type: family.to_owned(),
            endpoints: Some(vec![Endpoint {
                addresses: vec![self.address.to_string()],
                conditions: Some(EndpointConditions {
                    ready: Some(true),
                    ..EndpointConditions::default()
                }),
                target_ref: Some(ObjectReference {
                    kind: Some("Pod".to_owned()),
                    name: Some(self.pod.clone()),
                    namespace: Some(self.namespace.clone()),
                    ..ObjectReference::default()
                }),
                ..Endpoint::default()
            }]),
            ports: Some(vec![EndpointPort {
                name: Some("xds".to_owned()),
                port: Some(names::XDS_PORT.into()),
                protocol: Some("TCP".to_owned()),
                ..EndpointPort::default()
            }]),
        }
    }
}
