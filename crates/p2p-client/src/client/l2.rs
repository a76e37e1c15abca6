//! Follows a view of L2: moves the base to what was settled, and compares that with what was promised.

use std::sync::{Arc, MutexGuard, PoisonError};

use hashbrown::HashMap;
use p2p_storage::{SdkStorage, StorageError, StoredCommitment};
use p2p_types::{
    B256, Base, BlockNumber, L2Tip, L2View, PromiseOutcome, Promised, Recovered, SdkEvent, SettledBlock,
    TxList,
};
use tokio::time::sleep;

use super::{ChainApi, Inner, PAUSE, retried};
use crate::{
    P2pClientError, PromiseStats,
    chain::{Command, Refuted, Settlement},
    promises::{HeightOutcome, PromiseBook, is_overdue},
};

/// Of a longer run of settled heights above the chain only the last ones are searched for promises that L1 has taken out of it.
const NEAR: BlockNumber = 1_024;

/// Of a longer run of settled heights without a promise only the last ones are told.
const TOLD: BlockNumber = 256;

/// Heights that are settled in one step at most.
const STEP: usize = 256;

impl ChainApi {
    /// Follows a view of L2 until it ends, in place of [`l2_synced`](Self::l2_synced) and
    /// [`update_head`](Self::update_head): catching up starts when L2 is synced, and the base moves as the contracts settle
    /// blocks.
    ///
    /// Each settled block is compared with what was promised for its height. If it is as promised, the base has the
    /// preconfirmation hash, and so has it if another commitment for that height is what was settled; then that branch is the
    /// chain. If it is none of them, what stands on them falls. [`SdkEvent::Settled`] tells the outcome of each block, with both
    /// sides, and [`promises`](Self::promises) counts them. Blocks beside the chain are compared without their lists first, and
    /// with them only where nothing else differs, 64 of a height at most. If L2 takes settled blocks back, the base goes back with it.
    ///
    /// May be cancelled, and called again. One view at a time is to be followed.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`] that waiting cannot heal, [`P2pClientError::Closed`].
    pub async fn follow_l2(&self, mut view: impl L2View) -> Result<(), P2pClientError> {
        self.client.book().begin();
        let mut settler = Settler { client: Arc::clone(&self.client), opened: false, reached: None };
        let ended = self.client.wait_for(|_| false);
        tokio::pin!(ended);
        if let Some(base) = retried(|| settler.base()).await? {
            view.resume(base.number);
        }
        loop {
            let tip = tokio::select! {
                biased;
                ended = &mut ended => return ended,
                tip = view.next_tip() => tip,
            };
            let Some(tip) = tip else { return Ok(()) };
            while let Err(error) = settler.settle_to(&mut view, tip).await {
                if !error.is_retryable() {
                    return Err(error);
                }
                tracing::warn!(%error, block = tip.number, "what was promised cannot be read");
                sleep(PAUSE).await;
            }
        }
    }

