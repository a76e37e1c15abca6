//! The chain processor without a network and without a clock, for the fuzz targets of this workspace. Nothing here is stable.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use p2p_catchup::{CatchUp, Input, Output, RequestId};
use p2p_storage::{SdkStorage, StorageError};
use p2p_types::{B256, Base, BlockNumber, Bytes, Origin, PeerId, SdkEvent, TxList, UnixSeconds};
use p2p_validation::{Arrival, Authenticated, Missing, Validator};
use tokio::sync::oneshot;
use tracing::Span;

use super::{
    Candidate, ChainProcessor, Command, Effects, GossipCommitment, Moment, PublishDecision, Refuted,
    Response, Settlement, VerifiedTxList,
};
use crate::{MemoryConfig, metrics::Metrics};

/// A chain processor on a store.
pub struct Chain {
    processor: ChainProcessor,
    store: Arc<dyn SdkStorage>,
    validator: Validator,
    config: MemoryConfig,
    metrics: Arc<Metrics>,
    now: Instant,
    reference: Option<BlockNumber>,
}

/// What a command brought about.
#[derive(Debug, Default)]
pub struct Done {
    /// What subscribers are told.
    pub events: Vec<SdkEvent>,
    /// The store is broken, the client would end.
    pub fatal: Option<StorageError>,
    /// What the application publishes was stored; its promise counts.
    pub is_published: bool,
    /// Inputs of catch-up.
    pub inputs: usize,
}

impl Chain {
    /// A client that starts on a store.
    #[must_use]
    pub fn new(store: Arc<dyn SdkStorage>, validator: Validator, config: MemoryConfig, now: Instant) -> Self {
        let metrics = Arc::<Metrics>::default();
        let processor =
            ChainProcessor::new(store.clone(), validator.clone(), &config, false, metrics.clone());
        Self { processor, store, validator, config, metrics, now, reference: None }
    }

    /// The process ends, and another one starts on the same store.
    pub fn restart(&mut self, unix: UnixSeconds) -> Done {
        let (store, validator) = (self.store.clone(), self.validator.clone());
        self.processor = ChainProcessor::new(store, validator, &self.config, false, self.metrics.clone());
        self.process(unix, Command::WarmUp)
    }

    /// Time goes by.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// What peers have shown.
    pub const fn set_reference(&mut self, reference: Option<BlockNumber>) {
        self.reference = reference;
    }

    fn moment(&self, unix: UnixSeconds) -> Moment {
        Moment { now: self.now, unix, reference: self.reference }
    }

    fn process(&mut self, unix: UnixSeconds, command: Command) -> Done {
        done(self.processor.process(self.moment(unix), vec![command]))
    }

    /// Commitments of gossip as wire bytes.
    pub fn gossip_bytes(&mut self, unix: UnixSeconds, from: PeerId, messages: Vec<Bytes>) -> Done {
        let arrived = |ssz| GossipCommitment {
            ssz,
            arrival: Arrival::Live(unix),
            from,
            verdict: None,
            span: Span::none(),
        };
        self.process(unix, Command::Gossip(messages.into_iter().map(arrived).collect()))
    }

    /// Commitments of gossip whose signatures have been checked.
    pub fn gossip(&mut self, unix: UnixSeconds, from: PeerId, commitments: Vec<Authenticated>) -> Done {
        let candidate = |commitment| Candidate {
            commitment,
            arrival: Arrival::Live(unix),
            origin: Origin::Gossip(from),
            verdict: None,
            missing: None,
            since: self.now,
            screened: false,
            span: Span::none(),
        };
        let candidates: VecDeque<Candidate> = commitments.into_iter().map(candidate).collect();
        let (at, mut out) = (self.moment(unix), Effects::new(self.metrics.clone()));
        let judged = self.processor.judge_all(at, candidates, &mut out);
        match judged.and_then(|()| self.processor.ledger.report_head(&mut out)) {
            Ok(()) => {}
            Err(error) if error.is_retryable() => self.processor.ledger.abandon(&error, &mut out),
            Err(error) => out.fatal = Some(error),
        }
        out.finish(self.processor.pending.highest());
        done(out)
    }

    /// A page of catch-up.
    pub fn page(&mut self, unix: UnixSeconds, from: PeerId, page: Vec<Authenticated>) -> Done {
        match request_id(from, self.now) {
            Some(id) => self.process(unix, Command::Import { id, from, page }),
            None => Done::default(),
        }
    }

    /// The application publishes a block or a handover.
    pub fn publish(&mut self, unix: UnixSeconds, commitment: Authenticated, txlist: Option<TxList>) -> Done {
        let (reply, _answer) = oneshot::channel();
        self.process(
            unix,
            Command::Publish {
                commitment: Box::new(commitment),
                txlist,
                acknowledged: None,
                allow_behind: true,
                reply,
                span: Span::none(),
            },
        )
    }

