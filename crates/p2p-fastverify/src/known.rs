//! Recovery that knows whom to expect: tables of signers, learnt from ordinary recoveries.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use alloy_primitives::Address;
use schnellru::{ByLength, LruMap};
use secp256k1::{
    Message, PublicKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use crate::{Signature, Table, Verdict, verify_all};

/// A signature and who should have made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The signature.
    pub signature: Signature,
    /// Who should have made it, if anybody is known to. Changes how long the answer takes, never the answer.
    pub expected: Option<Address>,
}

/// The signers whose tables are known. Shared by reference between threads.
///
/// Each answer is that of libsecp256k1's recovery: a known signer's signature is verified against its table, all others
/// are recovered. A signer is learnt from recoveries: the [`LEARNT_AFTER`]th signature of one that was expected makes
/// [`wants_tables`](Self::wants_tables) true, and [`build_wanted`](Self::build_wanted) builds its table, on whatever thread
/// calls it. Who signs without being expected is never learnt, so nobody builds tables here by inventing keys.
///
/// Forgeries in the name of a known signer cost a verification more than without its table. So each table has credit: a
/// forgery takes one, a genuine signature gives some back, and without any credit its claims are recovered at once.
#[derive(Debug)]
pub struct KnownSigners {
    tables: Mutex<LruMap<Address, Arc<Known>, ByLength>>,
    sighted: Mutex<LruMap<Address, Sighting, ByLength>>,
    wants: AtomicBool,
    counts: Counters,
}

/// Recoveries of an expected signer until its table is wanted: a table costs as much as eight.
pub const LEARNT_AFTER: u32 = 8;

/// Signatures by one signer that are worth its table when they come together.
const WORTH_A_TABLE: usize = 24;

/// Signers that are remembered until they are learnt.
const SIGHTED: u32 = 256;

/// Forgeries in a row that a table is tried on, at most: a few pages, so that those of several threads at once pass.
const MOST_CREDIT: u32 = 1024;

/// What a genuine signature gives back: with so many forgeries for each, tables save about what they cost.
const CREDIT: u32 = 4;

#[derive(Debug)]
struct Known {
    table: Table,
    credit: AtomicU32,
}

#[derive(Debug)]
struct Sighting {
    key: PublicKey,
    times: u32,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    fallbacks: AtomicU64,
    recoveries: AtomicU64,
    built: AtomicU64,
}

/// What a [`KnownSigners`] has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Signatures that the expected signer's table has proved.
    pub hits: u64,
    /// Signatures that it was tried on and had not been made by that signer.
    pub misses: u64,
    /// Signatures that it was tried on and could not decide.
    pub fallbacks: u64,
    /// Recoveries by libsecp256k1, those after a miss or a fallback included.
    pub recoveries: u64,
    /// Tables built.
    pub tables_built: u64,
    /// Tables at hand now.
    pub tables: u64,
}

impl Known {
    /// Whether to try the table, by its credit.
    fn is_tried(&self) -> bool {
        self.credit.fetch_update(Relaxed, Relaxed, |credit| credit.checked_sub(1)).is_ok()
    }

    /// A signature of this signer's came; `tried` where a try had taken credit for it.
    fn genuine(&self, tried: bool) {
        let give = CREDIT + u32::from(tried);
        // Not atomic as a whole: what two threads give at once may count once.
        let credit = self.credit.load(Relaxed);
        self.credit.store((credit + give).min(MOST_CREDIT), Relaxed);
    }
}

