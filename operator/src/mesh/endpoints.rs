//! The endpoints of one port of one Service, each with the pod behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use traffic_core::config::{Endpoint, Health};

use crate::key::Key;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodEndpoint {
    pub(super) endpoint: Endpoint,
    /// `None`: something that is no pod.
    pub(super) pod: Option<String>,
}

/// The Service that a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(Key::new(slice.metadata.namespace.clone()?, service))
}

/// The pods behind a slice.
pub fn pods_of(slice: &EndpointSlice) -> impl Iterator<Item = Key> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    slice
        .endpoints
        .iter()
        .flatten()
        .filter_map(move |each| Some(Key::new(namespace, pod(each)?)))
}

/// Sorted. A pod of a dual-stack Service has one address here, of the Service's first family: two would count it twice.
pub(super) fn of_port(
    service: &Service,
    port: &ServicePort,
    slices: &[Arc<EndpointSlice>],
) -> Vec<PodEndpoint> {
    let family = first_family(service);
    let of_family = slices.iter().filter(|slice| slice.address_type == family);
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
    Some(PodEndpoint {
        endpoint: Endpoint {
            address: SocketAddr::new(address, port),
            health: health(endpoint)?,
            identity: None,
            workload: None,
        },
        pod: pod(endpoint).map(str::to_owned),
    })
}

fn pod(endpoint: &SliceEndpoint) -> Option<&str> {
    let target = endpoint.target_ref.as_ref();
    let pod = target.filter(|target| target.kind.as_deref() == Some("Pod"));
    pod?.name.as_deref()
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
