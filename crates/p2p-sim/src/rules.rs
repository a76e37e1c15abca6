//! The protocol's rules once more, written down plainly and apart from the client's code: what a valid commitment is, and which of
//! several branches stands.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use p2p_storage::StoredCommitment;
use p2p_types::{Address, B256, Base, Recovered, U256};
use preconfirmation_types::keccak256;
use secp256k1::{
    Message,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use crate::stage::{DOMAIN, GENESIS, SLASHER, WINDOW};

/// Half of the order of the curve: s may not be above it.
const HALF_ORDER: &str = "57896044618658097711785492504343953926418782139537452191302581570759080747168";

/// What a commitment promises, by its own bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promised {
    pub(crate) signer: Address,
    pub(crate) window: usize,
    pub(crate) number: u64,
    pub(crate) parent: B256,
    pub(crate) is_handover: bool,
}

/// Reads a commitment; what is wrong with it, whoever may have been elected.
pub(crate) fn read(shown: &Recovered) -> Result<Promised, String> {
    let signed = shown.signed();
    let (preconf, signature) = (signed.preconf(), &signed.signature.0);
    let s = U256::from_be_slice(&signature[32..64]);
    if s > HALF_ORDER.parse::<U256>().unwrap() {
        return Err("its s is in the upper half".into());
    }
    let signer = recover(signed.commitment.signing_hash(&DOMAIN), signature).ok_or("nobody has signed it")?;
    if signer != shown.signer() || preconf.hash() != shown.hash() {
        return Err(format!("{signer} has signed {}", preconf.hash()));
    }
    let is_handover = preconf.raw_tx_list_hash.is_zero();
    if is_handover && !preconf.eop {
        return Err("it names no list and hands nothing over".into());
    }
    if signed.commitment.slasher_address != SLASHER {
        return Err("it names another slasher".into());
    }
    let (end, timestamp) = (preconf.submission_window_end, preconf.timestamp);
    let end = u64::try_from(end).map_err(|_| "its window has no number")?;
    let after = end.checked_sub(GENESIS).filter(|after| (after + 1).is_multiple_of(WINDOW));
    let window = usize::try_from(after.ok_or("its window is none")? / WINDOW).unwrap();
    if timestamp < U256::from(end + 1 - WINDOW) || timestamp > U256::from(end) {
        return Err(format!("its timestamp {timestamp} is not in the window that ends at {end}"));
    }
    let number = u64::try_from(preconf.block_number).map_err(|_| "its number has more than 64 bits")?;
    Ok(Promised { signer, window, number, parent: preconf.parent_preconfirmation_hash, is_handover })
}

fn recover(hash: B256, signature: &[u8; 65]) -> Option<Address> {
    let [rs @ .., v] = signature;
    let id = match v {
        0 => RecoveryId::Zero,
        1 => RecoveryId::One,
        _ => return None,
    };
    let signature = RecoverableSignature::from_compact(rs, id).ok()?;
    let key = signature.recover_ecdsa(Message::from_digest(hash.0)).ok()?;
    Some(Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..]))
}

/// How siblings are compared; the greatest stands.
type Rank = (u64, u64, u64, U256, Reverse<B256>);

/// The chain above a base, as the protocol has it: at each fork the child stands whose subtree has the most turns, then the later
/// window, the highest block, the later timestamp, the lower hash. What is withdrawn counts only below what is not.
pub(crate) fn fork_choice(
    base: &Base,
    blocks: &[StoredCommitment],
    is_withdrawn: impl Fn(&B256) -> bool,
) -> Vec<B256> {
    let mut children: HashMap<B256, Vec<&StoredCommitment>> = HashMap::new();
    let mut roots = Vec::new();
    for block in blocks {
        let parent = block.recovered.signed().preconf().parent_preconfirmation_hash;
        if block.block != base.next() {
            children.entry(parent).or_default().push(block);
        } else if base.hash.is_none_or(|hash| hash == parent) {
            roots.push(block);
        }
    }
    // From the highest down: the turns from each block on, and the highest block above it.
    let by_height: BTreeMap<Reverse<u64>, Vec<&StoredCommitment>> =
        blocks.iter().fold(BTreeMap::new(), |mut by_height, block| {
            by_height.entry(Reverse(block.block)).or_insert_with(Vec::new).push(block);
            by_height
        });
    let mut reach: HashMap<B256, (u64, u64)> = HashMap::new();
    for block in by_height.into_values().flatten() {
        let mut own = (!is_withdrawn(&block.hash())).then_some((1, block.block));
        for child in children.get(&block.hash()).into_iter().flatten() {
            let Some((turns, highest)) = reach.get(&child.hash()) else { continue };
            let turn = u64::from(child.recovered.signer() != block.recovered.signer());
            let (most, top) = own.unwrap_or_default();
            own = Some((most.max(turns + turn), top.max(*highest)));
        }
        own.map(|own| reach.insert(block.hash(), own));
    }
    let rank = |block: &StoredCommitment| -> Option<Rank> {
        let preconf = block.recovered.signed().preconf();
        let (turns, highest) = reach.get(&block.hash())?;
        let window: u64 = preconf.submission_window_end.to();
        Some((*turns, window, *highest, preconf.timestamp, Reverse(block.hash())))
    };
    let (mut chain, mut siblings) = (Vec::new(), roots);
    while let Some((.., Reverse(best))) = siblings.iter().filter_map(|block| rank(block)).max() {
        chain.push(best);
        siblings = children.remove(&best).unwrap_or_default();
    }
    chain
}
