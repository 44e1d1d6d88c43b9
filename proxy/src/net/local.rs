//! Which addresses are this pod's own.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{IpAddr, UdpSocket};

/// More than a pod has; a node's network can have many.
const MOST: usize = 256;

/// Asks the kernel, which lets a socket be bound to local addresses only, and remembers those that are.
#[derive(Debug, Default)]
pub struct Local(RefCell<HashSet<IpAddr>>);

impl Local {
    pub fn contains(&self, ip: IpAddr) -> bool {
        if self.0.borrow().contains(&ip) {
            return true;
        }
        let is_local = !ip.is_multicast() && UdpSocket::bind((ip, 0)).is_ok();
        let mut known = self.0.borrow_mut();
        if is_local && known.len() < MOST {
            known.insert(ip);
        }
        is_local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        let local = Local::default();
        for _ in 0..2 {
            assert!(local.contains("127.0.0.1".parse().unwrap()));
            assert!(!local.contains("192.0.2.1".parse().unwrap()));
        }
    }
}
