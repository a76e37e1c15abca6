//! gossipsub behind a filter: what it must not know, and what it does not tell.
//!
//! gossipsub puts a message into its caches under an id in which the topic has no part (§2). So a copy of a genuine
//! message on another topic would suppress it. Everything that is on a topic that we do not know, or has not the form of
//! its topic, is refused by the [`Form`] that gossipsub asks before it computes the id: nothing of it is kept, gossipsub
//! counts an invalid delivery where it knows the topic, and the sender is told to the service as a [`Refusal`].
//!
//! gossipsub remembers each IP address that a peer has ever had, for a score of crowded addresses that is not used: no limit
//! of addresses would be one. So it learns of no address.
//!
//! A connection is given up by gossipsub's handler where the protocol is refused, as it is by whoever resets a stream before
//! it is agreed on, and without a word where streams have failed five times. Nobody reads the queue of its peer any more. The
//! [`Handler`] sees both and tells, so that the connection can be closed as soon as something is queued for its peer.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    gossipsub::{self, DataTransform, RawMessage, TopicHash, WhitelistSubscriptionFilter},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
        behaviour::{ConnectionClosed, ConnectionEstablished},
        handler::{ConnectionEvent, DialUpgradeError},
    },
};
use preconfirmation_types::{Bytes, Offence, Topic};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::{
    gossip::{Topics, decode},
    iwant::IwantLimit,
    metrics,
};

/// gossipsub's own limit for the streams of a connection, each way (`MAX_SUBSTREAM_ATTEMPTS`): with the fifth, its
/// handler gives the connection up.
const STREAM_ATTEMPTS: usize = 5;

/// How often a handler is woken, whatever happens.
const WAKE_EVERY: Duration = Duration::from_secs(1);

/// Most events that wait to be told. They are told at the next poll, so there are few; one more is dropped and counted.
const EVENTS: usize = 1024;

/// gossipsub with a [`Form`].
pub(crate) type Stack = gossipsub::Behaviour<Form, WhitelistSubscriptionFilter>;

/// What a handler of gossipsub tells it. libp2p does not export the type by name.
type HandlerEvent = <THandler<Stack> as ConnectionHandler>::ToBehaviour;

/// Messages of a peer that were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) peer: PeerId,
    /// None: a topic that we do not know.
    pub(crate) topic: Option<Topic>,
    pub(crate) offence: Offence,
    pub(crate) messages: u32,
}

/// Says which messages have the form of their topic.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    topics: Topics,
    max_txlist_bytes: usize,
    shared: Arc<Mutex<Shared>>,
}

/// gossipsub does not tell its transform who sent a message; the behaviour does.
#[derive(Debug, Default)]
struct Shared {
    /// Whose frame gossipsub works on.
    sender: Option<PeerId>,
    refused: Vec<Refusal>,
}

impl Form {
    pub(crate) fn new(topics: Topics, max_txlist_bytes: usize) -> Self {
        Self { topics, max_txlist_bytes, shared: Arc::default() }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, topic: Option<Topic>, offence: Offence) -> io::Error {
        let mut shared = self.shared();
        if let Some(peer) = shared.sender {
            match shared.refused.last_mut() {
                Some(last) if (last.topic, last.offence) == (topic, offence) => {
                    last.messages = last.messages.saturating_add(1);
                }
                // As many as a frame has messages at most.
                _ => shared.refused.push(Refusal { peer, topic, offence, messages: 1 }),
            }
        }
        io::ErrorKind::InvalidData.into()
    }
}