    /// A transaction list.
    pub fn txlist(&mut self, unix: UnixSeconds, origin: Origin, txlist: TxList) -> Done {
        let list = VerifiedTxList { txlist, origin, verdict: None, span: Span::none() };
        self.process(unix, Command::TxLists(vec![list]))
    }

    /// The application declares what is settled.
    pub fn set_base(&mut self, unix: UnixSeconds, base: Base) -> Done {
        let (reply, _answer) = oneshot::channel();
        self.process(unix, Command::SetBase { base, open: true, reply })
    }

    /// The view of L2 shows that a height was settled with none of these promises.
    pub fn settle_other(
        &mut self,
        unix: UnixSeconds,
        block: BlockNumber,
        settled: B256,
        promised: Vec<B256>,
    ) -> Done {
        let refuted = Some(Refuted { settled, promised });
        let settlement = Settlement { base: Base::at(block), open: true, refuted, events: Vec::new() };
        let (reply, _answer) = oneshot::channel();
        self.process(unix, Command::Settle { settlement: Box::new(settlement), reply })
    }

    /// The head of L1 has moved.
    pub fn l1_head(&mut self, unix: UnixSeconds, head: BlockNumber) -> Done {
        self.process(unix, Command::L1Head(head))
    }

    /// L1 has replaced its blocks from `anchor` on.
    pub fn l1_reorg(&mut self, unix: UnixSeconds, anchor: BlockNumber) -> Done {
        let (reply, _answer) = oneshot::channel();
        self.process(unix, Command::L1Reorg { anchor, reply })
    }

    /// They are canonical again.
    pub fn l1_restored(&mut self, unix: UnixSeconds, anchor: BlockNumber) -> Done {
        let (reply, _answer) = oneshot::channel();
        self.process(unix, Command::L1Restored { anchor, reply })
    }

    /// The schedule answers otherwise from a second on: all heights are judged again.
    pub fn schedule_changed(&mut self, unix: UnixSeconds, since: UnixSeconds) -> Done {
        let (mut all, mut from) = (Done::default(), 0);
        loop {
            let (reply, _answer) = oneshot::channel();
            let mut out = self
                .processor
                .process(self.moment(unix), vec![Command::ScheduleChanged { since, from, reply }]);
            let next = std::mem::take(&mut out.responses).into_iter().find_map(|response| match response {
                Response::Rejudged(_, Ok(rejudged)) => rejudged.next,
                _ => None,
            });
            let done = done(out);
            all.events.extend(done.events);
            all.fatal = all.fatal.or(done.fatal);
            match next {
                Some(next) => from = next,
                None => return all,
            }
        }
    }

    /// A timer.
    pub fn tick(&mut self, unix: UnixSeconds) -> Done {
        self.process(unix, Command::Tick)
    }

    /// Commitments that wait for a parent, and for a schedule or their time.
    #[must_use]
    pub fn pending(&self) -> (usize, usize) {
        self.processor.pending.counts()
    }

    /// Memory of these, without what the pool needs besides.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.processor.pending.len() * size_of::<Candidate>()
    }

    /// The lowest height of a block that waits for its parent.
    #[must_use]
    pub fn lowest_pending(&self) -> Option<BlockNumber> {
        let waits = |of: &&Candidate| {
            matches!(of.missing, Some(Missing::Parent(_))) && !of.commitment.preconf().is_eop_only()
        };
        self.processor.pending.iter().filter(waits).map(|of| of.commitment.block()).min()
    }

    /// Blocks that lack their list, and bytes of lists that no block names.
    #[must_use]
    pub fn txlists(&self) -> (usize, usize) {
        self.processor.ledger.txlist_counts()
    }
}

/// What came of a batch.
fn done(out: Effects) -> Done {
    let stored = |response: &Response| match response {
        Response::Published(_, decision) => matches!(
            decision,
            PublishDecision::Stored | PublishDecision::NonCanonical | PublishDecision::Unpublished
        ),
        _ => false,
    };
    let is_published = out.responses.iter().any(stored);
    Done { events: out.events, fatal: out.fatal, is_published, inputs: out.inputs.len() }
}

/// The id of a request, which catch-up alone makes.
fn request_id(peer: PeerId, now: Instant) -> Option<RequestId> {
    static ID: OnceLock<Option<RequestId>> = OnceLock::new();
    *ID.get_or_init(|| {
        let mut machine = CatchUp::new(p2p_catchup::CatchUpConfig::default(), 0).ok()?;
        machine.handle(now, Input::Start { base: 0, head: None });
        machine.handle(now, Input::PeerUp(peer));
        std::iter::from_fn(|| machine.poll_output()).find_map(|output| match output {
            Output::Send { id, .. } => Some(id),
            _ => None,
        })
    })
}
