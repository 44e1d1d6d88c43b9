//! An IP address with its port, as Envoy's Address.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3 as wire;
use envoy_types::pb::envoy::config::core::v3::address::Address as Any;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;

pub(crate) fn encode(address: SocketAddr) -> wire::Address {
    let socket = wire::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..wire::SocketAddress::default()
    };
    wire::Address {
        address: Some(Any::SocketAddress(socket)),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddressProblem {
    None,
    NotIp(String),
    Port(u32),
}

pub(crate) fn decode(address: Option<&wire::Address>) -> Result<SocketAddr, AddressProblem> {
    let Some(Any::SocketAddress(socket)) = address.and_then(|it| it.address.as_ref()) else {
        return Err(AddressProblem::None);
    };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return Err(AddressProblem::None);
    };
    let ip: IpAddr = socket
        .address
        .parse()
        .map_err(|_| AddressProblem::NotIp(socket.address.clone()))?;
    match u16::try_from(port) {
        Ok(number) if number > 0 => Ok(SocketAddr::new(ip, number)),
        Ok(_) | Err(_) => Err(AddressProblem::Port(port)),
    }
}
