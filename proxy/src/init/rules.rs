//! The redirect rules as text for `nft -f -`.
//!
//! - In: every TCP connection to an address of the pod's own goes to the inbound port, but for health and metrics and the ports that are left out. A
//!   neighbour on the link can send packets for any address to the pod: what is for others is not the sidecar's, which refuses it besides.
//! - Out: every TCP connection goes to the outbound port, but for the proxy's own (by UID: else it would loop), those that stay in the pod
//!   (loopback, the pod's own address), and the ports and networks that are left out.
//! - Back in: where the proxy has picked its own pod for a call of the application's, it says so by the connection's priority, which never leaves
//!   the pod. That connection goes to the inbound port like any other caller's: else such calls would be counted and held by nothing.
//!
//! The priority is written as a number: older nft knows the name `dstnat` in prerouting only.
//! A table that is declared, deleted and declared again is replaced in one transaction, whether it existed or not.

use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;

use crate::net::connect::HAIRPIN_PRIORITY;
use traffic_core::contract::{HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY_UID};

/// What to send through the proxy, and what not.
#[derive(Clone, Debug)]
pub struct Redirect {
    pub uid: u32,
    pub outbound_port: u16,
    pub inbound_port: u16,
    /// Never redirected inbound: the proxy answers there itself.
    pub admin_port: u16,
    pub skip_inbound_ports: Vec<u16>,
    pub skip_outbound_ports: Vec<u16>,
    pub skip_outbound_cidrs: Vec<Cidr>,
}

impl Default for Redirect {
    fn default() -> Redirect {
        Redirect {
            uid: PROXY_UID,
            outbound_port: OUTBOUND_PORT,
            inbound_port: INBOUND_PORT,
            admin_port: HEALTH_PORT,
            skip_inbound_ports: vec![],
            skip_outbound_ports: vec![],
            skip_outbound_cidrs: vec![],
        }
    }
}

/// A network, such as `10.0.0.0/8` or `fd00::/8`; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: write it like 10.0.0.0/8 or fd00::/8")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Cidr, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.trim().parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .map_or(Ok(most), |p| p.trim().parse())
            .map_err(|_| invalid())?;
        if prefix > most {
            Err(invalid())
        } else {
            Ok(Cidr { address, prefix })
        }
    }
}

/// Whether the kernel is asked which addresses are the pod's own, by an expression (`fib`) that a kernel can be built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    Asked,
    /// The sidecar alone refuses what is for others.
    NotAsked,
}

/// The whole transaction.
pub fn render(redirect: &Redirect, own: Own) -> String {
    let strangers = match own {
        Own::Asked => "    fib daddr type != local return\n",
        Own::NotAsked => "",
    };
    let mut inbound = vec![redirect.admin_port];
    inbound.extend(&redirect.skip_inbound_ports);
    let mut text = format!(
        "table inet aviary\n\
         delete table inet aviary\n\
         table inet aviary {{\n\
         \x20 chain inbound {{\n\
         \x20   type nat hook prerouting priority -100; policy accept;\n\
         \x20   iifname \"lo\" return\n\
         {strangers}\
         \x20   tcp dport {} return\n\
         \x20   meta l4proto tcp redirect to :{}\n\
         \x20 }}\n\
         \x20 chain outbound {{\n\
         \x20   type nat hook output priority -100; policy accept;\n\
         \x20   meta skuid {} oifname \"lo\" meta priority 0:{} meta l4proto tcp redirect to :{}\n\
         \x20   meta skuid {} return\n\
         \x20   oifname \"lo\" return\n",
        set(&inbound),
        redirect.inbound_port,
        redirect.uid,
        HAIRPIN_PRIORITY,
        redirect.inbound_port,
        redirect.uid,
    );
    if !redirect.skip_outbound_ports.is_empty() {
        line(
            &mut text,
            format_args!("tcp dport {} return", set(&redirect.skip_outbound_ports)),
        );
    }
    for cidr in &redirect.skip_outbound_cidrs {
        let family = if cidr.address.is_ipv4() { "ip" } else { "ip6" };
        line(
            &mut text,
            format_args!("{family} daddr {}/{} return", cidr.address, cidr.prefix),
        );
    }
    line(
        &mut text,
        format_args!("meta l4proto tcp redirect to :{}", redirect.outbound_port),
    );
    text.push_str("  }\n}\n");
    text
}

fn line(text: &mut String, rule: std::fmt::Arguments<'_>) {
    writeln!(text, "    {rule}").expect("writing to a String cannot fail");
}

/// nft refuses a set that names an element twice.
fn set(ports: &[u16]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rules_are_these() {
        assert_eq!(
            render(&Redirect::default(), Own::Asked),
            r#"table inet aviary
delete table inet aviary
table inet aviary {
  chain inbound {
    type nat hook prerouting priority -100; policy accept;
    iifname "lo" return
    fib daddr type != local return
    tcp dport { 15020 } return
    meta l4proto tcp redirect to :15006
  }
  chain outbound {
    type nat hook output priority -100; policy accept;
    meta skuid 2102 oifname "lo" meta priority 0:6 meta l4proto tcp redirect to :15006
    meta skuid 2102 return
    oifname "lo" return
    meta l4proto tcp redirect to :15001
  }
}
"#
        );
    }

    #[test]
    fn what_is_left_out_returns_before_the_redirect() {
        let redirect = Redirect {
            skip_inbound_ports: vec![9090, 15020, 22],
            skip_outbound_ports: vec![5432, 3306],
            skip_outbound_cidrs: vec![
                "169.254.0.0/16".parse().unwrap(),
                "fd00::1".parse().unwrap(),
            ],
            ..Redirect::default()
        };
        let text = render(&redirect, Own::NotAsked);
        assert!(!text.contains("fib"), "{text}");
        let position = |rule: &str| {
            text.find(rule)
                .unwrap_or_else(|| panic!("no `{rule}` in {text}"))
        };
        assert!(position("tcp dport { 22, 9090, 15020 } return") < position("redirect to :15006"));
        for rule in [
            "tcp dport { 3306, 5432 } return",
            "ip daddr 169.254.0.0/16 return",
            "ip6 daddr fd00::1/128 return",
        ] {
            assert!(position(rule) < position("redirect to :15001"));
        }
    }

    #[test]
    fn nonsense_is_no_network() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "10.0.0.0/-1",
            "web",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
