//! Drives the machine by hand: says what happens, expects what comes out.

use std::{
    fmt::Debug,
    num::NonZeroU32,
    ops::RangeFrom,
    time::{Duration, Instant},
};

use p2p_catchup::{CatchUp, CatchUpConfig, Failure, ImportVerdict, Input, Output, Reply, Request, RequestId};
use p2p_types::{Address, B256, BlockNumber, Head, HeadSyncStatus, Offence, PeerId, Stall};
use p2p_validation::Authenticated;

use super::ORDER;
use crate::{
    Order,
    chain::{self, SECOND, blocks, head},
};

/// A request that came out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) id: RequestId,
    pub(crate) to: PeerId,
    pub(crate) request: Request,
}

impl Ask {
    /// First and last height of a page.
    pub(crate) fn range(&self) -> (BlockNumber, BlockNumber) {
        match self.request {
            Request::Page { from, count } => (from, from.saturating_add(u64::from(count.get() - 1))),
            other => panic!("not a page: {other:?}"),
        }
    }
}

pub(crate) struct Rig {
    pub(crate) machine: CatchUp,
    pub(crate) now: Instant,
    /// The head that the machine has been told of.
    head: Option<Head>,
    /// What waits: its height and its parent.
    pool: Vec<(BlockNumber, B256)>,
    outputs: Vec<Output>,
    reports: Vec<(PeerId, Offence)>,
}

impl Rig {
    pub(crate) fn with(config: CatchUpConfig) -> Self {
        let machine = CatchUp::new(config, 1).unwrap();
        Self {
            machine,
            now: Instant::now(),
            head: None,
            pool: Vec::new(),
            outputs: Vec::new(),
            reports: Vec::new(),
        }
    }

    pub(crate) fn new() -> Self {
        Self::with(chain::config())
    }

    /// Started at base 0 with the first `applied` blocks of the chain.
    pub(crate) fn at(applied: BlockNumber) -> Self {
        let mut rig = Self::new();
        rig.input(Input::Start { base: 0, head: head(applied) });
        rig
    }

    /// Live at `applied`, with these peers.
    pub(crate) fn live(applied: BlockNumber, peers: &[PeerId]) -> Self {
        let mut rig = Self::at(applied);
        for &peer in peers {
            rig.peer_up(peer);
        }
        rig.all_claim(applied);
        rig.expect_live(applied);
        rig
    }

