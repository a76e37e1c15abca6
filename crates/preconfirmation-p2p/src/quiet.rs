//! Behaviours that sleep until something concerns them.
//!
//! A connection asks the handlers of all its protocols for news whenever one of them has some, and the swarm does
//! so with its behaviours. With gossip that is many times for each message, while ping, identify and requests have
//! nothing to say for seconds. [`Quiet`] asks the behaviour inside, and its handlers, only when their own waker was
//! called or an event was given to them; to be asked in vain costs them nothing then.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::ConnectionEvent,
    },
};

/// Stands between a sleeper and the task that polls it.
#[derive(Debug)]
struct Alarm {
    bell: Arc<Bell>,
    /// What the sleeper sees as the task's waker.
    waker: Waker,
    /// The waker of the task, as the bell has it.
    task: Waker,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

impl Alarm {
    /// Rings at once: whoever is new is asked.
    fn new() -> Self {
        let task = Waker::noop().clone();
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(task.clone()) });
        Self { waker: Arc::clone(&bell).into(), bell, task }
    }

    /// The caller is about to change the sleeper, and polls it by its own duty after that.
    fn ring(&self) {
        self.bell.rung.store(true, Ordering::Release);
    }

    /// Asks the sleeper if the alarm has rung since it had nothing to say.
    fn poll<T>(&mut self, cx: &Context<'_>, ask: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        // First this, then the question: a ring in between is answered or wakes the task, and is never lost.
        if !self.task.will_wake(cx.waker()) {
            self.task.clone_from(cx.waker());
            self.bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        }
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let answer = ask(&mut Context::from_waker(&self.waker));
        if answer.is_ready() {
            // There may be more.
            self.ring();
        }
        answer
    }
}

/// A behaviour that is polled only when something concerns it. To change it through [`DerefMut`] does.
#[derive(Debug)]
pub(crate) struct Quiet<B> {
    inner: B,
    alarm: Alarm,
}

impl<B> Quiet<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, alarm: Alarm::new() }
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
        (**self).handle_established_inbound_connection(id, peer, local, remote).map(QuietHandler::new)
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
        (**self).handle_established_outbound_connection(id, peer, address, role, port).map(QuietHandler::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        (**self).on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        (**self).on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let Self { inner, alarm } = self;
        alarm.poll(cx, |cx| inner.poll(cx))
    }
}

/// The handler of one connection of a [`Quiet`] behaviour.
#[derive(Debug)]
pub(crate) struct QuietHandler<H> {
    inner: H,
    alarm: Alarm,
}

impl<H> QuietHandler<H> {
    fn new(inner: H) -> Self {
        Self { inner, alarm: Alarm::new() }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for QuietHandler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        let Self { inner, alarm } = self;
        alarm.poll(cx, |cx| inner.poll(cx))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.alarm.ring();
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
        self.alarm.ring();
        self.inner.on_connection_event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(std::sync::atomic::AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeper_is_asked_when_something_concerns_it_and_not_before() {
        let (mut alarm, task) = (Alarm::new(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let ask = |alarm: &mut Alarm, answer| {
            let mut asked = false;
            let answer = alarm.poll(&cx, |_| {
                asked = true;
                answer
            });
            (asked, answer)
        };
        assert_eq!(ask(&mut alarm, Poll::Ready(1)), (true, Poll::Ready(1)), "new");
        assert_eq!(ask(&mut alarm, Poll::Pending), (true, Poll::Pending), "there may be more");
        assert_eq!(ask(&mut alarm, Poll::Ready(2)), (false, Poll::Pending), "nothing has happened");

        alarm.ring();
        assert!(ask(&mut alarm, Poll::Pending).0, "it was changed");
        assert_eq!(task.0.load(Ordering::Relaxed), 0);

        let mut own = None;
        alarm.ring();
        let _pending: Poll<()> = alarm.poll(&cx, |cx| {
            own = Some(cx.waker().clone());
            Poll::Pending
        });
        own.unwrap().wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "its waker wakes the task");
        assert!(ask(&mut alarm, Poll::Pending).0, "and lets it be asked");
        assert!(!ask(&mut alarm, Poll::Pending).0);
    }

    #[test]
    fn a_waker_that_is_called_while_the_sleeper_is_asked_is_not_lost() {
        let (mut alarm, task) = (Alarm::new(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let answer: Poll<()> = alarm.poll(&cx, |cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert!(answer.is_pending());
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert!(alarm.poll(&cx, |_| Poll::Ready(())).is_ready());
    }
}
