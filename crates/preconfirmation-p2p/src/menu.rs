//! The names of the protocols that a handler listens for, at hand.
//!
//! Whenever libp2p has polled a connection, it asks for all protocols that its handlers listen for, and compares
//! their names with those of the time before. To build these protocols anew, each inside those of all others, cost
//! more than everything else that a connection with a dozen of them did for a message. A [`Menu`] keeps the names;
//! the protocol behind one is built when a stream has chosen it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    iter::Copied,
    slice,
    sync::{Mutex, PoisonError},
};

use futures::FutureExt as _;
use libp2p::{
    InboundUpgrade, Stream,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Menu(&'static [&'static str]);

/// All menus of this process, each once and for good: what every connection reads whenever it is polled is in the
/// processor's cache then, and nobody counts who holds it. There are as many as ways to list the protocols of a
/// node, a few for each chain id; peers have no say in that.
static MENUS: Mutex<Vec<Menu>> = Mutex::new(Vec::new());

impl Menu {
    pub(crate) fn of<H: ConnectionHandler>(handler: &H) -> Self {
        let mut menus = MENUS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = menus.iter().find(|menu| menu.lists(handler)) {
            return *known;
        }
        let names = handler.listen_protocol().upgrade().protocol_info();
        let names = names.map(|name| &*Box::leak(Box::<str>::from(name.as_ref())));
        let menu = Self(Vec::leak(names.collect()));
        menus.push(menu);
        menu
    }

    /// Takes over what the handler listens for by now.
    pub(crate) fn update<H: ConnectionHandler>(&mut self, handler: &H) {
        if !self.lists(handler) {
            *self = Self::of(handler);
        }
    }

    fn lists<H: ConnectionHandler>(self, handler: &H) -> bool {
        handler.listen_protocol().upgrade().protocol_info().map(Name).eq(self.0.iter().map(Name))
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
pub(crate) fn serve<H: ConnectionHandler>(handler: &mut H, stream: Stream, name: &str) {
    let (upgrade, info) = handler.listen_protocol().into_upgrade();
    let Some(name) = upgrade.protocol_info().find(|offered| offered.as_ref() == name) else {
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
    type Info = &'static str;
    type InfoIter = Copied<slice::Iter<'static, &'static str>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().copied()
    }
}

/// Nothing but the choice: the stream, and the name that it has chosen.
impl InboundUpgrade<Stream> for Menu {
    type Output = (Stream, &'static str);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: &'static str) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