    pub(crate) fn input(&mut self, input: Input) {
        if let Input::Start { head, .. } | Input::Applied { head } | Input::Imported { head, .. } = input {
            self.head = head;
        }
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Report { peer, offence } => self.reports.push((peer, offence)),
                other => self.outputs.push(other),
            }
        }
        if let Some(deadline) = self.machine.next_deadline() {
            assert!(deadline > self.now, "a deadline that has passed makes a busy loop");
        }
    }

    pub(crate) fn peer_up(&mut self, peer: PeerId) {
        self.input(Input::PeerUp(peer));
    }

    /// Lets time pass, with a tick at each deadline.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.machine.next_deadline().filter(|&at| at <= end) {
            self.now = at;
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    pub(crate) fn status(&self) -> HeadSyncStatus {
        self.machine.status()
    }

    /// The height to reach.
    pub(crate) fn target(&self) -> BlockNumber {
        match self.status() {
            HeadSyncStatus::Syncing { target, .. } | HeadSyncStatus::Stalled { target, .. } => target,
            other => panic!("{other}"),
        }
    }

    fn take<T>(&mut self, what: &dyn Debug, find: impl Fn(&Output) -> Option<T>) -> T {
        let found = self.outputs.iter().enumerate().find_map(|(at, output)| find(output).map(|it| (at, it)));
        let (at, it) =
            found.unwrap_or_else(|| panic!("no {what:?} in {:#?}, {}", self.outputs, self.status()));
        self.outputs.remove(at);
        it
    }

    fn take_ask(&mut self, what: &dyn Debug, is: impl Fn(&Ask) -> bool) -> Ask {
        self.take(what, |output| match *output {
            Output::Send { id, to, request } => Some(Ask { id, to, request }).filter(|ask| is(ask)),
            _ => None,
        })
    }

    /// Every request that came out and was not taken.
    pub(crate) fn asks(&self) -> Vec<Ask> {
        let asks = self.outputs.iter().filter_map(|output| match *output {
            Output::Send { id, to, request } => Some(Ask { id, to, request }),
            _ => None,
        });
        asks.collect()
    }

    /// The first request that came out and was not taken.
    pub(crate) fn take_any(&mut self) -> Option<Ask> {
        let any = !self.asks().is_empty();
        any.then(|| self.take_ask(&"request", |_| true))
    }

    pub(crate) fn expect_head(&mut self) -> Ask {
        self.take_ask(&"head request", |ask| ask.request == Request::Head)
    }

    pub(crate) fn expect_page(&mut self, range: RangeFrom<BlockNumber>) -> Ask {
        self.take_ask(&range, |ask| matches!(ask.request, Request::Page { from, .. } if from == range.start))
    }

    pub(crate) fn expect_txlist(&mut self, block: BlockNumber) -> Ask {
        let hash = chain::txlist(block).hash();
        self.take_ask(&("txlist", block), |ask| ask.request == Request::TxList { hash })
    }

    pub(crate) fn expect_import(&mut self) -> (RequestId, PeerId, Vec<Authenticated>) {
        self.take(&"import", |output| match output {
            Output::Import { id, from, page } => Some((*id, *from, page.clone())),
            _ => None,
        })
    }

    /// An import, if one came out.
    pub(crate) fn import_out(&mut self) -> Option<(RequestId, Vec<Authenticated>)> {
        let out = self.outputs.iter().any(|output| matches!(output, Output::Import { .. }));
        out.then(|| self.expect_import()).map(|(id, _, page)| (id, page))
    }

    pub(crate) fn expect_stored_txlist(&mut self, block: BlockNumber) {
        self.take(&("stored txlist", block), |output| match output {
            Output::TxList { txlist, .. } if *txlist == chain::txlist(block) => Some(()),
            _ => None,
        });
    }

    /// No request and no import is there but those that were taken.
    pub(crate) fn expect_quiet(&self) {
        let loud: Vec<_> =
            self.outputs.iter().filter(|output| !matches!(output, Output::Status(_))).collect();
        assert!(loud.is_empty(), "{loud:#?}");
    }

    pub(crate) fn expect_no_page(&self) {
        let page = self.asks().into_iter().find(|ask| matches!(ask.request, Request::Page { .. }));
        assert!(page.is_none(), "{page:?}");
    }

    pub(crate) fn expect_report(&mut self, peer: PeerId, offence: Offence) {
        let at = self.reports.iter().position(|report| *report == (peer, offence));
        self.reports.remove(
            at.unwrap_or_else(|| panic!("{peer} was not reported for {offence:?}: {:?}", self.reports)),
        );
    }

    pub(crate) fn expect_no_report(&self, peer: PeerId) {
        assert!(self.reports.iter().all(|(reported, _)| *reported != peer), "{:?}", self.reports);
    }

    pub(crate) fn expect_no_reports(&self) {
        assert!(self.reports.is_empty(), "{:?}", self.reports);
    }

    pub(crate) fn expect_live(&self, at: BlockNumber) {
        assert_eq!(self.status(), HeadSyncStatus::Live { head: head(at) });
    }

    pub(crate) fn expect_syncing(&self) {
        assert!(matches!(self.status(), HeadSyncStatus::Syncing { .. }), "{}", self.status());
    }

    pub(crate) fn expect_stalled(&self, expected: Stall) {
        assert!(
            matches!(self.status(), HeadSyncStatus::Stalled { why, .. } if why == expected),
            "{}",
            self.status()
        );
    }

    pub(crate) fn reply(&mut self, ask: Ask, reply: Reply) {
        self.input(Input::Reply { id: ask.id, from: ask.to, reply });
    }

    pub(crate) fn claim(&mut self, ask: Ask, block: BlockNumber) {
        self.reply(ask, Reply::Head { block });
    }

    /// Answers every head request.
    pub(crate) fn all_claim(&mut self, block: BlockNumber) {
        while self.asks().iter().any(|ask| ask.request == Request::Head) {
            let ask = self.expect_head();
            self.claim(ask, block);
        }
    }

    /// Lets time pass second by second, with every head request answered, until `there` finds something.
    pub(crate) fn until<T: Debug>(&mut self, claim: BlockNumber, there: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..200 {
            self.all_claim(claim);
            if let Some(found) = there(self) {
                return found;
            }
            self.advance(SECOND / 4);
        }
        panic!("it never came: {:#?}, {}", self.outputs, self.status());
    }

    /// Waits for a page request; peers claim `claim` meanwhile.
    pub(crate) fn wait_page(&mut self, range: RangeFrom<BlockNumber>, claim: BlockNumber) -> Ask {
        let from = range.start;
        self.until(claim, |rig| {
            rig.asks()
                .iter()
                .any(|ask| matches!(ask.request, Request::Page { from: at, .. } if at == from))
                .then_some(())
        });
        self.expect_page(range)
    }

    /// Waits for a request for the list of a block; peers claim `claim` meanwhile.
    pub(crate) fn wait_txlist(&mut self, block: BlockNumber, claim: BlockNumber) -> Ask {
        let hash = chain::txlist(block).hash();
        self.until(claim, |rig| {
            rig.asks().iter().any(|ask| ask.request == Request::TxList { hash }).then_some(())
        });
        self.expect_txlist(block)
    }

    /// Waits until the machine is live; peers claim `claim` meanwhile.
    pub(crate) fn wait_live(&mut self, claim: BlockNumber) {
        self.until(claim, |rig| rig.status().is_live().then_some(()));
    }

    /// Answers a page request with the chain's blocks up to `to`.
    pub(crate) fn deliver(&mut self, ask: Ask, to: BlockNumber) {
        let (from, last) = ask.range();
        let page = if from <= to { blocks(from, last.min(to)) } else { Vec::new() };
        self.reply(ask, Reply::Page(page));
    }

    /// Answers it with the blocks of another chain.
    pub(crate) fn deliver_from(&mut self, chain: &[Authenticated], ask: Ask) {
        let (from, to) = ask.range();
        let page = chain.iter().filter(|block| (from..=to).contains(&block.block())).cloned().collect();
        self.reply(ask, Reply::Page(page));
    }

    /// The same, and ends the import that follows.
    pub(crate) fn import_from(
        &mut self,
        chain: &[Authenticated],
        ask: Ask,
        head: Option<Head>,
        verdict: ImportVerdict,
    ) {
        self.deliver_from(chain, ask);
        let (id, ..) = self.expect_import();
        self.imported(id, head, verdict);
    }

    pub(crate) fn fail(&mut self, ask: Ask) {
        self.reply(ask, Reply::Failed(Failure::NotAnswered));
    }

    /// Ends an import as the client does: it tells of the head too, if that has moved.
    pub(crate) fn imported(&mut self, id: RequestId, head: Option<Head>, verdict: ImportVerdict) {
        let moved = self.head != head;
        if moved && ORDER == Order::AppliedFirst {
            self.input(Input::Applied { head });
        }
        self.input(Input::Imported { id, head, verdict });
        if moved && ORDER == Order::ImportedFirst {
            self.input(Input::Applied { head });
        }
    }

    /// Imports the next page; all of it links.
    pub(crate) fn import(&mut self, expected: std::ops::RangeInclusive<BlockNumber>) {
        let (id, _, page) = self.expect_import();
        let got: Vec<_> = page.iter().map(Authenticated::block).collect();
        assert_eq!(got, expected.collect::<Vec<_>>());
        let last = chain::head_of(page.last().unwrap());
        self.imported(id, Some(last), ImportVerdict::Linked);
    }

    pub(crate) fn want(&mut self, block: BlockNumber, live: bool) {
        let hash: B256 = chain::txlist(block).hash();
        self.input(Input::TxListMissing { block, hash, live });
    }

    /// A commitment at `block` by the `n`th signer waits for a parent, as the client tells it.
    pub(crate) fn waits_by(&mut self, n: u8, block: BlockNumber, parent: B256) {
        self.pool.push((block, parent));
        self.input(Input::Orphan { block, parent, signer: Address::repeat_byte(n) });
        self.tell_waiting();
    }

    pub(crate) fn waits(&mut self, block: BlockNumber, parent: B256) {
        self.waits_by(1, block, parent);
    }

    /// Nothing waits for a parent any more, as the client tells it.
    pub(crate) fn waits_no_more(&mut self, parent: B256) {
        self.pool.retain(|(_, waited_for)| *waited_for != parent);
        self.input(Input::OrphanGone { parent });
        self.tell_waiting();
    }

    fn tell_waiting(&mut self) {
        let highest = self.pool.iter().map(|(block, _)| *block).max();
        self.input(Input::Waiting { highest });
    }

    /// How many commitments a page request asks for.
    pub(crate) fn count(ask: Ask) -> u32 {
        match ask.request {
            Request::Page { count, .. } => NonZeroU32::get(count),
            _ => 0,
        }
    }
}
