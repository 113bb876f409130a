//! Assigns each interface the index of its entry in the map of interfaces. Packets look for the entry at a few
//! indices only.

use std::collections::BTreeMap;

use crate::instance::links::interface_name;
use crate::model::abi::consts;
use crate::model::error::Error;
use crate::model::error::Result;

/// The indices that are taken, and the interfaces that have them.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterfacePlaces(pub(super) BTreeMap<u32, u32>);

impl InterfacePlaces {
    /// Gives an interface an index, unless it has one already.
    pub(crate) fn put(&mut self, ifindex: u32) -> Result<u32> {
        let mut free = None;
        let mut in_the_way = Vec::new();
        for n in 0..consts::INTERFACE_PROBES {
            let place = ifindex.wrapping_add(n) % consts::INTERFACE_PLACES;
            match self.0.get(&place) {
                Some(holder) if *holder == ifindex => return Ok(place),
                Some(holder) => in_the_way.push(*holder),
                None => free = free.or(Some(place)),
            }
        }
        let named = |ifindex: u32| match interface_name(ifindex) {
            Some(name) => format!("{name} ({ifindex})"),
            None => format!("index {ifindex}"),
        };
        let Some(place) = free else {
            return Err(Error::InterfaceTable {
                interface: interface_name(ifindex).unwrap_or_default(),
                ifindex,
                in_the_way: in_the_way.into_iter().map(named).collect(),
            });
        };
        self.0.insert(place, ifindex);
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_share_their_places() {
        let mut places = InterfacePlaces::default();
        let index = |n: u32| 7 + n * consts::INTERFACE_PLACES;
        for n in 0..consts::INTERFACE_PROBES {
            assert_eq!(places.put(index(n)).unwrap(), 7 + n);
            assert_eq!(places.put(index(n)).unwrap(), 7 + n, "it has it already");
        }
        let error = places.put(index(8)).unwrap_err();
        let Error::InterfaceTable { in_the_way, .. } = error else { panic!("{error}") };
        assert_eq!(in_the_way.len(), 8);
        // The last index is followed by the first.
        let last = consts::INTERFACE_PLACES - 1;
        assert_eq!(places.put(last).unwrap(), last);
        assert_eq!(places.put(2 * consts::INTERFACE_PLACES - 1).unwrap(), 0);
        assert!(places.put(u32::MAX).is_ok());
    }
}
