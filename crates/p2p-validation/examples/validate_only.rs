//! Judges commitments without a network, a runtime or a store.
//!
//! `cargo run -p p2p-validation --example validate_only`

use std::{num::NonZeroU64, sync::Arc};

use p2p_types::{
    Address, B256, Base, PreconfCommitment, Preconfirmation, SigningDomain, SigningKey, U256, UnixSeconds,
};
use p2p_validation::{Arrival, Facts, RotatingSchedule, ValidationConfig, ValidationOutcome, Validator};
use preconfirmation_types::Container as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (domain, slasher) = (SigningDomain::PLACEHOLDER, Address::repeat_byte(0x51));
    let (elected, other) = (SigningKey::from_bytes([1; 32])?, SigningKey::from_bytes([2; 32])?);
    let window = NonZeroU64::new(12).ok_or("no window")?;
    let schedule = RotatingSchedule::new(vec![elected.address()], UnixSeconds::new(1_000), window)?;
    let validator = Validator::new(ValidationConfig::new(domain, slasher), Arc::new(schedule));

    let preconf = Preconfirmation {
        block_number: U256::from(8),
        timestamp: U256::from(1_003),
        submission_window_end: U256::from(1_011),
        raw_tx_list_hash: B256::repeat_byte(7),
        parent_preconfirmation_hash: B256::repeat_byte(6),
        ..Default::default()
    };
    // What the caller knows: when it came, what is settled, and the parent, if that is here.
    let arrival = Arrival::Live(UnixSeconds::new(1_004));
    let facts = |settled| Facts { base: Base::at(settled), parent: None, before: None };
    for (what, key, settled) in [
        ("by the elected preconfer, right above the base", &elected, 7),
        ("by the elected preconfer, with a parent that is not here", &elected, 5),
        ("by somebody else", &other, 7),
    ] {
        let signed =
            PreconfCommitment { preconf: preconf.clone(), slasher_address: slasher }.sign(key, &domain);
        match validator.validate(&signed.to_ssz(), arrival, &facts(settled)) {
            ValidationOutcome::Accept(linked) => println!("{what}: block {} is valid", linked.block()),
            ValidationOutcome::Defer(missing) => println!("{what}: waits for {missing:?}"),
            ValidationOutcome::Ignore(reason) => println!("{what}: of no use: {reason:?}"),
            ValidationOutcome::Reject(rejection) => {
                println!("{what}: {rejection}; its sender is charged with {:?}", rejection.offence());
            }
        }
    }
    Ok(())
}
