//! Which connections are taken and made: limits for all, for each peer, and for untrusted peers by address and subnet.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished, dummy,
    },
};

use crate::{
    config::ConnectionConfig,
    ip::{Host, Subnet},
    metrics,
    operator::{BlockList, Blocked, IpRange},
};

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("its address is banned")]
    Banned,
    #[error("the operator refuses it")]
    Blocked,
    #[error("no place for more inbound connections")]
    Inbound,
    #[error("no place for more outbound connections")]
    Outbound,
    #[error("no place for more dials")]
    Dials,
    #[error("no more connections to this peer")]
    Peer,
    #[error("no more inbound connections from this address")]
    Host,
    #[error("no more inbound connections from this subnet")]
    Subnet,
}

impl Refused {
    /// A short label for metrics.
    const fn label(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Blocked => "blocked",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Dials => "dials",
            Self::Peer => "peer",
            Self::Host => "address",
            Self::Subnet => "subnet",
        }
    }
}

/// Keeps connections within their limits. Static and trusted peers have places of their own: they are refused
/// nothing but a banned address, and take no place of anybody. Whom the operator has blocked is refused in any case.
pub(crate) struct Admission {
    limits: ConnectionConfig,
    protected: HashSet<PeerId>,
    banned: HashSet<Host>,
    pub(crate) blocked: BlockList,
    open: HashMap<ConnectionId, Open>,
    dials: HashSet<ConnectionId>,
}

#[derive(Debug)]
struct Open {
    peer: PeerId,
    inbound: bool,
    address: Multiaddr,
    host: Option<Host>,
    subnet: Option<Subnet>,
}

impl Open {
    fn new(peer: PeerId, inbound: bool, address: &Multiaddr) -> Self {
        let (host, subnet) = (Host::at(address), Subnet::at(address));
        Self { peer, inbound, address: address.clone(), host, subnet }
    }
}

impl Admission {
    pub(crate) fn new(limits: ConnectionConfig) -> Self {
        Self {
            limits,
            protected: HashSet::new(),
            banned: HashSet::new(),
            blocked: BlockList::default(),
            open: HashMap::new(),
            dials: HashSet::new(),
        }
    }

    /// Refuses whoever is outside these ranges, if there are any.
    pub(crate) fn restricted_to(self, ranges: Vec<IpRange>) -> Self {
        Self { blocked: BlockList::only(ranges), ..self }
    }

    /// A static or trusted peer.
    pub(crate) fn protect(&mut self, peer: PeerId) {
        self.protected.insert(peer);
    }

    /// A peer that is static or trusted no more.
    pub(crate) fn unprotect(&mut self, peer: &PeerId) {
        self.protected.remove(peer);
    }

    /// The connected peers that an entry of the block list is about.
    pub(crate) fn connected(&self, entry: &Blocked) -> Vec<PeerId> {
        let affected = self.open.values().filter(|open| match entry {
            Blocked::Peer(peer) => open.peer == *peer,
            Blocked::Subnet(range) => range.has(&open.address),
        });
        affected.map(|open| open.peer).collect()
    }

    /// The hosts that are refused, in place of those named before.
    pub(crate) fn refuse(&mut self, hosts: HashSet<Host>) {
        self.banned = hosts;
    }

    /// The hosts at which static and trusted peers are connected.
    pub(crate) fn protected_hosts(&self) -> impl Iterator<Item = Host> {
        self.open.values().filter(|open| self.protected.contains(&open.peer)).filter_map(|open| open.host)
    }

    fn admit(&self, new: &Open) -> Result<(), Refused> {
        if self.blocked.has_peer(new.peer) || self.blocked.has_address(&new.address) {
            return Err(Refused::Blocked);
        }
        if self.protected.contains(&new.peer) {
            return Ok(());
        }
        let count = |wanted: &dyn Fn(&Open) -> bool| {
            let untrusted = self.open.values().filter(|open| !self.protected.contains(&open.peer));
            untrusted.filter(|open| wanted(open)).count()
        };
        let limits = &self.limits;
        if count(&|open| open.peer == new.peer) >= limits.max_per_peer as usize {
            return Err(Refused::Peer);
        }
        if !new.inbound {
            let made = count(&|open| !open.inbound);
            return if made < limits.max_outbound as usize { Ok(()) } else { Err(Refused::Outbound) };
        }
        if count(&|open| open.inbound) >= limits.max_inbound as usize {
            return Err(Refused::Inbound);
        }
        if new.host.is_none_or(|host| !limits.tells_apart(host)) {
            return Ok(());
        }
        if count(&|open| open.inbound && open.host == new.host) >= limits.max_inbound_per_ip.get() {
            return Err(Refused::Host);
        }
        if count(&|open| open.inbound && open.subnet == new.subnet) >= limits.max_inbound_per_subnet.get() {
            return Err(Refused::Subnet);
        }
        Ok(())
    }
}

