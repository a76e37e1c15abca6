//! What was promised, compared with what was settled.

use std::collections::HashMap;

use alloy_primitives::B256;
use p2p_types::{Breach, Difference, PromiseOutcome, Promised, SettledBlock, TransactionsBreach};

use super::txlist::{Unreadable, transactions};

/// Compares a settled block with a promise for its height: timestamp, receiver of the fees, gas limit, anchor, and the
/// transactions of the list, which is unpacked for that: 32 MiB at most. Takes milliseconds where the list is large.
#[must_use]
pub fn compare(block: &SettledBlock, promised: &Promised) -> PromiseOutcome {
    let preconf = promised.commitment.signed().preconf();
    let list = promised.txlist.as_ref().filter(|list| list.hash() == preconf.raw_tx_list_hash);
    let listed = list.map(|list| transactions(list.bytes()));
    let breach = Breach {
        timestamp: difference(preconf.timestamp.saturating_to(), block.timestamp.get()),
        fee_recipient: difference(preconf.coinbase, block.fee_recipient),
        gas_limit: block
            .gas_limit
            .and_then(|gas_limit| difference(preconf.gas_limit.saturating_to(), gas_limit)),
        anchor: block
            .anchor
            .and_then(|anchor| difference(preconf.anchor_block_number.saturating_to(), anchor)),
        transactions: match &listed {
            Some(Ok(promised)) => transactions_breach(promised, &block.transactions),
            Some(Err(Unreadable::Malformed)) => Some(TransactionsBreach::Unreadable),
            Some(Err(Unreadable::TooLarge)) | None => None,
        },
    };
    match listed {
        _ if !breach.is_none() => PromiseOutcome::Broken(breach),
        Some(Ok(_)) => PromiseOutcome::Kept,
        _ => PromiseOutcome::Unproven,
    }
}

fn difference<T: PartialEq>(promised: T, settled: T) -> Option<Difference<T>> {
    (promised != settled).then_some(Difference { promised, settled })
}

