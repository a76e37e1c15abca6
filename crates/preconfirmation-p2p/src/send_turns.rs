//! Write scheduling for large gossip messages: they take turns on their way out.
//!
//! gossipsub hands a message to all mesh peers at the same time. Over a line that is too narrow for that, each of four copies of a
//! list of 2 MiB takes four times as long as one alone, and meanwhile nobody can pass anything on. So a large message is held back
//! while `gossip.large_sends` others are being written: the first peer has it in a quarter of the time, and passes it on. What its
//! peer does not want any more by then (IDONTWANT) is not written at all, and what is small goes before it.
//!
//! A stream holds one large message. When gossipsub has the next one for it, the first is written at once, beside whoever has the
//! turn, so that small messages, which come behind both, never wait for a turn. A peer that reads slowly cannot hold up the others:
//! a turn ends when its peer has taken less than [`LEAST`] in [`CHECK`], and after [`TURN`] at the latest; the message goes on beside
//! the next one, and for [`SLOW_FOR`] what is large for that peer is written at once and takes no turn. Nobody waits for longer than
//! [`MAX_WAIT`].

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use futures::{AsyncWrite, FutureExt as _, task::AtomicWaker};
use preconfirmation_types::Topic;
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_util::sync::PollSemaphore;

use crate::{frames::Frames, gossip::gossip_id, metrics};

/// Frames of so many bytes and more take turns.
const LARGE: usize = 64 * 1024;

/// How long a turn takes at most: a list of 2 MiB at 17 Mbit/s.
const TURN: Duration = Duration::from_secs(1);

/// A peer that takes less than [`LEAST`] bytes in this time loses its turn.
const CHECK: Duration = Duration::from_millis(250);

/// 4 Mbit/s.
const LEAST: usize = 128 * 1024;

/// How long a peer that has lost its turn gets no other.
const SLOW_FOR: Duration = Duration::from_secs(60);

/// How long a stream waits for its turn at most.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// How long a peer's IDONTWANT holds, as in gossipsub.
const UNWANTED_FOR: Duration = Duration::from_secs(3);

/// IDONTWANTs of a peer that are remembered; the oldest gives way.
const UNWANTED: usize = 64;

type Id = [u8; 20];

/// The turns of a node.
#[derive(Debug, Clone)]
pub(crate) struct SendTurns(Option<Arc<Semaphore>>);

impl SendTurns {
    /// So many at the same time; none where there is no limit.
    pub(crate) fn new(at_once: usize) -> Self {
        let permits = at_once.min(Semaphore::MAX_PERMITS);
        Self((permits > 0).then(|| Arc::new(Semaphore::new(permits))))
    }

    /// Whether there is a limit.
    pub(crate) const fn are_taken(&self) -> bool {
        self.0.is_some()
    }
}

/// What a peer has told that it does not want (IDONTWANT).
#[derive(Debug, Default)]
pub(crate) struct Unwanted {
    ids: Mutex<VecDeque<(Instant, Id)>>,
    /// Who waits with a message that the peer may not want.
    waiting: AtomicWaker,
}

impl Unwanted {
    /// The peer has sent a frame of control messages.
    pub(crate) fn on_control(&self, frame: &[u8], now: Instant) {
        // What cannot be read is gossipsub's to judge.
        let ids = Rpc::decode(frame).ok().and_then(|rpc| rpc.control).unwrap_or_default().idontwant;
        let ids = ids.into_iter().flat_map(|idontwant| idontwant.message_ids);
        let mut known = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids.filter_map(|id| Id::try_from(id).ok()) {
            known.push_back((now, id));
            if known.len() > UNWANTED {
                known.pop_front();
            }
        }
        drop(known);
        self.waiting.wake();
    }

    /// Whether a frame carries one of them. Its id is computed once, and only if there are any.
    fn has(&self, frame: &[u8], id: &mut Option<Option<Id>>, now: Instant) -> bool {
        let mut known = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(at, _)| now.saturating_duration_since(*at) < UNWANTED_FOR);
        !known.is_empty()
            && id
                .get_or_insert_with(|| message_id(frame))
                .is_some_and(|id| known.iter().any(|(_, of)| *of == id))
    }
}