fn deny(refused: Refused) -> ConnectionDenied {
    metrics::connection_refused(refused.label());
    ConnectionDenied::new(refused)
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if Host::at(remote).is_some_and(|host| self.banned.contains(&host)) {
            return Err(deny(Refused::Banned));
        }
        if self.blocked.has_address(remote) {
            return Err(deny(Refused::Blocked));
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&Open::new(peer, true, remote)).map_err(deny)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let is_nowhere_else =
            !addresses.is_empty() && addresses.iter().all(|at| self.blocked.has_address(at));
        if is_nowhere_else || peer.is_some_and(|peer| self.blocked.has_peer(peer)) {
            return Err(deny(Refused::Blocked));
        }
        if peer.is_some_and(|peer| self.protected.contains(&peer)) {
            return Ok(Vec::new());
        }
        if self.dials.len() >= self.limits.max_pending as usize {
            return Err(deny(Refused::Dials));
        }
        self.dials.insert(id);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dials.remove(&id);
        self.admit(&Open::new(peer, false, address)).map_err(deny)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                connection_id,
                peer_id,
                endpoint,
                ..
            }) => {
                let open = Open::new(peer_id, endpoint.is_listener(), endpoint.get_remote_address());
                self.open.insert(connection_id, open);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.open.remove(&connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.dials.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    struct Rig {
        admission: Admission,
        next: usize,
    }

    impl Rig {
        fn new(change: impl FnOnce(&mut ConnectionConfig)) -> Self {
            let mut limits = ConnectionConfig::default();
            change(&mut limits);
            Self { admission: Admission::new(limits), next: 0 }
        }

        fn comes(&mut self, peer: PeerId, inbound: bool, address: &str) -> Result<(), Refused> {
            let open = Open::new(peer, inbound, &address.parse().unwrap());
            self.admission.admit(&open)?;
            self.next += 1;
            self.admission.open.insert(ConnectionId::new_unchecked(self.next), open);
            Ok(())
        }

        fn untrusted(&mut self, address: &str) -> Result<(), Refused> {
            self.comes(PeerId::random(), true, address)
        }
    }

    #[test]
    fn many_keys_of_one_host_get_the_places_of_one_host() {
        let mut rig = Rig::new(|limits| limits.max_inbound_per_ip = 2.try_into().unwrap());
        for port in 1..=2 {
            rig.untrusted(&format!("/ip4/1.1.1.1/tcp/{port}")).unwrap();
        }
        assert_eq!(rig.untrusted("/ip4/1.1.1.1/tcp/3"), Err(Refused::Host));
        rig.untrusted("/ip4/1.1.1.2/tcp/3").unwrap();
        // The /64 of an IPv6 host is one address, whatever the transport.
        for port in 1..=2 {
            rig.untrusted(&format!("/ip6/2600::{port}/tcp/1")).unwrap();
        }
        assert_eq!(rig.untrusted("/ip6/2600::3/udp/1/quic-v1"), Err(Refused::Host));
    }

    #[test]
    fn a_subnet_gets_its_share_and_no_more() {
        let mut rig = Rig::new(|limits| limits.max_inbound_per_subnet = 3.try_into().unwrap());
        for host in 1..=3 {
            rig.untrusted(&format!("/ip4/1.1.1.{host}/tcp/1")).unwrap();
        }
        assert_eq!(rig.untrusted("/ip4/1.1.1.4/tcp/1"), Err(Refused::Subnet));
        rig.untrusted("/ip4/1.1.2.4/tcp/1").unwrap();
    }

    #[test]
    fn whoever_is_outside_the_ranges_is_neither_taken_nor_dialled() {
        let mut rig = Rig::new(|_| ());
        rig.admission = rig.admission.restricted_to(vec!["10.0.0.0/8".parse().unwrap()]);
        let (peer, outside) = (PeerId::random(), "/ip4/11.0.0.1/tcp/1");
        rig.admission.protect(peer);
        assert_eq!(rig.untrusted(outside), Err(Refused::Blocked));
        assert_eq!(rig.comes(peer, false, outside), Err(Refused::Blocked), "a static peer, too");
        rig.untrusted("/ip4/10.0.0.1/tcp/1").unwrap();
        let mut dial = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|at| at.parse().unwrap()).collect();
            let id = ConnectionId::new_unchecked(100);
            rig.admission.handle_pending_outbound_connection(id, None, &addresses, Endpoint::Dialer).is_ok()
        };
        assert!(!dial(&[outside]));
        assert!(dial(&[outside, "/ip4/10.0.0.1/tcp/1"]) && dial(&["/dns4/a.example/tcp/1"]) && dial(&[]));
    }

    #[test]
    fn private_addresses_are_told_apart_only_when_asked_for() {
        let one = NonZeroUsize::MIN;
        let mut rig = Rig::new(|limits| limits.max_inbound_per_ip = one);
        for _ in 0..10 {
            rig.untrusted("/ip4/10.0.0.1/tcp/1").unwrap();
        }
        let mut rig = Rig::new(|limits| {
            limits.max_inbound_per_ip = one;
            limits.limit_private = true;
        });
        rig.untrusted("/ip4/10.0.0.1/tcp/1").unwrap();
        assert_eq!(rig.untrusted("/ip4/10.0.0.1/tcp/1"), Err(Refused::Host));
    }

    #[test]
    fn protected_peers_come_whatever_is_full_and_take_no_place() {
        let mut rig = Rig::new(|limits| (limits.max_inbound, limits.max_outbound) = (1, 1));
        let fixed = PeerId::random();
        rig.admission.protect(fixed);
        for inbound in [true, false] {
            rig.comes(fixed, inbound, "/ip4/1.1.1.1/tcp/1").unwrap();
        }
        rig.untrusted("/ip4/1.1.1.1/tcp/2").unwrap();
        assert_eq!(rig.untrusted("/ip4/1.1.2.1/tcp/2"), Err(Refused::Inbound));
        rig.comes(PeerId::random(), false, "/ip4/1.1.3.1/tcp/1").unwrap();
        assert_eq!(rig.comes(PeerId::random(), false, "/ip4/1.1.4.1/tcp/1"), Err(Refused::Outbound));
        rig.comes(fixed, true, "/ip4/1.1.1.1/tcp/3").unwrap();
        assert_eq!(rig.admission.protected_hosts().count(), 3);
    }

    #[test]
    fn one_peer_has_two_connections_and_no_more() {
        let mut rig = Rig::new(|_| ());
        let peer = PeerId::random();
        rig.comes(peer, true, "/ip4/1.1.1.1/tcp/1").unwrap();
        rig.comes(peer, false, "/ip4/1.1.1.1/tcp/1").unwrap();
        assert_eq!(rig.comes(peer, true, "/ip4/1.1.1.1/tcp/1"), Err(Refused::Peer));
    }

    #[test]
    fn a_peer_has_no_more_connections_than_are_set() {
        for most in [1, 3] {
            let mut rig = Rig::new(|limits| limits.max_per_peer = most);
            let peer = PeerId::random();
            let comes = |rig: &mut Rig| rig.comes(peer, false, "/ip4/1.1.1.1/tcp/1");
            assert!((0..most).all(|_| comes(&mut rig).is_ok()), "{most}");
            assert_eq!(comes(&mut rig), Err(Refused::Peer));
        }
    }

    #[test]
    fn dials_under_way_are_bounded_but_for_protected_peers() {
        let mut rig = Rig::new(|limits| limits.max_pending = 2);
        let (fixed, address) = (PeerId::random(), "/ip4/1.1.1.1/tcp/1".parse().unwrap());
        rig.admission.protect(fixed);
        let dial = |rig: &mut Rig, id, peer| {
            let id = ConnectionId::new_unchecked(id);
            let dialler = Endpoint::Dialer;
            rig.admission.handle_pending_outbound_connection(id, peer, &[], dialler).is_ok()
        };
        assert!(dial(&mut rig, 1, None) && dial(&mut rig, 2, Some(PeerId::random())));
        assert!(!dial(&mut rig, 3, None) && dial(&mut rig, 4, Some(fixed)));
        // One that has ended makes room.
        let (id, port) = (ConnectionId::new_unchecked(2), PortUse::New);
        let stands = rig.admission.handle_established_outbound_connection(
            id,
            PeerId::random(),
            &address,
            Endpoint::Dialer,
            port,
        );
        assert!(stands.is_ok() && dial(&mut rig, 5, None) && !dial(&mut rig, 6, None));
    }

    #[test]
    fn a_banned_address_is_refused_until_it_is_not_named_any_more() {
        let mut rig = Rig::new(|_| ());
        let address: Multiaddr = "/ip4/1.1.1.1/tcp/1".parse().unwrap();
        let comes = |rig: &mut Rig| {
            let id = ConnectionId::new_unchecked(1);
            rig.admission.handle_pending_inbound_connection(id, &Multiaddr::empty(), &address).is_ok()
        };
        rig.admission.refuse(HashSet::from([Host::at(&address).unwrap()]));
        assert!(!comes(&mut rig));
        rig.admission.refuse(HashSet::new());
        assert!(comes(&mut rig));
    }
}
