//! The SSZ containers: decoding against a second implementation, and one field after the other.

mod naive;

use std::fmt::Debug;

use preconfirmation_types::{
    B256, Bytes, Container, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHeadRequest,
    GetRawTxListRequest, GetRawTxListResponse, PRECONFIRMATION_BYTES, PreconfCommitment, PreconfHead,
    Preconfirmation, RawTxListGossip, SignedCommitment, Unrecovered, keccak256,
};
use serde_json::Value;

use crate::input::Input;
use naive::Same;

/// Any bytes as any container: our decoder and `ssz_rs` accept the same ones, with the same values.
pub fn wire(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    // JSON costs more than all the rest.
    let json = *kind >= 240;
    match kind % 10 {
        0 => {
            if let Some(preconf) = differential::<Preconfirmation, naive::Preconfirmation>(&bytes) {
                assert_eq!(preconf.hash(), keccak256(&bytes));
                comes_back(json, &preconf);
            }
        }
        1 => drop(differential::<PreconfCommitment, naive::Commitment>(&bytes)),
        2 => {
            if let Some(signed) = differential::<SignedCommitment, naive::SignedCommitment>(&bytes) {
                judge_signed(&signed, &bytes, json);
            } else {
                assert!(Unrecovered::from_ssz(&bytes).is_err());
            }
        }
        3 => drop(differential::<RawTxListGossip, naive::TxList>(&bytes)),
        4 => drop(differential::<PreconfHead, naive::Head>(&bytes)),
        5 => {
            if let Some(page) = differential::<GetCommitmentsByNumberResponse, naive::Page>(&bytes) {
                comes_back(json, &page);
            }
        }
        6 => drop(differential::<GetCommitmentsByNumberRequest, naive::PageRequest>(&bytes)),
        7 => drop(differential::<GetRawTxListRequest, naive::TxListRequest>(&bytes)),
        8 => drop(differential::<GetRawTxListResponse, naive::TxList>(&bytes)),
        // An empty list of its own, which `ssz_rs` has no type for.
        _ => assert_eq!(decoded::<GetHeadRequest>(&bytes).is_some(), *bytes == [4, 0, 0, 0]),
    }
}

/// What is decoded is encoded as it came, in one part and in two.
fn decoded<C: Container>(bytes: &Bytes) -> Option<C> {
    match C::from_ssz(bytes) {
        Ok(value) => {
            assert!((C::MIN_SSZ_BYTES..=C::MAX_SSZ_BYTES).contains(&bytes.len()));
            assert_eq!(value.to_ssz(), *bytes);
            let (head, tail) = value.to_ssz_parts();
            assert!(bytes.strip_prefix(&*head) == Some(&*tail));
            Some(value)
        }
        Err(error) => {
            assert_eq!(error.container, C::NAME);
            None
        }
    }
}

fn differential<C: Container + Debug, N: Same<C>>(bytes: &Bytes) -> Option<C> {
    let ours = decoded::<C>(bytes);
    // It subtracts offsets from lengths without looking, so what is too short or has another offset is not shown to it.
    let offset = || bytes[..C::MIN_SSZ_BYTES].last_chunk::<4>().map(|offset| u32::from_le_bytes(*offset));
    let is_fixed = C::MIN_SSZ_BYTES == C::MAX_SSZ_BYTES;
    let has_form = bytes.len() >= C::MIN_SSZ_BYTES
        && (is_fixed || offset().map(usize::try_from) == Some(Ok(C::MIN_SSZ_BYTES)));
    let theirs = if has_form { naive::decode::<N>(bytes) } else { None };
    match (&ours, &theirs) {
        (Some(ours), Some(theirs)) => assert!(theirs.is_same(ours), "{ours:?} {theirs:?}"),
        (None, None) => {}
        _ => panic!("ours: {ours:?}, ssz_rs: {theirs:?}"),
    }
    ours
}

fn judge_signed(signed: &SignedCommitment, bytes: &[u8], json: bool) {
    let undecided = Unrecovered::from_ssz(bytes).unwrap();
    assert_eq!(undecided.signed(), signed);
    assert_eq!(signed.preconf().hash(), keccak256(&bytes[..PRECONFIRMATION_BYTES]));
    let low = signed.clone().with_low_s();
    assert_eq!(low.commitment, signed.commitment);
    assert_eq!(low.clone().with_low_s(), low, "the low form has no other");
    comes_back(json, signed);
}

/// What is written as JSON is read as the same.
fn comes_back<T>(json: bool, value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    if json {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
    }
}

/// How the bytes of a container are laid out.
#[derive(Clone, Copy)]
struct Shape {
    /// Of the fixed part, with the offset at its end where there is a list.
    header: usize,
    /// Bytes of an item, and most items; none for a container without a list.
    list: Option<(usize, usize)>,
    /// Whether the first byte, or that of each item, is a boolean.
    bool_first: bool,
}

