//! What sleeps until something concerns it.
//!
//! A connection asks the handlers of all its protocols for news whenever one of them has some, and the swarm does
//! so with its behaviours and with its transport. With gossip that is many times for each message, while ping,
//! identify, requests and listeners have nothing to say for seconds. [`Quiet`] asks the behaviour or the transport
//! inside, and the handlers of the behaviour, only when their own waker was called or something was given to them;
//! to be asked in vain costs them nothing then. To be asked what they listen for costs them a look at a [`Menu`].

use std::{
    ops::{Deref, DerefMut},
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound},
    },
};

use crate::{
    alarm::Alarm,
    menu::{self, Menu},
};

/// A behaviour or a transport that is polled only when something concerns it. To change it through [`DerefMut`]
/// does.
#[derive(Debug)]
pub(crate) struct Quiet<B> {
    inner: B,
    alarm: Alarm,
    restless: bool,
}

impl<B> Quiet<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, alarm: Alarm::new(), restless: false }
    }

    /// A behaviour whose handlers do not always leave a waker where their work comes from, and are polled whenever
    /// the connection is.
    pub(crate) fn restless(inner: B) -> Self {
        Self { restless: true, ..Self::new(inner) }
    }

    fn handler<H: ConnectionHandler>(&self, inner: H) -> QuietHandler<H> {
        let alarm = (!self.restless).then(Alarm::new);
        QuietHandler { menu: Menu::of(&inner), inner, alarm }
    }
}

impl<B> Deref for Quiet<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for Quiet<B> {
    fn deref_mut(&mut self) -> &mut B {
        self.alarm.ring();
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Quiet<B> {
    type ConnectionHandler = QuietHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        (**self).handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = (**self).handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(self.handler(handler))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        (**self).handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = (**self).handle_established_outbound_connection(id, peer, address, role, port)?;
        Ok(self.handler(handler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        (**self).on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        (**self).on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let Self { inner, alarm, .. } = self;
        alarm.poll(cx, |cx| inner.poll(cx))
    }
}

impl<T: Transport + Unpin> Transport for Quiet<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        (**self).listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        (**self).remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        (**self).dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        let Self { inner, alarm, .. } = &mut *self;
        alarm.poll(cx, |cx| Pin::new(inner).poll(cx))
    }
}

/// The handler of one connection of a [`Quiet`] behaviour.
#[derive(Debug)]
pub(crate) struct QuietHandler<H> {
    inner: H,
    /// None if it is restless.
    alarm: Option<Alarm>,
    menu: Menu,
}

impl<H: ConnectionHandler> QuietHandler<H> {
    /// Tells the handler of something. What it listens for changes with what it is told, and at no other time.
    fn tell(&mut self, tell: impl FnOnce(&mut H)) {
        if let Some(alarm) = &self.alarm {
            alarm.ring();
        }
        tell(&mut self.inner);
        self.menu.update(&self.inner);
    }
}

impl<H: ConnectionHandler> ConnectionHandler for QuietHandler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Menu;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Menu> {
        SubstreamProtocol::new(self.menu, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        let Self { inner, alarm, .. } = self;
        match alarm {
            Some(alarm) => alarm.poll(cx, |cx| inner.poll(cx)),
            None => inner.poll(cx),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.tell(|inner| inner.on_behaviour_event(event));
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Menu, Self::OutboundProtocol, (), Self::OutboundOpenInfo>,
    ) {
        self.tell(|inner| match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) => menu::serve(inner, stream, name),
            ConnectionEvent::FullyNegotiatedOutbound(outbound) => {
                inner.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(outbound));
            }
            ConnectionEvent::AddressChange(change) => {
                inner.on_connection_event(ConnectionEvent::AddressChange(change));
            }
            ConnectionEvent::DialUpgradeError(error) => {
                inner.on_connection_event(ConnectionEvent::DialUpgradeError(error));
            }
            ConnectionEvent::LocalProtocolsChange(change) => {
                inner.on_connection_event(ConnectionEvent::LocalProtocolsChange(change));
            }
            ConnectionEvent::RemoteProtocolsChange(change) => {
                inner.on_connection_event(ConnectionEvent::RemoteProtocolsChange(change));
            }
            ConnectionEvent::ListenUpgradeError(error) => match error.error {},
            // libp2p may learn to tell more.
            _ => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, task::Waker};

    use libp2p::{
        InboundUpgrade, Stream,
        core::upgrade::{DeniedUpgrade, UpgradeInfo},
    };

    use super::*;

    /// Listens for what it was last told to, and counts how often it is polled.
    #[derive(Default)]
    struct Listener {
        names: Vec<&'static str>,
        polled: usize,
    }

    impl ConnectionHandler for Listener {
        type FromBehaviour = Vec<&'static str>;
        type ToBehaviour = Infallible;
        type InboundProtocol = Named;
        type OutboundProtocol = DeniedUpgrade;
        type InboundOpenInfo = ();
        type OutboundOpenInfo = ();

        fn listen_protocol(&self) -> SubstreamProtocol<Named> {
            SubstreamProtocol::new(Named(self.names.clone()), ())
        }

        fn poll(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
            self.polled += 1;
            Poll::Pending
        }

        fn on_behaviour_event(&mut self, names: Vec<&'static str>) {
            self.names = names;
        }

        fn on_connection_event(&mut self, _: ConnectionEvent<'_, Named, DeniedUpgrade>) {}
    }

    struct Named(Vec<&'static str>);

    impl UpgradeInfo for Named {
        type Info = &'static str;
        type InfoIter = Vec<&'static str>;

        fn protocol_info(&self) -> Vec<&'static str> {
            self.0.clone()
        }
    }

    impl InboundUpgrade<Stream> for Named {
        type Output = Stream;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Stream, Infallible>>;

        fn upgrade_inbound(self, stream: Stream, _: &'static str) -> Self::Future {
            std::future::ready(Ok(stream))
        }
    }

    fn names(handler: &QuietHandler<Listener>) -> Vec<&'static str> {
        handler.listen_protocol().upgrade().protocol_info().collect()
    }

    #[test]
    fn a_handler_listens_for_what_the_one_inside_listens_for_and_follows_it() {
        let listener = || Listener { names: vec!["/a", "/b"], polled: 0 };
        let mut handler = Quiet::new(()).handler(listener());
        assert_eq!(names(&handler), ["/a", "/b"]);
        for told in [vec!["/a", "/c"], vec!["/a"], vec![], vec!["/c", "/a"]] {
            handler.on_behaviour_event(told.clone());
            assert_eq!(names(&handler), told);
        }
    }

    #[test]
    fn handlers_that_listen_for_the_same_share_one_menu() {
        let place =
            |listed| names(&Quiet::new(()).handler(Listener { names: listed, polled: 0 }))[0].as_ptr();
        assert_eq!(place(vec!["/x", "/y"]), place(vec!["/x", "/y"]));
        assert_ne!(place(vec!["/x", "/y"]), place(vec!["/x"]));
    }

    #[test]
    fn a_restless_handler_is_polled_always_and_another_when_it_was_told_something() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut polled = |mut handler: QuietHandler<Listener>| {
            let mut poll = |handler: &mut QuietHandler<Listener>| assert!(handler.poll(&mut cx).is_pending());
            poll(&mut handler);
            poll(&mut handler);
            handler.on_behaviour_event(Vec::new());
            poll(&mut handler);
            handler.inner.polled
        };
        assert_eq!(polled(Quiet::new(()).handler(Listener::default())), 2);
        assert_eq!(polled(Quiet::restless(()).handler(Listener::default())), 3);
    }
}
