//! Which peers are known, in all, at each host and in each subnet, so that nobody has to be looked for among all records.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use libp2p::{Multiaddr, PeerId};

use crate::ip::{Host, Subnet};

/// The peers of which addresses are known, by where these are.
#[derive(Debug, Default)]
pub(super) struct KnownIndex {
    all: BTreeSet<PeerId>,
    at_host: HashMap<Host, BTreeSet<PeerId>>,
    in_subnet: HashMap<Subnet, BTreeSet<PeerId>>,
}

impl KnownIndex {
    pub(super) fn insert(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.all.insert(peer);
        for host in addresses.iter().filter_map(Host::at) {
            self.at_host.entry(host).or_default().insert(peer);
        }
        for subnet in addresses.iter().filter_map(Subnet::at) {
            self.in_subnet.entry(subnet).or_default().insert(peer);
        }
    }

    /// The addresses are those with which it was inserted.
    pub(super) fn remove(&mut self, peer: &PeerId, addresses: &[Multiaddr]) {
        self.all.remove(peer);
        addresses.iter().filter_map(Host::at).for_each(|host| remove(&mut self.at_host, host, peer));
        addresses.iter().filter_map(Subnet::at).for_each(|subnet| remove(&mut self.in_subnet, subnet, peer));
    }

    pub(super) const fn all(&self) -> &BTreeSet<PeerId> {
        &self.all
    }

    pub(super) fn at_host(&self, host: Host) -> Option<&BTreeSet<PeerId>> {
        self.at_host.get(&host)
    }

    pub(super) fn in_subnet(&self, subnet: Subnet) -> Option<&BTreeSet<PeerId>> {
        self.in_subnet.get(&subnet)
    }
}

fn remove<K: Eq + Hash>(map: &mut HashMap<K, BTreeSet<PeerId>>, key: K, peer: &PeerId) {
    if let Some(peers) = map.get_mut(&key) {
        peers.remove(peer);
        if peers.is_empty() {
            map.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_leaves_nothing() {
        let addresses = ["/ip4/1.1.1.1/tcp/1", "/ip4/1.1.1.1/tcp/2", "/ip4/1.1.1.2/tcp/1", "/dns4/a.b/tcp/1"];
        let addresses = addresses.map(|address| address.parse::<Multiaddr>().unwrap());
        let (mut index, [one, other]) = (KnownIndex::default(), [(); 2].map(|()| PeerId::random()));
        index.insert(one, &addresses);
        index.insert(other, &addresses[..1]);
        let [host, second] = [0, 2].map(|place: usize| Host::at(&addresses[place]).unwrap());
        let subnet = Subnet::at(&addresses[0]).unwrap();
        let both = BTreeSet::from([one, other]);
        assert_eq!(
            (index.all(), index.at_host(host), index.in_subnet(subnet)),
            (&both, Some(&both), Some(&both))
        );
        assert_eq!(index.at_host(second), Some(&BTreeSet::from([one])));
        index.remove(&one, &addresses);
        let left = BTreeSet::from([other]);
        assert_eq!(
            (index.all(), index.at_host(host), index.in_subnet(subnet)),
            (&left, Some(&left), Some(&left))
        );
        index.remove(&other, &addresses[..1]);
        assert!(index.all.is_empty() && index.at_host.is_empty() && index.in_subnet.is_empty());
    }
}
