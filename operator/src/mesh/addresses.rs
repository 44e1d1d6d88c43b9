//! Which Service has which address: two cannot share one, save for a moment when one takes the other's place. The first by
//! name has it then.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::key::Key;

#[derive(Debug, Default)]
pub struct Addresses {
    /// Sorted.
    claimed: HashMap<SocketAddr, Vec<Key>>,
    of: HashMap<Key, Vec<SocketAddr>>,
}

impl Addresses {
    /// The Service has these addresses from now on. Who else claims one that it got or gave up is in the answer.
    pub fn set(&mut self, service: &Key, addresses: Vec<SocketAddr>) -> Vec<Key> {
        let before = if addresses.is_empty() {
            self.of.remove(service).unwrap_or_default()
        } else {
            self.of
                .insert(service.clone(), addresses.clone())
                .unwrap_or_default()
        };
        if before == addresses {
            return Vec::new();
        }
        let mut others = Vec::new();
        for address in &before {
            if let Some(claims) = self.claimed.get_mut(address) {
                claims.retain(|each| each != service);
                others.extend(claims.iter().cloned());
                if claims.is_empty() {
                    self.claimed.remove(address);
                }
            }
        }
        for address in addresses {
            let claims = self
                .claimed
                .entry(address)
                .or_insert_with(|| Vec::with_capacity(1));
            others.extend(claims.iter().cloned());
            if let Err(place) = claims.binary_search(service) {
                claims.insert(place, service.clone());
            }
        }
        others
    }

    pub fn owns(&self, service: &Key, address: SocketAddr) -> bool {
        self.claimed.get(&address).and_then(|claims| claims.first()) == Some(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_name_has_an_address_and_the_other_hears_when_it_is_free() {
        let mut addresses = Addresses::default();
        let (a, b) = (Key::new("shop", "a"), Key::new("shop", "b"));
        let one = SocketAddr::from(([10, 0, 0, 1], 80));
        assert!(addresses.set(&b, vec![one]).is_empty() && addresses.owns(&b, one));
        assert_eq!(addresses.set(&a, vec![one]), std::slice::from_ref(&b));
        assert!(addresses.owns(&a, one) && !addresses.owns(&b, one));
        assert!(addresses.set(&a, vec![one]).is_empty(), "nothing changed");
        assert_eq!(addresses.set(&a, Vec::new()), std::slice::from_ref(&b));
        assert!(addresses.owns(&b, one));
        addresses.set(&b, Vec::new());
        assert!(addresses.claimed.is_empty() && addresses.of.is_empty());
    }
}
