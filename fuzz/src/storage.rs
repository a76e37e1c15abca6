//! The records of the store on disk, as they are and of any bytes with the checksum that they need.

use p2p_fixtures::DOMAIN;
use p2p_storage::fuzz;
use p2p_types::{Address, B256, Misbehaviour, Promise, UnixSeconds};
use preconfirmation_types::Container as _;

use crate::input::Input;

/// Any record: what is read is written as it is read.
pub fn storage(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 8 {
        0 => drop(fuzz::packed(input.rest(), 442)),
        1 => {
            let key = (input.u64(), input.u64());
            drop(fuzz::commitment(key, input.rest(), true, &DOMAIN));
        }
        2 | 3 => commitment(&mut input),
        4 => promise(&mut input),
        5 => {
            let (signer, block) = (input.array(), input.u64());
            let labels = Misbehaviour::ALL.iter().map(|kind| kind.label()).chain(["", "other"]);
            let labels: Vec<_> = labels.collect();
            let label = input.choose(&labels);
            let bytes = input.rest();
            if let Ok(read) = fuzz::evidence(&signer, block, label, bytes) {
                assert_eq!((read.signer.0.0, read.block, read.record.kind.label()), (signer, block, label));
                assert_eq!([read.record.first.to_ssz(), read.record.second.to_ssz()].concat(), bytes);
            }
        }
        6 => drop(fuzz::state(input.rest())),
        _ => {
            let bytes = input.rest();
            let count = fuzz::published(bytes);
            assert_eq!(count, bytes.len().is_multiple_of(32).then_some(bytes.len() / 32));
        }
    }
}

/// The record of a commitment with some of its lengths wrong.
fn commitment(input: &mut Input<'_>) {
    let (block, is_canonical, arrival) = (input.u64(), input.bool(), input.u64() >> 1);
    let mut body = arrival.to_be_bytes().to_vec();
    body.extend_from_slice(&input.array::<20>());
    let mut ssz = [0; 382];
    let given = input.bytes(64);
    let at = usize::from(input.u16()) % (382 - 64);
    ssz[at..at + given.len()].copy_from_slice(given);
    let boolean = ssz[0];
    body.extend_from_slice(&ssz);
    let (tail, cut) = (input.below(40), input.below(8));
    body.extend(std::iter::repeat_n(input.byte(), tail));
    body.truncate(body.len() - cut);
    let key = (block, if is_canonical { 0 } else { arrival });
    let read = fuzz::commitment(key, &body, false, &DOMAIN);
    let rest = (8 + 20 + 382_usize).cmp(&body.len());
    let has_length = rest.is_eq() || body.len() == 8 + 20 + 382 + 32;
    assert_eq!(read.is_ok(), boolean < 2 && has_length, "{read:?}");
}

fn promise(input: &mut Input<'_>) {
    let promise = Promise {
        window_end: UnixSeconds::new(input.u64()),
        signer: Address::from(input.array()),
        block: input.u64(),
        hash: B256::from(input.array()),
        eop: input.bool(),
        eop_only: input.bool(),
    };
    let mut record = fuzz::written_promise(&promise);
    assert_eq!(fuzz::promise(&promise, &record), Ok(promise));
    // Any change of the record is seen.
    let (at, change) = (input.below(record.len()), input.byte());
    record[at] ^= change;
    let read = fuzz::promise(&promise, &record);
    assert_eq!(read.is_ok(), change == 0);
    drop(fuzz::promise(&promise, input.bytes(64)));
}