fn transactions_breach(promised: &[B256], settled: &[B256]) -> Option<TransactionsBreach> {
    if promised == settled {
        return None;
    }
    let common = promised.iter().zip(settled).take_while(|(one, other)| one == other).count();
    // How often each was promised, less how often it was settled.
    let mut balance: HashMap<&B256, i64> = HashMap::new();
    for hash in promised {
        *balance.entry(hash).or_default() += 1;
    }
    for hash in settled {
        *balance.entry(hash).or_default() -= 1;
    }
    let sum = |of: fn(i64) -> i64| {
        let total: i64 = balance.values().map(|balance| of(*balance).max(0)).sum();
        usize::try_from(total).unwrap_or(usize::MAX)
    };
    Some(TransactionsBreach::Differ {
        promised: promised.len(),
        missing: sum(|balance| balance),
        added: sum(|balance| -balance),
        first: common,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy_consensus::TxEnvelope;
    use alloy_primitives::{Address, Bytes, U256};
    use p2p_types::{PreconfCommitment, Preconfirmation, SigningDomain, TxList, UnixSeconds};

    use super::*;
    use crate::l2::fixtures::{key, legacy, list, packed, typed};

    fn hashes(transactions: &[TxEnvelope]) -> Vec<B256> {
        transactions.iter().map(|transaction| *transaction.hash()).collect()
    }

    /// A promise of these bytes as the list.
    fn promise(bytes: Bytes) -> Promised {
        let txlist = TxList::new(bytes.0, 1 << 21).unwrap();
        let preconf = Preconfirmation {
            block_number: U256::from(7),
            timestamp: U256::from(1_000),
            gas_limit: U256::from(30_000_000),
            coinbase: Address::repeat_byte(0xfe),
            anchor_block_number: U256::from(90),
            raw_tx_list_hash: txlist.hash(),
            ..Preconfirmation::default()
        };
        let signed = PreconfCommitment { preconf, slasher_address: Address::ZERO }
            .sign(&key(), &SigningDomain::PLACEHOLDER);
        let commitment = Arc::new(signed.recover(&SigningDomain::PLACEHOLDER).unwrap());
        Promised { commitment, txlist: Some(txlist) }
    }

    /// Four transactions, promised, and the block that keeps the promise.
    fn kept() -> (Promised, SettledBlock) {
        let transactions = [typed(0), legacy(1), typed(2), legacy(3)];
        let block = SettledBlock {
            number: 7,
            hash: B256::repeat_byte(1),
            timestamp: UnixSeconds::new(1_000),
            fee_recipient: Address::repeat_byte(0xfe),
            gas_limit: Some(30_000_000),
            anchor: Some(90),
            transactions: hashes(&transactions),
        };
        (promise(list(&transactions)), block)
    }

    #[test]
    fn a_block_as_promised_keeps_the_promise() {
        let (promised, block) = kept();
        assert_eq!(compare(&block, &promised), PromiseOutcome::Kept);
        let unread = SettledBlock { anchor: None, gas_limit: None, ..block };
        assert_eq!(compare(&unread, &promised), PromiseOutcome::Kept, "what is not read");
    }

    #[test]
    fn each_field_that_differs_breaks_the_promise() {
        let (promised, block) = kept();
        let differ = |promised, settled| Some(Difference { promised, settled });
        let fee_recipient = Some(Difference { promised: block.fee_recipient, settled: Address::ZERO });
        let none = Breach::default();
        for (settled, breach) in [
            (
                SettledBlock { timestamp: UnixSeconds::new(1_001), ..block.clone() },
                Breach { timestamp: differ(1_000, 1_001), ..none },
            ),
            (
                SettledBlock { fee_recipient: Address::ZERO, ..block.clone() },
                Breach { fee_recipient, ..none },
            ),
            (
                SettledBlock { gas_limit: Some(29_999_999), ..block.clone() },
                Breach { gas_limit: differ(30_000_000, 29_999_999), ..none },
            ),
            (SettledBlock { anchor: Some(91), ..block.clone() }, Breach { anchor: differ(90, 91), ..none }),
        ] {
            assert_eq!(compare(&settled, &promised), PromiseOutcome::Broken(breach));
        }
    }

    #[test]
    fn transactions_that_differ_break_the_promise() {
        let (promised, block) = kept();
        let all = block.transactions.clone();
        let other = *legacy(9).hash();
        for (transactions, missing, added, first) in [
            (all[..3].to_vec(), 1, 0, 3),
            (vec![all[0], all[2], all[3]], 1, 0, 1),
            ([all.clone(), vec![other]].concat(), 0, 1, 4),
            (vec![all[0], other, all[2], all[3]], 1, 1, 1),
            (vec![all[0], all[2], all[1], all[3]], 0, 0, 1),
            (vec![all[0], all[0], all[1], all[2], all[3]], 0, 1, 1),
            (vec![], 4, 0, 0),
        ] {
            let settled = SettledBlock { transactions, ..block.clone() };
            let differ = TransactionsBreach::Differ { promised: 4, missing, added, first };
            let breach = Breach { transactions: Some(differ), ..Breach::default() };
            assert_eq!(compare(&settled, &promised), PromiseOutcome::Broken(breach));
        }
    }

    #[test]
    fn without_a_readable_list_nothing_is_claimed_of_transactions() {
        let (mut promised, block) = kept();
        promised.txlist = None;
        assert_eq!(compare(&block, &promised), PromiseOutcome::Unproven);
        promised.txlist = kept().0.txlist.map(|_| TxList::new(list(&[]).0, 100).unwrap());
        assert_eq!(compare(&block, &promised), PromiseOutcome::Unproven, "another list");
        let late = SettledBlock { timestamp: UnixSeconds::new(5), ..block.clone() };
        assert!(matches!(compare(&late, &promised), PromiseOutcome::Broken(_)), "the header is told");
        let bomb = promise(packed(&vec![0; 33 << 20]));
        assert_eq!(compare(&block, &bomb), PromiseOutcome::Unproven);
    }

    #[test]
    fn bytes_that_are_no_list_promise_what_no_block_has() {
        let block = kept().1;
        let breach = Breach { transactions: Some(TransactionsBreach::Unreadable), ..Breach::default() };
        assert_eq!(compare(&block, &promise(Bytes::from_static(b"garbage"))), PromiseOutcome::Broken(breach));
    }

    #[test]
    fn a_promise_beyond_64_bits_is_broken() {
        let (mut promised, block) = kept();
        let mut preconf = promised.commitment.signed().preconf().clone();
        preconf.gas_limit = U256::MAX;
        let signed = PreconfCommitment { preconf, slasher_address: Address::ZERO }
            .sign(&key(), &SigningDomain::PLACEHOLDER);
        promised.commitment = Arc::new(signed.recover(&SigningDomain::PLACEHOLDER).unwrap());
        let gas_limit = Some(Difference { promised: u64::MAX, settled: 30_000_000 });
        assert_eq!(
            compare(&block, &promised),
            PromiseOutcome::Broken(Breach { gas_limit, ..Breach::default() })
        );
    }
}