    /// Which promises were kept, since the start: what is told is counted. None unless [`follow_l2`](Self::follow_l2) was called:
    /// without a view of L2 nothing is claimed.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`].
    pub async fn promises(&self) -> Result<Option<PromiseStats>, P2pClientError> {
        let Some(stats) = self.client.book().stats() else { return Ok(None) };
        let now = self.client.clock.now();
        let overdue = self.client.with_store(move |store| {
            let Some(base) = store.base()? else { return Ok(0) };
            let above = store.range(base.next(), usize::try_from(NEAR).unwrap_or(usize::MAX))?;
            Ok(above.iter().filter(|stored| is_overdue(&stored.recovered, now)).count())
        });
        Ok(Some(PromiseStats { overdue: overdue.await?, ..stats }))
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, PromiseBook> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks beside the chain of one height that are compared with what was settled down to their transactions: whoever is elected
/// may have signed thousands that differ in nothing else.
const COMPARED: usize = 64;

/// What was promised for a height.
struct Height {
    block: BlockNumber,
    /// The canonical block first, then those of one list together.
    promised: Vec<StoredCommitment>,
    /// Whether the first one is canonical.
    has_canonical: bool,
}

/// How a height was judged.
struct Judgement {
    /// The promise that counts: the canonical block, or what was settled in its place.
    promise: Option<Arc<Recovered>>,
    outcome: PromiseOutcome,
    /// The preconfirmation hash of what was settled.
    hash: Option<B256>,
    /// Whether the chain has to give way.
    contradicts: bool,
}

/// Moves the base of a client.
struct Settler {
    client: Arc<Inner>,
    /// Catch-up has been started.
    opened: bool,
    /// The tip up to which all is judged.
    reached: Option<(BlockNumber, B256)>,
}

/// Heights that were judged, before the base is moved over them.
#[derive(Default)]
struct Run {
    events: Vec<SdkEvent>,
    judged: Vec<HeightOutcome>,
}

impl Settler {
    async fn base(&self) -> Result<Option<Base>, P2pClientError> {
        self.client.with_store(|store| store.base()).await
    }

    async fn settle_to(&mut self, view: &mut impl L2View, tip: L2Tip) -> Result<(), P2pClientError> {
        let mut run = Run::default();
        let from = match self.base().await? {
            // A node that synchronizes itself has only not come so far.
            Some(base) if tip.number < base.number && !tip.synced => return Ok(()),
            Some(base) if tip.number < base.number => {
                tracing::warn!(from = base.number, to = tip.number, "the base goes back");
                self.client.book().take_back(tip.number);
                run.events.push(SdkEvent::Unsettled { from: tip.number.saturating_add(1), to: base.number });
                tip.number
            }
            Some(base) if tip.number == base.number => {
                if self.reached == Some((tip.number, tip.hash)) {
                    return if tip.synced && !self.opened {
                        self.flush(&mut run, base, tip.synced).await
                    } else {
                        Ok(())
                    };
                }
                tip.number
            }
            Some(base) => base.next(),
            None => tip.number,
        };
        let mut next = from;
        // What the base is once what was judged is settled.
        let mut pending = None;
        while let Some(height) = self.next_promised(next, tip.number).await? {
            run.unpromised(next.max(tip.number.saturating_sub(TOLD)), height.block);
            let block = height.block;
            if next < block {
                pending = Some(Base::at(block.saturating_sub(1)));
            }
            let Some(settled) = view.block(block).await else {
                // It is asked again with the next tip, from here on.
                return match pending {
                    Some(base) => self.flush(&mut run, base, false).await,
                    None => Ok(()),
                };
            };
            let settled = Arc::new(settled);
            let promised: Vec<B256> = height.promised.iter().map(StoredCommitment::hash).collect();
            let mut comparison = Comparison::new(&self.client, &*view, &settled);
            let judgement = comparison.judge(height).await?;
            let (base, contradicts) = (Base { number: block, hash: judgement.hash }, judgement.contradicts);
            run.judged(&settled, judgement, tip);
            let last = block == tip.number;
            if contradicts && base.hash.is_none() {
                let refuted = Refuted { settled: settled.hash, promised };
                self.flush_refuted(&mut run, base, last && tip.synced, Some(refuted)).await?;
            } else if contradicts || last || run.events.len() >= STEP {
                self.flush(&mut run, base, last && tip.synced).await?;
            }
            if last {
                self.reached = Some((tip.number, tip.hash));
                return Ok(());
            }
            (next, pending) = (block.saturating_add(1), Some(base));
        }
        run.unpromised(next.max(tip.number.saturating_sub(TOLD)), tip.number.saturating_add(1));
        self.flush(&mut run, Base::at(tip.number), tip.synced).await?;
        self.reached = Some((tip.number, tip.hash));
        Ok(())
    }

    /// The lowest height in a range for which something was promised.
    async fn next_promised(
        &self,
        from: BlockNumber,
        to: BlockNumber,
    ) -> Result<Option<Height>, P2pClientError> {
        self.client
            .with_store(move |store| {
                let head = store.head()?.map_or(0, |head| head.number);
                // Above the chain there may be some that L1 has taken out of it.
                let above = head.max(to.saturating_sub(NEAR)).saturating_add(1).max(from);
                for block in (from..=head.min(to)).chain(above..=to) {
                    if let Some(height) = promised_at(store, block)? {
                        return Ok(Some(height));
                    }
                }
                Ok(None)
            })
            .await
    }

    async fn flush(&mut self, run: &mut Run, base: Base, open: bool) -> Result<(), P2pClientError> {
        self.flush_refuted(run, base, open, None).await
    }

    /// Moves the base over what was judged, and tells.
    async fn flush_refuted(
        &mut self,
        run: &mut Run,
        base: Base,
        open: bool,
        refuted: Option<Refuted>,
    ) -> Result<(), P2pClientError> {
        let open = open && !self.opened;
        let Run { events, judged } = std::mem::take(run);
        // Counted before it is told. What is judged again, because it could not be stored, takes the place of this.
        for judged in judged {
            self.client.book().record(judged, &self.client.requester.metrics);
        }
        let settlement = Settlement { base, open, refuted, events };
        // The blocks below a base that has moved cannot be judged again: it is this that has to be stored.
        loop {
            let settlement = Box::new(settlement.clone());
            match self.client.ask(|reply| Command::Settle { settlement, reply }).await? {
                Ok(()) => break,
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, block = base.number, "what L2 has settled is not stored yet");
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.opened |= open;
        Ok(())
    }
}

/// What was promised for a height, if anything was.
fn promised_at(store: &dyn SdkStorage, block: BlockNumber) -> Result<Option<Height>, StorageError> {
    let mut here: Vec<StoredCommitment> = store.at(block)?;
    here.retain(|stored| !stored.is_handover());
    if here.is_empty() {
        return Ok(None);
    }
    let canonical = store.by_block(block)?.map(|stored| stored.hash());
    // Each list is read once then.
    let mut lists = HashMap::new();
    for stored in &here {
        let next = lists.len();
        lists.entry(stored.txlist_hash()).or_insert(next);
    }
    let list = |stored: &StoredCommitment| lists.get(&stored.txlist_hash()).copied();
    here.sort_by_key(|stored| (Some(stored.hash()) != canonical, list(stored)));
    Ok(Some(Height { block, promised: here, has_canonical: canonical.is_some() }))
}

/// Compares a settled block with all that was promised for its height, until one is it.
struct Comparison<'a, V> {
    client: &'a Inner,
    view: &'a V,
    settled: &'a SettledBlock,
    /// The list that was read last: one at a time.
    txlist: Option<(B256, Option<TxList>)>,
    /// How many more blocks beside the chain may be compared down to their transactions.
    left: usize,
}

impl<'a, V: L2View> Comparison<'a, V> {
    const fn new(client: &'a Inner, view: &'a V, settled: &'a SettledBlock) -> Self {
        Self { client, view, settled, txlist: None, left: COMPARED }
    }

    async fn judge(&mut self, height: Height) -> Result<Judgement, P2pClientError> {
        let Height { promised, has_canonical, .. } = height;
        let mut canonical = None;
        let mut all_broken = true;
        for (index, stored) in promised.into_iter().enumerate() {
            let is_canonical = index == 0 && has_canonical;
            let outcome = if is_canonical {
                self.compare(&stored).await?
            } else {
                self.compare_beside(&stored).await?
            };
            let hash = Some(stored.hash());
            let promise = stored.recovered;
            if is_canonical {
                if outcome == PromiseOutcome::Kept {
                    return Ok(Judgement { promise: Some(promise), outcome, hash, contradicts: false });
                }
                canonical = Some((promise, outcome));
            } else if outcome == PromiseOutcome::Kept {
                let (promise, outcome) = canonical.unwrap_or((promise, outcome));
                return Ok(Judgement { promise: Some(promise), outcome, hash, contradicts: true });
            }
            all_broken &= matches!(outcome, PromiseOutcome::Broken(_));
        }
        Ok(none_kept(canonical, all_broken))
    }

    /// Compares a block beside the chain: its list is read only where all else is as it was settled.
    async fn compare_beside(&mut self, stored: &StoredCommitment) -> Result<PromiseOutcome, P2pClientError> {
        let promised = Promised { commitment: Arc::clone(&stored.recovered), txlist: None };
        let outcome = self.view.compare(self.settled, promised).await;
        if outcome != PromiseOutcome::Unproven || self.left == 0 {
            return Ok(outcome);
        }
        self.left -= 1;
        self.compare(stored).await
    }

    async fn compare(&mut self, stored: &StoredCommitment) -> Result<PromiseOutcome, P2pClientError> {
        let hash = stored.txlist_hash();
        let txlist = match self.txlist.take() {
            Some((known, txlist)) if known == hash => txlist,
            _ => self.client.txlist(hash).await?,
        };
        self.txlist = Some((hash, txlist.clone()));
        let promised = Promised { commitment: Arc::clone(&stored.recovered), txlist };
        Ok(self.view.compare(self.settled, promised).await)
    }
}

/// The judgement of a height where no promise was kept.
fn none_kept(canonical: Option<(Arc<Recovered>, PromiseOutcome)>, all_broken: bool) -> Judgement {
    match canonical {
        Some((promise, outcome @ PromiseOutcome::Broken(_))) => {
            Judgement { promise: Some(promise), outcome, hash: None, contradicts: true }
        }
        // Where its list is not here, it stands until something contradicts it.
        Some((promise, outcome)) => {
            Judgement { promise: Some(promise), outcome, hash: None, contradicts: false }
        }
        // L1 has taken the blocks out of the chain before: nobody was to rely on them.
        None => {
            Judgement { promise: None, outcome: PromiseOutcome::None, hash: None, contradicts: all_broken }
        }
    }
}

impl Run {
    /// Nothing was promised for these heights.
    fn unpromised(&mut self, from: BlockNumber, until: BlockNumber) {
        for block in from..until {
            self.push(block, None, PromiseOutcome::None, None, false);
        }
    }

    fn judged(&mut self, settled: &Arc<SettledBlock>, judgement: Judgement, tip: L2Tip) {
        let Judgement { promise, outcome, hash, .. } = judgement;
        let late = match (&promise, tip.lower_at) {
            (Some(promise), Some(lower_at)) => is_overdue(promise, lower_at),
            _ => false,
        };
        let sides = promise.map(|promise| (promise, Arc::clone(settled)));
        self.push(settled.number, sides, outcome, hash, late);
    }

    fn push(
        &mut self,
        block: BlockNumber,
        sides: Option<(Arc<Recovered>, Arc<SettledBlock>)>,
        outcome: PromiseOutcome,
        hash: Option<B256>,
        late: bool,
    ) {
        let (commitment, settled) = sides.clone().unzip();
        self.events.push(SdkEvent::Settled { block, promise: outcome, commitment, settled, hash, late });
        self.judged.push(HeightOutcome { block, outcome, sides, late });
    }
}