/// The id of the one message of a frame.
fn message_id(frame: &[u8]) -> Option<Id> {
    let rpc = Rpc::decode_length_delimited(frame).ok()?;
    let [message] = rpc.publish.as_slice() else { return None };
    Some(gossip_id(message.data.as_deref()?))
}

/// The writing end of a stream that we opened, shared by gossipsub, which writes, and its connection, which writes what is held
/// back when its turn comes.
#[derive(Debug)]
pub(crate) struct Outbound<S> {
    stream: S,
    /// What was written on the stream.
    frames: Frames,
    /// None: large messages take no turns.
    turns: Option<PollSemaphore>,
    unwanted: Arc<Unwanted>,
    held: Option<Held>,
    /// Until when it takes no turns.
    slow_until: Option<Instant>,
    /// gossipsub, which waits until what is held is written.
    writer: Option<Waker>,
}

/// A large message that gossipsub believes written.
#[derive(Debug)]
struct Held {
    frame: Vec<u8>,
    written: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting { deadline: Pin<Box<Sleep>>, id: Option<Option<Id>> },
    Writing(Option<Turn>),
}

#[derive(Debug)]
struct Turn {
    _permit: OwnedSemaphorePermit,
    over: Pin<Box<Sleep>>,
    check: Pin<Box<Sleep>>,
    /// Bytes since the last check.
    written: usize,
}

impl Turn {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, over: Box::pin(sleep(TURN)), check: Box::pin(sleep(CHECK)), written: 0 }
    }

    /// Ready if it is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.check.poll_unpin(cx).is_ready() {
            if std::mem::take(&mut self.written) < LEAST {
                return Poll::Ready(());
            }
            self.check.set(sleep(CHECK));
        }
        self.over.poll_unpin(cx)
    }
}

impl<S> Outbound<S> {
    pub(crate) fn new(stream: S, turns: &SendTurns, unwanted: &Arc<Unwanted>) -> Self {
        let turns = turns.0.clone().map(PollSemaphore::new);
        let (frames, unwanted) = (Frames::default(), Arc::clone(unwanted));
        Self { stream, frames, turns, unwanted, held: None, slow_until: None, writer: None }
    }

    pub(crate) const fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether a large message is held back.
    pub(crate) fn is_waiting(&self) -> bool {
        self.held.as_ref().is_some_and(|held| matches!(held.state, State::Waiting { .. }))
    }

    /// Whether a large message that was held back is being written.
    pub(crate) fn is_writing(&self) -> bool {
        self.held.as_ref().is_some_and(|held| matches!(held.state, State::Writing(_)))
    }

    /// Takes a large message of gossip to hold it back, and says how many bytes that is; none where they are to be written. Waits
    /// while another one is being written; one that waits for its turn is written then.
    pub(crate) fn poll_hold(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<usize> {
        let large = self.turns.as_ref().filter(|_| self.frames.is_between_messages()).and(large_frame(bytes));
        if large.is_some() && self.is_waiting() {
            self.write_without_turn();
            cx.waker().wake_by_ref();
        }
        if self.is_writing() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(frame) = large else { return Poll::Ready(0) };
        let state = State::Waiting { deadline: Box::pin(sleep(MAX_WAIT)), id: None };
        self.held = Some(Held { frame: frame.to_vec(), written: 0, state });
        // The connection writes it.
        cx.waker().wake_by_ref();
        Poll::Ready(frame.len())
    }

    /// What is held back waits no more.
    fn write_without_turn(&mut self) {
        if let (Some(held), Some(turns)) = (&mut self.held, &mut self.turns) {
            held.state = State::Writing(None);
            leave_queue(turns);
        }
    }
}

/// Waits in the queue no more, so that no permit is given to who does not take it.
fn leave_queue(turns: &mut PollSemaphore) {
    *turns = turns.clone();
}

impl<S: AsyncWrite + Unpin> Outbound<S> {
    pub(crate) fn poll_write(
        &mut self,
        bytes: &[u8],
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.frames.read(bytes.get(..written).unwrap_or_default(), now);
        Poll::Ready(Ok(written))
    }

