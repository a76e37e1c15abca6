//! What decoding allocates, counted: bytes of an untrusted peer cost no memory before they are judged, and a
//! transaction list is shared with the message that it came in.

use allocation_counter::{AllocationInfo, measure};
use preconfirmation_types::{
    Bytes, Container, GetCommitmentsByNumber, GetCommitmentsByNumberResponse, GetRawTxList,
    GetRawTxListResponse, MAX_TXLIST_BYTES, PreconfCommitment, RawTxListGossip, Recovered, Rpc,
    SignedCommitment, SigningDomain, SigningKey, TXLIST_HEADER_BYTES, TxList, Unrecovered, frame,
};

fn signed() -> SignedCommitment {
    let key = SigningKey::from_bytes([7; 32]).unwrap();
    PreconfCommitment::default().sign(&key, &SigningDomain::PLACEHOLDER)
}

fn page(commitments: usize) -> Vec<u8> {
    let mut wire = vec![4, 0, 0, 0];
    for _ in 0..commitments {
        wire.extend(signed().to_ssz());
    }
    wire
}

fn txlist(len: usize) -> Vec<u8> {
    let mut wire = vec![0; 32];
    wire.extend([36, 0, 0, 0]);
    wire.resize(TXLIST_HEADER_BYTES + len, 0);
    wire
}

/// What decoding these bytes as a `C` allocates, and whether it succeeds.
fn decode<C: Container>(wire: Vec<u8>) -> (bool, AllocationInfo) {
    let bytes = Bytes::from(wire);
    let mut good = false;
    let info = measure(|| good = C::from_ssz(&bytes).is_ok());
    (good, info)
}

#[test]
fn the_counter_counts() {
    let info = measure(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1000))));
    assert_eq!((info.count_total, info.bytes_total), (1, 1000));
}

#[test]
fn a_signed_commitment_decodes_and_recovers_without_an_allocation() {
    let wire = signed().to_ssz();
    let (good, info) = decode::<SignedCommitment>(wire.clone());
    assert!(good);
    assert_eq!(info.count_total, 0);

    let domain = SigningDomain::PLACEHOLDER;
    let mut good = false;
    let info = measure(|| good = Recovered::from_ssz(&wire, &domain).is_ok());
    assert!(good);
    assert_eq!(info.count_total, 0);
}

#[test]
fn decoded_commitments_recover_through_one_buffer() {
    let (signed, domain) = (signed(), SigningDomain::PLACEHOLDER);
    let mut buffer = Vec::new();
    let mut recover = || {
        let mut good = false;
        let info =
            measure(|| good = Unrecovered::from_signed(signed.clone(), &mut buffer).recover(&domain).is_ok());
        assert!(good);
        info
    };
    recover();
    assert_eq!(recover().count_total, 0);
}

#[test]
fn a_transaction_list_of_2_mib_is_not_copied() {
    fn shared<C: Container>() {
        let (good, info) = decode::<C>(txlist(MAX_TXLIST_BYTES));
        assert!(good);
        // A counter of references, not the list.
        assert!(info.bytes_total < 1024, "{info:?}");
    }
    shared::<RawTxListGossip>();
    shared::<GetRawTxListResponse>();

    let gossip = RawTxListGossip::from_ssz(&txlist(MAX_TXLIST_BYTES).into()).unwrap();
    let mut list = None;
    let info = measure(|| list = TxList::new(gossip.txlist, MAX_TXLIST_BYTES).ok());
    assert!(list.is_some());
    assert_eq!(info.bytes_total, 0);
}

#[test]
fn a_page_is_allocated_once_at_its_size_and_a_lying_one_not_at_all() {
    let (good, info) = decode::<GetCommitmentsByNumberResponse>(page(256));
    assert!(good);
    // The list itself, and the counter of references of the slice that is walked.
    let list = u64::try_from(256 * size_of::<SignedCommitment>()).unwrap();
    assert!(info.bytes_total >= list && info.bytes_total < list + 1024, "{info:?}");

    let mut offset_too_far = page(3);
    offset_too_far[0] = 5;
    let mut offset_huge = page(3);
    offset_huge[..4].fill(0xff);
    let mut cut_off = page(3);
    cut_off.pop();
    for wire in [offset_too_far, offset_huge, cut_off, page(257), vec![4, 0, 0]] {
        let (good, info) = decode::<GetCommitmentsByNumberResponse>(wire);
        assert!(!good);
        assert_eq!(info.count_total, 0);
    }
}

#[test]
fn a_lying_transaction_list_allocates_nothing() {
    let mut offset = txlist(1000);
    offset[32..36].fill(0xff);
    for wire in [offset, txlist(MAX_TXLIST_BYTES + 1), vec![0; 35]] {
        let (good, info) = decode::<RawTxListGossip>(wire.clone());
        assert!(!good);
        assert_eq!(info.count_total, 0);
        let (good, info) = decode::<GetRawTxListResponse>(wire);
        assert!(!good);
        assert_eq!(info.count_total, 0);
    }
}

#[test]
fn a_frame_is_judged_by_its_announced_length_before_any_allocation() {
    // 4 GiB, one byte over the cap, and 1 MiB of which nothing follows.
    for (frame, cap) in [
        (&[0xff, 0xff, 0xff, 0xff, 0x0f][..], GetRawTxList::RESPONSE_CAP),
        (&[0x81, 0xa0, 0x80, 0x01], GetRawTxList::RESPONSE_CAP),
        (&[0x80, 0x80, 0x40], GetCommitmentsByNumber::RESPONSE_CAP),
    ] {
        let bytes = Bytes::copy_from_slice(frame);
        let mut refused = false;
        let info = measure(|| {
            refused = frame::read::<GetCommitmentsByNumberResponse>(&bytes, cap).is_err();
        });
        assert!(refused);
        assert_eq!(info.count_total, 0);
    }
}

#[test]
fn encoding_allocates_once_at_the_exact_size() {
    fn once<C: Container>(value: &C) {
        let mut len = 0;
        let info = measure(|| len = value.to_ssz().len());
        assert_eq!((info.count_total, info.bytes_total), (1, u64::try_from(len).unwrap()));
    }
    once(&signed());
    once(&GetCommitmentsByNumberResponse::from_ssz(&page(256).into()).unwrap());
    once(&RawTxListGossip::from_ssz(&txlist(4096).into()).unwrap());
}
