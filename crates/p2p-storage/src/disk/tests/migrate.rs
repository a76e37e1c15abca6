//! Files of older versions.

use p2p_types::{B256, Base, Head};
use preconfirmation_types::{Container as _, keccak256};
use redb::{Database, ReadableDatabase as _, ReadableTable as _};

use super::{
    super::{
        evidence::decode_evidence,
        migrate::{PLACES, UNPACKED},
        rows::{CHECKSUM_BYTES, Row},
        state::{STATE_KEY, State},
        tables::{COMMITMENTS, EVIDENCE, HEIGHTS, META, SCHEMA_KEY},
    },
    medium::Medium,
};
use crate::{
    CommitmentStore, DiskConfig, DiskStorage, EvidenceStore, SdkStorage, StorageError, TxListStore,
    fixtures::{DOMAIN, Judge, block, chain, equivocation, txlist},
};

fn keccak_sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = keccak256(&bytes);
    bytes.extend_from_slice(&sum[..CHECKSUM_BYTES]);
    bytes
}

/// Makes of a file what an older version would have written.
pub(super) fn take_back(database: Database, schema: u32) {
    let state = State::load(&database.begin_read().unwrap(), &DOMAIN).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut last = 0;
    {
        let new = transaction.open_table(COMMITMENTS).unwrap();
        let mut old = transaction.open_table(UNPACKED).unwrap();
        let mut places = transaction.open_table(PLACES).unwrap();
        for row in new.iter().unwrap() {
            let (place, bytes) = row.unwrap();
            let place = place.value();
            let Row { arrival, stored } = Row::decode(place, bytes.value(), &DOMAIN).unwrap();
            let signed = stored.recovered.signed();
            let mut bytes = [place.0.to_be_bytes(), arrival.to_be_bytes()].concat();
            bytes.extend_from_slice(stored.recovered.signer().as_slice());
            bytes.extend_from_slice(&signed.to_ssz());
            if stored.parent != signed.preconf().parent_preconfirmation_hash {
                bytes.extend_from_slice(stored.parent.as_slice());
            }
            old.insert(place, &*keccak_sealed(bytes)).unwrap();
            places.insert(&stored.hash().0, place).unwrap();
            last = last.max(arrival);
        }
        let mut evidence = transaction.open_table(EVIDENCE).unwrap();
        let all: Vec<_> = evidence
            .iter()
            .unwrap()
            .map(|piece| {
                let (place, bytes) = piece.unwrap();
                let (signer, block, label) = place.value();
                let record = decode_evidence(place.value(), bytes.value()).unwrap().record;
                (*signer, block, label.to_owned(), [record.first.to_ssz(), record.second.to_ssz()].concat())
            })
            .collect();
        for (signer, block, label, body) in all {
            let sealed = [&signer[..], &block.to_be_bytes(), label.as_bytes(), &body].concat();
            let sum = keccak256(sealed);
            let bytes = [&body, &sum[..CHECKSUM_BYTES]].concat();
            evidence.insert((&signer, block, &*label), &*bytes).unwrap();
        }
        let place =
            |known: u8, head: Head| [&[known][..], &head.number.to_be_bytes(), head.hash.as_slice()].concat();
        let base = state.base.unwrap();
        let mut bytes = place(2, Head { number: base.number, hash: base.hash.unwrap() });
        bytes.extend(place(1, state.tip.unwrap()));
        for count in [state.commitments as u64, state.txlists as u64, state.txlist_bytes as u64, last] {
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert(STATE_KEY, &*keccak_sealed(bytes)).unwrap();
        meta.insert(SCHEMA_KEY, &schema.to_be_bytes()[..]).unwrap();
    }
    transaction.delete_table(COMMITMENTS).unwrap();
    transaction.delete_table(HEIGHTS).unwrap();
    if schema == 1 {
        transaction.delete_table(EVIDENCE).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn a_file_of_an_older_schema_is_taken_over_with_all_that_is_in_it() {
    for schema in [1, 2] {
        let medium = Medium::default();
        // Of schema 1 all lists are in the database.
        let file_bytes = if schema == 1 { usize::MAX } else { 10_000 };
        let config = DiskConfig { file_bytes, ..DiskConfig::recommended(DOMAIN) };
        let open = || DiskStorage::open_source(Box::new(medium.clone()), config).unwrap();
        let (judge, store) = (Judge::default(), open());
        store.set_base(Base { number: 0, hash: Some(B256::ZERO) }).unwrap();
        let blocks = chain(&store, 20);
        let rival = block(20, 20, blocks[18].hash(), 9);
        drop(judge.insert(&store, rival.clone()).unwrap());
        drop(judge.insert(&store, block(21, 21, rival.hash(), 0)).unwrap());
        assert!(store.put(1, txlist(1, 100)).unwrap() && store.put(2, txlist(2, 20_000)).unwrap());
        assert!(schema == 1 || store.put_evidence(&equivocation(1, 5, [1, 2])).unwrap());
        let seen = |store: &DiskStorage| {
            let all: Vec<_> = (0..30).map(|height| store.at(height).unwrap()).collect();
            let lists = [txlist(1, 100), txlist(2, 20_000)].map(|list| store.get(&list.hash()).unwrap());
            let settled = (store.base().unwrap(), store.head().unwrap(), store.stats().unwrap());
            (all, lists, settled, store.by_hash(&rival.hash()).unwrap(), store.evidence().unwrap())
        };
        let before = seen(&store);
        drop(store);
        take_back(Database::builder().create_with_backend(medium.clone()).unwrap(), schema);
        let store = open();
        assert_eq!(seen(&store), before, "schema {schema}");
        assert!(store.verify().unwrap().is_sound());
        drop(judge.insert(&store, block(20, 20, blocks[18].hash(), 7)).unwrap());
        let arrived: Vec<_> = store.at(20).unwrap().iter().map(|stored| stored.hash()).collect();
        assert_eq!(arrived[..2], [blocks[19].hash(), rival.hash()], "the newest is the last");
    }
}

#[test]
fn a_file_of_an_older_schema_that_is_corrupt_is_left_as_it_is() {
    let medium = Medium::default();
    let config = DiskConfig::recommended(DOMAIN);
    let store = DiskStorage::open_source(Box::new(medium.clone()), config).unwrap();
    store.set_base(Base { number: 0, hash: Some(B256::ZERO) }).unwrap();
    let last = chain(&store, 3).pop().unwrap().hash();
    drop(store);
    take_back(Database::builder().create_with_backend(medium.clone()).unwrap(), 2);
    let harm = || {
        let database = Database::builder().create_with_backend(medium.clone()).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut rows = transaction.open_table(UNPACKED).unwrap();
            let mut bytes = rows.get((2, 0)).unwrap().unwrap().value().to_vec();
            bytes[100] ^= 1;
            rows.insert((2, 0), &*bytes).unwrap();
        }
        transaction.commit().unwrap();
    };
    harm();
    let refused = DiskStorage::open_source(Box::new(medium.clone()), config).unwrap_err();
    assert_eq!(refused, StorageError::Corrupt { what: "a commitment" });
    harm();
    let store = DiskStorage::open_source(Box::new(medium.clone()), config).unwrap();
    assert_eq!(store.head().unwrap(), Some(Head { number: 3, hash: last }));
}