impl Shape {
    const fn fixed(header: usize, bool_first: bool) -> Self {
        Self { header, list: None, bool_first }
    }

    fn is_well_formed(&self, bytes: &[u8]) -> bool {
        let is_bool = |bytes: &[u8]| !self.bool_first || bytes.first().is_none_or(|byte| *byte < 2);
        let Some((item, most)) = self.list else {
            return bytes.len() == self.header && is_bool(bytes);
        };
        let Some((header, tail)) = bytes.split_at_checked(self.header) else { return false };
        let offset = u32::try_from(self.header).unwrap().to_le_bytes();
        header.ends_with(&offset)
            && tail.len() % item == 0
            && tail.len() / item <= most
            && tail.chunks(item).all(is_bool)
    }

    /// A valid container, its content out of the input.
    fn sample(&self, input: &mut Input<'_>) -> Vec<u8> {
        let fill = input.byte();
        let mut bytes = vec![fill; self.header];
        let items = self.list.map_or(0, |(item, most)| (item, input.below(4).min(most)).1);
        if let Some((item, _)) = self.list {
            let at = self.header - 4;
            bytes[at..].copy_from_slice(&u32::try_from(self.header).unwrap().to_le_bytes());
            bytes.resize(self.header + items * item, fill);
        }
        let given = input.bytes(24);
        let at = usize::from(input.u16()) % (bytes.len() + 1);
        let end = bytes.len().min(at + given.len());
        if self.list.is_none() || at >= self.header {
            bytes[at..end].copy_from_slice(&given[..end - at]);
        }
        let (from, item) = self.list.map_or((0, self.header), |(item, _)| (self.header, item));
        if self.bool_first {
            bytes[from..].chunks_mut(item).for_each(|item| item[0] &= 1);
        }
        bytes
    }
}

/// A valid container that is changed in up to three places: it is accepted exactly where it is still well formed.
pub fn wire_fields(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte() % 10;
    let list = |header, item, most| Shape { header, list: Some((item, most)), bool_first: false };
    let shape = match kind {
        0 => Shape::fixed(297, true),
        1 => Shape::fixed(317, true),
        2 => Shape::fixed(382, true),
        3 | 8 => list(36, 1, 2 << 20),
        4 => Shape::fixed(64, false),
        5 => Shape { bool_first: true, ..list(4, 382, 256) },
        6 => Shape::fixed(36, false),
        7 => Shape::fixed(32, false),
        _ => list(4, 1, 0),
    };
    let mut bytes = shape.sample(&mut input);
    assert!(shape.is_well_formed(&bytes), "a valid one to begin with");
    for _ in 0..input.below(4) {
        change(&mut input, &mut bytes);
    }
    let (good, bytes) = (shape.is_well_formed(&bytes), Bytes::from(bytes));
    let accepted = match kind {
        0 => decoded::<Preconfirmation>(&bytes).is_some(),
        1 => decoded::<PreconfCommitment>(&bytes).is_some(),
        2 => decoded::<SignedCommitment>(&bytes).is_some(),
        3 => decoded::<RawTxListGossip>(&bytes).is_some(),
        4 => decoded::<PreconfHead>(&bytes).is_some(),
        5 => decoded::<GetCommitmentsByNumberResponse>(&bytes).is_some(),
        6 => decoded::<GetCommitmentsByNumberRequest>(&bytes).is_some(),
        7 => decoded::<GetRawTxListRequest>(&bytes).is_some(),
        8 => decoded::<GetRawTxListResponse>(&bytes).is_some(),
        _ => decoded::<GetHeadRequest>(&bytes).is_some(),
    };
    assert_eq!(accepted, good, "container {kind}");
}

/// One change of a message: bits, bytes, ends, offsets, order.
fn change(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    let how = input.byte() % 8;
    let at = usize::from(input.u16()) % bytes.len().max(1);
    let value = input.byte();
    match how {
        0 => bytes.truncate(at),
        1 => bytes.extend(std::iter::repeat_n(value, 1 + usize::from(value) % 40)),
        2 if at + 4 <= bytes.len() => {
            bytes[at..at + 4].copy_from_slice(&u32::from(value).to_le_bytes());
        }
        3 if !bytes.is_empty() => drop(bytes.remove(at)),
        4 => bytes.insert(at, value),
        5 if !bytes.is_empty() => bytes.rotate_left(at),
        6 if !bytes.is_empty() => bytes[at] ^= 1 << (value & 7),
        _ if !bytes.is_empty() => bytes[at] = value,
        _ => {}
    }
}

/// A hash in the form of `ssz_rs`.
fn is_hash(theirs: &[u8], ours: &B256) -> bool {
    theirs == ours.as_slice()
}
