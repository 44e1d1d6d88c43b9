//! The endpoints of one port of one Service, each with the pod behind it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use traffic_core::config::{Endpoint, Health};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodEndpoint {
    pub(super) endpoint: Endpoint,
    /// `None`: something that is no pod.
    pub(super) pod: Option<String>,
}

/// EndpointSlices by the Service that they belong to (namespace, name): a cluster has thousands of both.
pub(super) struct Slices<'a>(HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>);

impl<'a> Slices<'a> {
    pub(super) fn by_service(slices: &'a [Arc<EndpointSlice>]) -> Slices<'a> {
        let mut by_service: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
        for slice in slices {
            let label = slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(SERVICE_LABEL));
            if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, label) {
                by_service
                    .entry((namespace.as_str(), service.as_str()))
                    .or_default()
                    .push(slice);
            }
        }
        Slices(by_service)
    }

    fn of<'b>(&'b self, service: &'b Service) -> &'b [&'b EndpointSlice] {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        self.0.get(&(namespace, name)).map_or(&[], Vec::as_slice)
    }
}

/// Sorted. A pod of a dual-stack Service has one address here, of the Service's first family: two would count it twice.
pub(super) fn of_port(
    service: &Service,
    port: &ServicePort,
    slices: &Slices<'_>,
) -> Vec<PodEndpoint> {
    let family = first_family(service);
    let of_family = slices
        .of(service)
        .iter()
        .filter(|slice| slice.address_type == family);
    let mut found: Vec<PodEndpoint> = of_family
        .flat_map(|slice| {
            let number = slice_port(slice, port);
            slice
                .endpoints
                .iter()
                .flatten()
                .filter_map(move |each| pod_endpoint(each, number?))
        })
        .collect();
    // Healthy sorts before draining: an address that two slices list while it moves between them stays usable.
    found.sort();
    found.dedup_by_key(|each| each.endpoint.address);
    found
}

fn first_family(service: &Service) -> &str {
    let spec = service.spec.as_ref();
    if let Some(family) = spec.and_then(|spec| spec.ip_families.as_ref()?.first()) {
        return family;
    }
    match spec.and_then(|spec| spec.cluster_ip.as_ref()?.parse::<IpAddr>().ok()) {
        Some(IpAddr::V6(_)) => "IPv6",
        Some(IpAddr::V4(_)) | None => "IPv4",
    }
}

/// The number of the port in this slice; a named target port differs from pod to pod, so each slice has its own.
fn slice_port(slice: &EndpointSlice, port: &ServicePort) -> Option<u16> {
    let wanted = port.name.as_deref().unwrap_or_default();
    let ports = slice.ports.as_deref().unwrap_or_default();
    let found = ports
        .iter()
        .find(|each| each.name.as_deref().unwrap_or_default() == wanted)?;
    u16::try_from(found.port?)
        .ok()
        .filter(|&number| number != 0)
}

/// All addresses of an endpoint are the same pod; the first is used, as kube-proxy does.
fn pod_endpoint(endpoint: &SliceEndpoint, port: u16) -> Option<PodEndpoint> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let pod = endpoint
        .target_ref
        .as_ref()
        .filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(PodEndpoint {
        endpoint: Endpoint {
            address: SocketAddr::new(address, port),
            health: health(endpoint)?,
        },
        pod: pod.and_then(|target| target.name.clone()),
    })
}

/// Absent conditions mean ready, says the API.
fn health(endpoint: &SliceEndpoint) -> Option<Health> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|each| each.ready).unwrap_or(true);
    let serving = conditions.and_then(|each| each.serving).unwrap_or(ready);
    let terminating = conditions
        .and_then(|each| each.terminating)
        .unwrap_or(false);
    match (ready, serving && terminating) {
        (true, _) => Some(Health::Healthy),
        (false, true) => Some(Health::Draining),
        (false, false) => None,
    }
}