    /// Writes what is held back, when its turn has come. Ready when nothing is held any more. What fails is lost, and the next write
    /// fails, too.
    pub(crate) fn poll_held(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let written = ready!(self.poll_write_held(now, cx));
        if let Err(error) = written {
            tracing::debug!(%error, "a large message cannot be written");
        }
        self.held = None;
        if let Some(turns) = &mut self.turns {
            leave_queue(turns);
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Poll::Ready(())
    }

    fn poll_write_held(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Some(held), Some(turns)) = (&mut self.held, &mut self.turns) else { return Poll::Ready(Ok(())) };
        if let State::Waiting { deadline, id } = &mut held.state {
            self.unwanted.waiting.register(cx.waker());
            if self.unwanted.has(&held.frame, id, now) {
                // Nothing else is as long.
                metrics::published(Topic::RawTxLists, "unwanted");
                return Poll::Ready(Ok(()));
            }
            // A small message that was begun is ended first, by gossipsub.
            if !self.frames.is_between_messages() {
                return Poll::Pending;
            }
            let is_slow = self.slow_until.is_some_and(|until| now < until);
            let turn = match turns.poll_acquire(cx) {
                Poll::Ready(permit) => permit.filter(|_| !is_slow).map(Turn::new),
                Poll::Pending if is_slow => None,
                Poll::Pending => {
                    ready!(deadline.poll_unpin(cx));
                    None
                }
            };
            leave_queue(turns);
            held.state = State::Writing(turn);
        }
        let State::Writing(turn) = &mut held.state else { return Poll::Pending };
        if turn.as_mut().is_some_and(|turn| turn.poll_over(cx).is_ready()) {
            *turn = None;
            self.slow_until = now.checked_add(SLOW_FOR);
        }
        while let Some(rest) = held.frame.get(held.written..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            held.written = held.written.saturating_add(written);
            if let Some(turn) = turn {
                turn.written = turn.written.saturating_add(written);
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// The large frame with which bytes begin, with its length in front.
fn large_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = unsigned_varint::decode::usize(bytes).ok()?;
    let end = bytes.len().checked_sub(rest.len())?.checked_add(length)?;
    bytes.get(..end).filter(|_| length >= LARGE)
}

/// What is read of gossipsub's frames.
#[derive(Clone, PartialEq, prost::Message)]
struct Rpc {
    #[prost(message, repeated, tag = "2")]
    publish: Vec<Publish>,
    #[prost(message, optional, tag = "3")]
    control: Option<Control>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Publish {
    #[prost(bytes = "vec", optional, tag = "2")]
    data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Control {
    #[prost(message, repeated, tag = "5")]
    idontwant: Vec<IDontWant>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct IDontWant {
    #[prost(bytes = "vec", repeated, tag = "1")]
    message_ids: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::future::poll_fn;
    use tokio::time::Instant as TokioInstant;

    use super::*;

    /// A line that takes what there is room for.
    #[derive(Debug, Default)]
    struct Line {
        room: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Line {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let part = &bytes[..bytes.len().min(self.room)];
            if part.is_empty() {
                return Poll::Pending;
            }
            self.room -= part.len();
            self.taken.extend(part);
            Poll::Ready(Ok(part.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A frame with one message on it.
    fn frame(fill: u8, bytes: usize) -> Vec<u8> {
        let publish = vec![Publish { data: Some(vec![fill; bytes]) }];
        Rpc { publish, control: None }.encode_length_delimited_to_vec()
    }

    /// What a peer sends that does not want these.
    fn idontwant(fills: &[u8], bytes: usize) -> Vec<u8> {
        let message_ids = fills.iter().map(|fill| gossip_id(&vec![*fill; bytes]).to_vec()).collect();
        let control = Some(Control { idontwant: vec![IDontWant { message_ids }] });
        Rpc { publish: Vec::new(), control }.encode_to_vec()
    }

    struct Stream {
        outbound: Outbound<Line>,
        unwanted: Arc<Unwanted>,
        before: usize,
    }

    impl Stream {
        /// On which gossip has been agreed, with any amount of room.
        fn new(turns: &SendTurns) -> Self {
            let unwanted = Arc::default();
            let line = Line { room: usize::MAX, taken: Vec::new() };
            let mut outbound = Outbound::new(line, turns, &unwanted);
            let mut agreed = Vec::new();
            for name in [&b"/multistream/1.0.0\n"[..], b"/meshsub/1.2.0\n"] {
                agreed.push(u8::try_from(name.len()).unwrap());
                agreed.extend(name);
            }
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(matches!(outbound.poll_hold(&agreed, cx), Poll::Ready(0)));
            assert!(outbound.poll_write(&agreed, Instant::now(), cx).is_ready());
            Self { outbound, unwanted, before: agreed.len() }
        }

        /// What gossipsub does with a frame: whether it could write all of it.
        fn write(&mut self, frame: &[u8]) -> bool {
            let cx = &mut Context::from_waker(Waker::noop());
            match self.outbound.poll_hold(frame, cx) {
                Poll::Pending => false,
                Poll::Ready(0) => {
                    matches!(self.outbound.poll_write(frame, Instant::now(), cx), Poll::Ready(Ok(all)) if all == frame.len())
                }
                Poll::Ready(held) => held == frame.len(),
            }
        }

        /// What the connection does. Whether nothing is held any more.
        fn poll(&mut self) -> bool {
            let cx = &mut Context::from_waker(Waker::noop());
            self.outbound.poll_held(Instant::now(), cx).is_ready()
        }

        async fn held_is_written(&mut self) -> Duration {
            let start = TokioInstant::now();
            poll_fn(|cx| self.outbound.poll_held(Instant::now(), cx)).await;
            start.elapsed()
        }

        fn taken(&self) -> &[u8] {
            &self.outbound.stream.taken[self.before..]
        }

        fn room(&mut self, bytes: usize) {
            self.outbound.stream.room = bytes;
        }
    }

    const BYTES: usize = 2 * LARGE;

    /// A stream in the middle of frame 1, which has the only turn, and one that waits for it with frame 2.
    fn writing_and_waiting() -> (Stream, Stream) {
        let turns = SendTurns::new(1);
        let [mut first, mut next] = [(); 2].map(|()| Stream::new(&turns));
        first.room(10);
        assert!(first.write(&frame(1, BYTES)) && !first.poll());
        assert!(next.write(&frame(2, BYTES)) && !next.poll());
        (first, next)
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_large_messages_are_written_at_once_as_is_set() {
        for at_once in [1, 2] {
            let turns = SendTurns::new(at_once);
            let mut streams = [(); 4].map(|()| Stream::new(&turns));
            for stream in &mut streams {
                stream.room(10);
                assert!(stream.write(&frame(1, BYTES)));
            }
            let begun = |streams: &mut [Stream]| {
                streams.iter_mut().for_each(|stream| assert!(!stream.poll()));
                streams.iter().filter(|stream| !stream.taken().is_empty()).count()
            };
            assert_eq!(begun(&mut streams), at_once);
            // The next one begins when one is written.
            streams[0].room(usize::MAX);
            assert!(streams[0].poll());
            assert_eq!(streams[0].taken(), frame(1, BYTES));
            assert_eq!(begun(&mut streams[1..]), at_once);
        }
        // Without a limit nothing is held back.
        let mut stream = Stream::new(&SendTurns::new(0));
        assert!(stream.write(&frame(1, BYTES)) && stream.taken() == frame(1, BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_small_goes_before_what_is_held_back_and_never_into_it() {
        let (first, mut stream) = writing_and_waiting();
        assert!(stream.write(&frame(3, 300)));
        // In the middle of a small frame, its turn comes.
        let small = frame(5, 300);
        stream.room(100);
        assert!(!stream.write(&small));
        drop(first);
        assert!(!stream.poll());
        stream.room(1000);
        assert!(stream.write(&small[100..]) && !stream.poll());
        assert!(!stream.write(&small), "a large message has begun");
        stream.room(usize::MAX);
        assert!(stream.poll() && stream.write(&small));
        let expected = [frame(3, 300), small.clone(), frame(2, BYTES), small].concat();
        assert_eq!(stream.taken(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn with_the_next_large_message_the_one_that_waits_is_written() {
        let (mut first, mut stream) = writing_and_waiting();
        // No small message has to wait for a turn.
        assert!(!stream.write(&frame(3, BYTES)) && stream.poll() && stream.write(&frame(3, BYTES)));
        assert!(stream.write(&frame(4, 300)) && !stream.poll());
        assert_eq!(stream.taken(), [frame(2, BYTES), frame(4, 300)].concat());
        // Its place in the queue is the next one's.
        first.room(usize::MAX);
        assert!(first.poll() && stream.poll());
        assert!(first.write(&frame(5, BYTES)) && first.poll());
    }

    #[tokio::test(start_paused = true)]
    async fn what_its_peer_does_not_want_any_more_is_not_written() {
        let (mut first, mut stream) = writing_and_waiting();
        stream.unwanted.on_control(&idontwant(&[3], BYTES), Instant::now());
        assert!(!stream.poll());
        stream.unwanted.on_control(&idontwant(&[4, 2], BYTES), Instant::now());
        assert!(stream.poll() && stream.taken().is_empty());
        // One that is told before it is written, too; and for as long as gossipsub minds it.
        assert!(stream.write(&frame(4, BYTES)) && stream.poll());
        let long_ago = Instant::now().checked_sub(UNWANTED_FOR).unwrap();
        stream.unwanted.on_control(&idontwant(&[5], BYTES), long_ago);
        assert!(stream.write(&frame(5, BYTES)) && !stream.poll());
        // What has begun is ended.
        first.unwanted.on_control(&idontwant(&[1], BYTES), Instant::now());
        assert!(!first.poll());
        first.room(usize::MAX);
        assert!(first.poll() && first.taken() == frame(1, BYTES));
        assert!(stream.poll() && stream.taken() == frame(5, BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_holds_nobody_up_for_long() {
        let turns = SendTurns::new(1);
        let mut slow = Stream::new(&turns);
        slow.room(LEAST - 1);
        assert!(slow.write(&frame(1, 16 * LARGE)) && !slow.poll());
        let mut next = Stream::new(&turns);
        assert!(next.write(&frame(2, BYTES)));
        let ((), waited) = tokio::join!(
            async {
                // The slow one is polled by its connection.
                drop(tokio::time::timeout(10 * TURN, slow.held_is_written()).await);
            },
            next.held_is_written()
        );
        assert!(waited >= CHECK && waited < CHECK + Duration::from_millis(5), "{waited:?}");
        // It goes on beside the others.
        slow.room(usize::MAX);
        assert!(slow.poll() && slow.taken() == frame(1, 16 * LARGE));
        // For a while it takes no turn: none is lost to it again.
        slow.room(10);
        assert!(slow.write(&frame(3, BYTES)) && !slow.poll() && slow.outbound.is_writing());
        assert!(next.write(&frame(4, BYTES)) && next.poll());
        let mut third = Stream::new(&turns);
        third.room(10);
        assert!(third.write(&frame(5, BYTES)) && !third.poll() && third.outbound.is_writing());
        slow.room(usize::MAX);
        assert!(slow.poll() && slow.write(&frame(6, BYTES)) && slow.poll(), "it does not wait, either");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_two_seconds() {
        let turns = SendTurns::new(1);
        // Whoever has the turn is never polled, so that it never ends.
        let mut stuck = Stream::new(&turns);
        stuck.room(1);
        assert!(stuck.write(&frame(1, BYTES)) && !stuck.poll());
        let mut next = Stream::new(&turns);
        assert!(next.write(&frame(2, BYTES)));
        let waited = next.held_is_written().await;
        assert!(waited >= MAX_WAIT && waited < MAX_WAIT + Duration::from_millis(5), "{waited:?}");
        assert_eq!(next.taken(), frame(2, BYTES));
    }

    #[test]
    fn what_a_peer_does_not_want_is_bounded_and_what_cannot_be_read_is_nothing() {
        let unwanted = Unwanted::default();
        let now = Instant::now();
        unwanted.on_control(&idontwant(&(0..200).collect::<Vec<_>>(), 1), now);
        unwanted.on_control(&[0x1a, 0xff, 0xff], now);
        unwanted.on_control(&Rpc::default().encode_to_vec(), now);
        let short = IDontWant { message_ids: vec![vec![1; 19], Vec::new()] };
        let control = Some(Control { idontwant: vec![short] });
        unwanted.on_control(&Rpc { publish: Vec::new(), control }.encode_to_vec(), now);
        assert_eq!(unwanted.ids.lock().unwrap().len(), UNWANTED);
        let has = |fill| unwanted.has(&frame(fill, 1), &mut None, now);
        assert!(has(199) && has(136) && !has(135));
        assert!(!unwanted.has(&[0xff; 20], &mut None, now));
    }
}
