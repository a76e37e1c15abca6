//! The names of the protocols that a handler listens for, at hand.
//!
//! Whenever libp2p has polled a connection, it asks for all protocols that its handlers listen for, and compares
//! their names with those of the time before. To build these protocols anew, each inside those of all others, cost
//! more than everything else that a connection with a dozen of them did for a message. A [`Menu`] keeps the names;
//! the protocol behind one is built when a stream has chosen it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
};

use futures::FutureExt as _;
use libp2p::{
    InboundUpgrade, Stream, StreamProtocol,
    core::UpgradeInfo,
    swarm::{
        ConnectionHandler,
        handler::{
            ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend as _, ListenUpgradeError,
            UpgradeInfoSend as _,
        },
    },
};

/// What a handler listens for, by name, in its order.
#[derive(Debug, Clone)]
pub(crate) struct Menu(Arc<[StreamProtocol]>);

impl Menu {
    pub(crate) fn of<H: ConnectionHandler>(handler: &H) -> Self {
        let names = handler.listen_protocol().upgrade().protocol_info();
        // Whatever is not a name to libp2p has none there either.
        Self(names.filter_map(|name| StreamProtocol::try_from_owned(name.as_ref().to_owned()).ok()).collect())
    }

    /// Takes over what the handler listens for by now.
    pub(crate) fn update<H: ConnectionHandler>(&mut self, handler: &H) {
        let names = handler.listen_protocol().upgrade().protocol_info();
        if !names.map(Name).eq(self.0.iter().map(Name)) {
            *self = Self::of(handler);
        }
    }
}

/// Compared as text, whatever it is.
struct Name<T>(T);

impl<T: AsRef<str>, U: AsRef<str>> PartialEq<Name<U>> for Name<T> {
    fn eq(&self, other: &Name<U>) -> bool {
        self.0.as_ref() == other.0.as_ref()
    }
}

/// Gives a handler the stream of a peer that has chosen this name from its menu. A stream whose protocol the handler
/// does not listen for any more is closed. What the handler does with it first must not wait for the peer; none of
/// libp2p's do.
pub(crate) fn serve<H: ConnectionHandler>(handler: &mut H, stream: Stream, name: &StreamProtocol) {
    let (upgrade, info) = handler.listen_protocol().into_upgrade();
    let Some(name) = upgrade.protocol_info().find(|offered| offered.as_ref() == name.as_ref()) else {
        return;
    };
    let event = match upgrade.upgrade_inbound(stream, name).now_or_never() {
        Some(Ok(protocol)) => {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
        }
        Some(Err(error)) => ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }),
        None => return,
    };
    handler.on_connection_event(event);
}

impl UpgradeInfo for Menu {
    type Info = StreamProtocol;
    type InfoIter = Names;

    fn protocol_info(&self) -> Names {
        Names { menu: self.clone(), next: 0 }
    }
}

/// The names of a [`Menu`].
#[derive(Debug)]
pub(crate) struct Names {
    menu: Menu,
    next: usize,
}

impl Iterator for Names {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let name = self.menu.0.get(self.next)?;
        self.next += 1;
        Some(name.clone())
    }
}

/// Nothing but the choice: the stream, and the name that it has chosen.
impl InboundUpgrade<Stream> for Menu {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