impl DataTransform for Form {
    fn inbound_transform(&self, raw: RawMessage) -> io::Result<gossipsub::Message> {
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        let Some(known) = self.topics.topic(&topic) else {
            return Err(self.refuse(None, Offence::Malformed));
        };
        // gossipsub asks before it looks whether it has the message.
        metrics::copied(known);
        let data = Bytes::from(data);
        if let Err(malformed) = decode(known, data.clone(), self.max_txlist_bytes) {
            tracing::debug!(topic = %known, error = %malformed.error, "malformed");
            return Err(self.refuse(Some(known), malformed.offence()));
        }
        // Nobody else holds it, so this is no copy.
        Ok(gossipsub::Message { source, data: data.into(), sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

/// What happened on gossip.
#[derive(Debug)]
pub(crate) enum Event {
    Stack(gossipsub::Event),
    Refused(Refusal),
    /// gossipsub has given up this connection.
    GivenUp {
        peer: PeerId,
        connection: ConnectionId,
    },
}

/// The behaviour.
pub(crate) struct Gossipsub {
    inner: Stack,
    form: Form,
    iwant: IwantLimit,
    events: VecDeque<Event>,
}

impl Gossipsub {
    pub(crate) fn new(inner: Stack, form: Form) -> Self {
        Self { inner, form, iwant: IwantLimit::default(), events: VecDeque::new() }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            metrics::dropped("gossip_refusals");
        }
    }
}

impl std::ops::Deref for Gossipsub {
    type Target = Stack;

    fn deref(&self) -> &Stack {
        &self.inner
    }
}

impl std::ops::DerefMut for Gossipsub {
    fn deref_mut(&mut self) -> &mut Stack {
        &mut self.inner
    }
}

impl NetworkBehaviour for Gossipsub {
    type ConnectionHandler = Handler<THandler<Stack>>;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(id, peer, local, remote).map(Handler::new)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.inner.handle_established_outbound_connection(id, peer, address, role, port);
        handler.map(Handler::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let endpoint = &without_address(event.endpoint);
                let event = ConnectionEstablished { endpoint, ..event };
                self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(event));
            }
            FromSwarm::ConnectionClosed(event) => {
                let endpoint = &without_address(event.endpoint);
                let event = ConnectionClosed { endpoint, ..event };
                self.inner.on_swarm_event(FromSwarm::ConnectionClosed(event));
            }
            FromSwarm::AddressChange(_) => {}
            event => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let FromHandler::Inner(mut event) = event else {
            return self.tell(Event::GivenUp { peer, connection });
        };
        if let HandlerEvent::Message { rpc, .. } = &mut event {
            self.iwant.apply(Instant::now(), peer, &mut rpc.control_msgs);
        }
        self.form.shared().sender = Some(peer);
        self.inner.on_connection_handler_event(peer, connection, event);
        let refused = {
            let mut shared = self.form.shared();
            shared.sender = None;
            std::mem::take(&mut shared.refused)
        };
        for refusal in refused {
            self.tell(Event::Refused(refusal));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => self.inner.poll(cx).map(|event| event.map_out(Event::Stack)),
        }
    }
}

/// What a [`Handler`] tells.
#[derive(Debug)]
pub(crate) enum FromHandler<E> {
    Inner(E),
    GivenUp,
}

/// gossipsub's handler of one connection, its streams counted.
#[derive(Debug)]
pub(crate) struct Handler<H> {
    inner: H,
    inbound: usize,
    outbound: usize,
    refused: bool,
    told: bool,
    /// gossipsub asks nobody to wake it for a message that comes after its stream has broken.
    wake: Interval,
}

impl<H> Handler<H> {
    fn new(inner: H) -> Self {
        let mut wake = tokio::time::interval(WAKE_EVERY);
        wake.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { inner, inbound: 0, outbound: 0, refused: false, told: false, wake }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = FromHandler<H::ToBehaviour>;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<H::InboundProtocol, H::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        let given_up = self.refused || self.inbound.max(self.outbound) >= STREAM_ATTEMPTS;
        if given_up && !self.told {
            self.told = true;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(FromHandler::GivenUp));
        }
        while self.wake.poll_tick(cx).is_ready() {}
        self.inner.poll(cx).map(|event| event.map_custom(FromHandler::Inner))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx).map(|event| event.map(FromHandler::Inner))
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        if event.is_inbound() {
            self.inbound += 1;
        }
        if event.is_outbound() {
            self.outbound += 1;
        }
        self.refused |= matches!(
            event,
            ConnectionEvent::DialUpgradeError(DialUpgradeError {
                error: StreamUpgradeError::NegotiationFailed,
                ..
            })
        );
        self.inner.on_connection_event(event);
    }
}

/// Which side has opened a connection, and nothing about where the other one is.
fn without_address(endpoint: &ConnectedPoint) -> ConnectedPoint {
    let mut endpoint = endpoint.clone();
    endpoint.set_remote_address(Multiaddr::empty());
    endpoint
}