impl KnownSigners {
    /// Nobody is known yet. Tables will take at most `bytes`, at [`Table::BYTES`] each; below that there are none, and
    /// every signature is recovered.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let tables = u32::try_from(bytes / Table::BYTES).unwrap_or(u32::MAX);
        let mut sighted = LruMap::new(ByLength::new(SIGHTED));
        if tables > 0 {
            // Now, so that no recovery allocates later.
            sighted.reserve_or_panic(SIGHTED as usize);
        }
        Self {
            tables: Mutex::new(LruMap::new(ByLength::new(tables))),
            sighted: Mutex::new(sighted),
            wants: AtomicBool::new(false),
            counts: Counters::default(),
        }
    }

    /// Whether a signer's table is at hand.
    #[must_use]
    pub fn knows(&self, signer: Address) -> bool {
        lock(&self.tables).peek(&signer).is_some()
    }

    /// Whose key made a signature, as libsecp256k1 recovers it; none where no key did. Allocates nothing.
    pub fn recover(&self, claim: &Claim) -> Option<Address> {
        let known = claim.expected.and_then(|signer| self.get(signer));
        match &known {
            Some(known) if known.is_tried() => {
                let verdict = known.table.verify(&claim.signature);
                self.settle(claim, Some(known), Some(verdict))
            }
            known => self.settle(claim, known.as_ref(), None),
        }
    }

    /// The answer to each claim, in order, each as [`recover`](Self::recover) would give it. Calls `after_each` after each
    /// ordinary recovery, so that a caller who must not keep a core for long can let others have it.
    #[must_use]
    pub fn recover_all(&self, claims: &[Claim], after_each: impl Fn()) -> Vec<Option<Address>> {
        let known: Vec<_> =
            claims.iter().map(|claim| claim.expected.and_then(|signer| self.get(signer))).collect();
        let tried: Vec<bool> =
            known.iter().map(|known| known.as_ref().is_some_and(|known| known.is_tried())).collect();
        let to_verify: Vec<_> = claims
            .iter()
            .zip(&known)
            .zip(&tried)
            .filter(|(_, tried)| **tried)
            .filter_map(|((claim, known), _)| Some((&known.as_ref()?.table, claim.signature)))
            .collect();
        let mut verdicts = verify_all(&to_verify).into_iter();
        claims
            .iter()
            .zip(&known)
            .zip(&tried)
            .map(|((claim, known), tried)| {
                let verdict = if *tried { verdicts.next() } else { None };
                let signer = self.settle(claim, known.as_ref(), verdict);
                if verdict != Some(Verdict::Signed) {
                    after_each();
                }
                signer
            })
            .collect()
    }

    /// The expected signers of many claims that come together and are not known yet, each with some of its claims: those
    /// that [`learn`](Self::learn) is worth calling with before [`recover_all`](Self::recover_all) is called with them all.
    #[must_use]
    pub fn worth_learning(&self, claims: &[Claim]) -> Vec<(Address, Vec<Claim>)> {
        let mut signers: Vec<(Address, Vec<Claim>, usize)> = Vec::new();
        for claim in claims {
            let Some(signer) = claim.expected else { continue };
            match signers.iter_mut().find(|(known, ..)| *known == signer) {
                Some((_, samples, times)) => {
                    if samples.len() < SAMPLES {
                        samples.push(*claim);
                    }
                    *times += 1;
                }
                None => signers.push((signer, vec![*claim], 1)),
            }
        }
        let worth =
            |(signer, _, times): &(Address, _, usize)| *times >= WORTH_A_TABLE && self.can_learn(*signer);
        signers.into_iter().filter(worth).map(|(signer, samples, _)| (signer, samples)).collect()
    }

    /// Builds the table of a signer at once, if one of these signatures is by its key.
    pub fn learn(&self, signer: Address, samples: &[Claim]) {
        let key = samples.iter().find_map(|claim| {
            self.counts.recoveries.fetch_add(1, Relaxed);
            recover(&claim.signature).filter(|key| address(key) == signer)
        });
        if let Some(key) = key {
            self.add(&key);
        }
    }

    /// Builds the table of a key at once. For keys that the caller trusts to be worth it.
    pub fn add(&self, key: &PublicKey) {
        if self.can_learn(address(key)) {
            self.build(key);
        }
    }

    /// Whether [`build_wanted`](Self::build_wanted) has something to do. Told to one caller, who is to see to it, so that
    /// no more than one job waits for another thread.
    #[must_use]
    pub fn wants_tables(&self) -> bool {
        self.wants.load(Relaxed) && self.wants.swap(false, Relaxed)
    }

    /// Builds the tables of all signers that have been recovered often enough. Takes less than a millisecond for each;
    /// meanwhile other threads recover as before.
    pub fn build_wanted(&self) {
        loop {
            // Taken out before it is built, so that no other thread builds the same.
            let mut sighted = lock(&self.sighted);
            let wanted = sighted
                .iter()
                .find(|(_, sighting)| sighting.times >= LEARNT_AFTER)
                .map(|(signer, _)| *signer);
            let Some(sighting) = wanted.and_then(|signer| sighted.remove(&signer)) else { return };
            drop(sighted);
            self.build(&sighting.key);
        }
    }

    /// What has been done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Counters { hits, misses, fallbacks, recoveries, built } = &self.counts;
        Counts {
            hits: hits.load(Relaxed),
            misses: misses.load(Relaxed),
            fallbacks: fallbacks.load(Relaxed),
            recoveries: recoveries.load(Relaxed),
            tables_built: built.load(Relaxed),
            tables: lock(&self.tables).len() as u64,
        }
    }

    fn get(&self, signer: Address) -> Option<Arc<Known>> {
        lock(&self.tables).get(&signer).map(|known| Arc::clone(known))
    }

    fn can_learn(&self, signer: Address) -> bool {
        let tables = lock(&self.tables);
        tables.limiter().max_length() > 0 && tables.peek(&signer).is_none()
    }

    fn build(&self, key: &PublicKey) {
        let table = Table::new(key);
        self.counts.built.fetch_add(1, Relaxed);
        let signer = table.signer();
        let credit = AtomicU32::new(MOST_CREDIT);
        let known = Arc::new(Known { table, credit });
        lock(&self.tables).insert(signer, known);
    }

    /// The answer to a claim after its table, if there is one, was tried or not.
    fn settle(&self, claim: &Claim, known: Option<&Arc<Known>>, verdict: Option<Verdict>) -> Option<Address> {
        let counts = &self.counts;
        match (known, verdict) {
            (Some(known), Some(Verdict::Signed)) => {
                counts.hits.fetch_add(1, Relaxed);
                known.genuine(true);
                return Some(known.table.signer());
            }
            (_, Some(Verdict::NotSigned)) => _ = counts.misses.fetch_add(1, Relaxed),
            (_, Some(_)) => _ = counts.fallbacks.fetch_add(1, Relaxed),
            (_, None) => {}
        }
        counts.recoveries.fetch_add(1, Relaxed);
        let key = recover(&claim.signature)?;
        let signer = address(&key);
        if claim.expected == Some(signer) {
            match known {
                Some(known) => known.genuine(verdict.is_some()),
                None => self.sight(signer, key),
            }
        }
        Some(signer)
    }

    fn sight(&self, signer: Address, key: PublicKey) {
        if !self.can_learn(signer) {
            return;
        }
        let mut sighted = lock(&self.sighted);
        let sighting = sighted.get_or_insert(signer, || Sighting { key, times: 0 });
        if let Some(sighting) = sighting {
            sighting.times += 1;
            if sighting.times == LEARNT_AFTER {
                self.wants.store(true, Relaxed);
            }
        }
    }
}

/// Claims of a signer among which one genuine signature is looked for before its table is built.
const SAMPLES: usize = 3;

/// Ordinary recovery: any r, s and v that libsecp256k1 takes.
fn recover(Signature { digest, bytes: [rs @ .., v] }: &Signature) -> Option<PublicKey> {
    let v = RecoveryId::try_from(i32::from(*v)).ok()?;
    let signature = RecoverableSignature::from_compact(rs, v).ok()?;
    signature.recover_ecdsa(Message::from_digest(*digest)).ok()
}

fn address(key: &PublicKey) -> Address {
    let [_, point @ ..] = key.serialize_uncompressed();
    Address::from_raw_public_key(&point)
}

/// No code that holds one of these locks panics halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
