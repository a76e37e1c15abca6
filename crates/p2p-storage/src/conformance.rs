//! What every store must do, as named cases that any backend can be held to.
//!
//! ```
//! # #[cfg(feature = "test-utils")]
//! p2p_storage::conformance::check(p2p_storage::MemoryStorage::new);
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a suite of tests fails by panicking"
)]

mod base;
mod beside;
mod chain;
mod removal;
mod reorg;
mod txlists;

use p2p_types::{B256, Base, Head};

use crate::{SdkStorage, StorageLimits, StoredCommitment};

/// Gives an empty store with these limits.
pub type Make<'a> = &'a dyn Fn(StorageLimits) -> Box<dyn SdkStorage>;

/// One behaviour that a store must have.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name: a sentence about what must hold.
    pub name: &'static str,
    run: fn(Make<'_>),
}

impl Case {
    /// Panics, naming what differs, if the stores that `make` gives behave otherwise.
    pub fn check<S: SdkStorage>(&self, make: impl Fn(StorageLimits) -> S) {
        (self.run)(&|limits| Box::new(make(limits)));
    }
}

/// Runs every case on fresh stores. Panics at the first that fails.
pub fn check<S: SdkStorage>(make: impl Fn(StorageLimits) -> S) {
    for case in CASES {
        case.check(&make);
    }
}

macro_rules! cases {
    ($($group:ident: $($case:ident),* $(,)?;)*) => {
        /// All cases.
        pub const CASES: &[Case] = &[$($(Case { name: stringify!($case), run: $group::$case }),*),*];
    };
}

cases! {
    chain:
        a_chain_is_found_by_number_by_hash_and_by_range,
        of_two_leaves_the_later_stands_whichever_came_first,
        the_longer_branch_of_a_turn_stands_against_a_latecomer,
        a_block_that_builds_on_the_loser_brings_it_back,
        the_branch_of_most_turns_stands_in_any_order_and_the_head_may_fall,
        handovers_are_kept_beside_the_chain_and_never_become_it,
        handovers_and_rivals_of_one_height_keep_their_order_of_arrival,
        what_is_read_is_what_was_inserted,
        many_at_once_are_inserted_in_order_and_each_is_answered,
        counts_follow_what_is_held,
        whatever_stands_at_a_height_is_found_in_order_of_arrival;
    base:
        without_a_base_nothing_is_stored,
        a_newer_base_keeps_the_chain_above_it,
        a_base_that_contradicts_the_chain_removes_what_stood_on_the_wrong_block,
        a_base_on_another_branch_makes_that_the_chain,
        another_settled_block_takes_all_that_is_stored_above_it,
        a_base_makes_neither_a_handover_nor_a_block_of_another_height_canonical,
        handovers_stand_with_the_branch_that_they_are_on,
        a_base_that_falls_back_is_decided_anew,
        a_block_that_was_linked_to_another_base_falls_once_the_hash_is_known,
        a_base_beyond_the_chain_gives_way_to_a_branch_that_reaches_it,
        a_base_whose_hash_becomes_known_drops_what_does_not_stand_on_it,
        a_base_that_moves_up_drops_branches_from_below_it,
        a_base_below_the_chain_with_a_gap_removes_what_is_no_longer_linked,
        pruning_takes_what_is_settled_and_nothing_else,
        a_full_store_evicts_what_is_settled_first_and_then_says_full,
        blocks_beside_the_chain_are_bounded_and_the_chain_goes_before_them;
    reorg:
        a_withdrawn_chain_ends_lower_and_what_left_it_is_kept,
        a_withdrawn_block_that_comes_again_stays_out,
        a_block_on_a_withdrawn_one_brings_back_all_that_it_stands_on,
        another_branch_takes_the_place_of_a_withdrawn_one,
        what_is_reinstated_counts_as_before,
        nothing_at_or_below_the_base_is_withdrawn;
    removal:
        a_removed_block_takes_its_descendants_with_it,
        what_is_left_after_a_removal_is_decided_anew,
        a_removed_block_may_come_again,
        nothing_at_or_below_the_base_is_removed;
    txlists:
        txlists_are_bounded_by_bytes_and_settled_ones_go_first,
        a_list_that_a_later_block_shares_stays_for_it,
        a_renewed_list_stays_for_the_later_block,
        txlists_are_bounded_by_count,
        a_discarded_list_is_missing_and_can_be_put_again,
        many_lists_at_once_are_put_in_order_and_each_is_answered,
        a_list_that_comes_with_its_block_is_kept_if_the_block_stands,
        a_list_without_room_is_refused_and_its_block_is_not;
    beside:
        evidence_is_kept_once_for_signer_height_and_kind_and_can_be_verified_again,
        evidence_is_bounded_and_who_misbehaves_most_loses_first,
        evidence_outlives_what_is_pruned_and_dropped,
        promises_outlive_the_chain_until_their_window_is_pruned,
        the_publish_log_keeps_what_was_recorded_last;
}

fn based(make: Make<'_>) -> Box<dyn SdkStorage> {
    let store = make(StorageLimits::default());
    assert!(store.set_base(Base::at(0)).unwrap().is_empty());
    store
}

fn head(store: &dyn SdkStorage) -> Option<(u64, B256)> {
    store.head().unwrap().map(|Head { number, hash }| (number, hash))
}

fn hashes(stored: &[StoredCommitment]) -> Vec<B256> {
    stored.iter().map(StoredCommitment::hash).collect()
}
