//! xDS v3 for Aviary: wire types to and from `traffic-core`'s validated twins, and both ends of delta ADS as state machines
//! without I/O. Nothing else in the workspace names a wire type; the shells move [`Request`]s and [`Response`]s, which are
//! opaque to them.
//!
//! - [`route`] with [`bounds`] and [`sticky`], [`cluster`], [`listener`], [`node`], [`load`], [`identity`]: one boundary each, both directions, round-trip tested.
//! - [`resources`]: a world, encoded once and versioned by content, so that a restarted control plane re-sends nothing.
//! - [`server`]: one proxy's stream as the control plane sees it. [`client`]: the same stream as the proxy sees it.
//!
//! Not here: state-of-the-world xDS and wildcard subscriptions (stock Envoy needs them).

mod address;
pub mod bounds;
pub mod client;
pub mod cluster;
mod faults;
pub mod identity;
pub mod kind;
pub mod listener;
pub mod load;
mod metadata;
pub mod node;
pub mod resources;
mod retries;
pub mod route;
pub mod server;
mod sticky;
mod time;

pub use client::DeltaClient;
pub use kind::Kind;
pub use node::Node;
pub use resources::Resources;
pub use server::DeltaServer;

/// What a proxy sends on a delta stream.
pub type Request = envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
/// What the control plane sends on a delta stream.
pub type Response = envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;

/// The gRPC service, for the two shells that carry the messages.
pub mod grpc {
    pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Client;
    pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
        AggregatedDiscoveryService as Service, AggregatedDiscoveryServiceServer as Server,
    };
    /// State of the world: only there to be refused.
    pub use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
}
