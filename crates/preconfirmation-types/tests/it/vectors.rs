//! The golden vectors, both ways: bytes give the fields, hashes and signers; fields and keys give the bytes
//! and signatures. The file comes from an independent implementation; a difference is a bug here.

#[path = "../vectors/file.rs"]
mod file;

use alloy_primitives::hex;
use preconfirmation_types::{
    Bytes, Container, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse,
    GetHead, GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, LEGACY_TOPICS,
    MAX_TXLIST_BYTES, PreconfHead, Preconfirmation, RawTxListGossip, Recovered, Rpc, SignedCommitment,
    SigningDomain, Topic, TxList, U256, frame, keccak256,
};
use serde_json::json;

use file::{Hex, Message, Vectors, vectors};

/// Bytes to value and value to bytes.
#[track_caller]
fn both_ways<C: Container + PartialEq + std::fmt::Debug>(wire: &Hex, value: &C) {
    assert_eq!(C::from_ssz(&wire.0).as_ref(), Ok(value));
    assert_eq!(value.to_ssz(), wire.0);
    let (head, tail) = value.to_ssz_parts();
    assert_eq!([head, tail.to_vec()].concat(), wire.0);
}

#[test]
fn the_file_holds_what_these_tests_expect() {
    let vectors = vectors();
    assert!(vectors.about.starts_with("Wire vectors"));
    assert_eq!(vectors.commitments.len(), 8);
    assert_eq!(vectors.request_response.len(), 8);
    assert!(vectors.commitments.iter().any(|v| v.fields().preconf.is_eop_only()));
    assert!(vectors.commitments.iter().any(|v| v.number("gasLimit") == U256::MAX));
}

#[test]
fn the_placeholder_is_the_default_domain() {
    assert_eq!(SigningDomain::new(vectors().default_domain), SigningDomain::PLACEHOLDER);
}

#[test]
fn bytes_decode_to_the_fields_and_fields_encode_to_the_bytes() {
    for vector in vectors().commitments {
        let commitment = vector.fields();
        both_ways(&vector.ssz_preconfirmation, &commitment.preconf);
        both_ways(&vector.ssz_commitment, &commitment);
        both_ways(&vector.ssz_signed_commitment, &vector.signed());
    }
}

#[test]
fn a_preconfirmation_has_its_hash() {
    for vector in vectors().commitments {
        assert_eq!(vector.fields().preconf.hash(), vector.preconfirmation_hash);
        assert_eq!(keccak256(&vector.ssz_preconfirmation.0), vector.preconfirmation_hash);
    }
}

#[test]
fn each_vector_names_the_one_before_as_its_parent() {
    for pair in vectors().commitments.windows(2) {
        let [parent, child] = pair else { panic!("pairs") };
        assert_eq!(child.fields().preconf.parent_preconfirmation_hash, parent.preconfirmation_hash);
    }
}

#[test]
fn fields_and_key_give_the_signature_under_both_domains() {
    for vector in vectors().commitments {
        let (key, fields) = (vector.key(), vector.fields());
        assert_eq!(key.address(), vector.signer);
        let custom = SigningDomain::new(vector.custom_domain);
        for (domain, hash, signature) in [
            (SigningDomain::PLACEHOLDER, vector.signing_hash, vector.signature),
            (custom, vector.custom_domain_signing_hash, vector.custom_domain_signature),
        ] {
            assert_eq!(fields.signing_hash(&domain), hash);
            assert_eq!(key.sign_hash(&hash), signature);
            assert_eq!(fields.clone().sign(&key, &domain).signature, signature);
        }
        let signed = fields.sign(&key, &SigningDomain::PLACEHOLDER);
        assert_eq!(signed.to_ssz(), vector.ssz_signed_commitment.0);
    }
}

#[test]
fn bytes_and_domain_give_the_signer_and_the_hashes() {
    for vector in vectors().commitments {
        let custom = SigningDomain::new(vector.custom_domain);
        let mut under_custom = vector.signed();
        under_custom.signature = vector.custom_domain_signature;
        for (wire, domain, signing_hash) in [
            (vector.ssz_signed_commitment.0.to_vec(), SigningDomain::PLACEHOLDER, vector.signing_hash),
            (under_custom.to_ssz(), custom, vector.custom_domain_signing_hash),
        ] {
            let recovered = Recovered::from_ssz(&wire, &domain).unwrap();
            assert_eq!(recovered.signer(), vector.signer);
            assert_eq!(recovered.hash(), vector.preconfirmation_hash);
            assert_eq!(recovered.signing_hash(), signing_hash);
            assert_eq!(recovered.signed().to_ssz(), wire);
            // From the value instead of the bytes.
            assert_eq!(recovered.signed().clone().recover(&domain), Ok(recovered));
        }
        // The signature of one domain names nobody, or somebody else, under the other.
        let crossed = Recovered::from_ssz(&vector.ssz_signed_commitment.0, &custom);
        assert!(crossed.map(|r| r.signer()) != Ok(vector.signer));
    }
}

#[test]
fn json_is_written_and_read_as_in_the_vectors() {
    for vector in vectors().commitments {
        let commitment = vector.fields();
        let preconf = serde_json::to_value(&commitment.preconf).unwrap();
        assert_eq!(preconf, vector.preconfirmation);
        assert_eq!(serde_json::from_value::<Preconfirmation>(preconf).unwrap(), commitment.preconf);

        let signed = vector.signed();
        let written = serde_json::to_value(&signed).unwrap();
        assert_eq!(
            written,
            json!({
                "preconfirmation": vector.preconfirmation,
                "slasherAddress": vector.slasher_address,
                "signature": vector.signature,
            })
        );
        assert_eq!(serde_json::from_value::<SignedCommitment>(written).unwrap(), signed);

        let recovered = signed.recover(&SigningDomain::PLACEHOLDER).unwrap();
        let written = serde_json::to_value(&recovered).unwrap();
        assert_eq!(written["preconfirmation"], vector.preconfirmation);
        assert_eq!(written["preconfirmationHash"], json!(vector.preconfirmation_hash));
        assert_eq!(written["signingHash"], json!(vector.signing_hash));
        assert_eq!(written["signer"], json!(vector.signer));
    }
}

#[test]
fn transaction_lists_hash_and_travel() {
    for vector in vectors().commitments {
        let list = TxList::new(vector.txlist.0.clone(), MAX_TXLIST_BYTES).unwrap();
        assert_eq!(list.hash(), vector.txlist_hash);
        let preconf = vector.fields().preconf;
        if !preconf.is_eop_only() {
            assert_eq!(preconf.raw_tx_list_hash, vector.txlist_hash);
        }
        let gossip = RawTxListGossip::from(list.clone());
        both_ways(&vector.ssz_raw_tx_list_gossip, &gossip);
        let written = serde_json::to_value(&gossip).unwrap();
        assert_eq!(
            written,
            json!({
                "rawTxListHash": vector.txlist_hash,
                "txlist": hex::encode_prefixed(&vector.txlist.0),
            })
        );
        assert_eq!(serde_json::from_value::<RawTxListGossip>(written).unwrap(), gossip);
        assert_eq!(gossip.verify(MAX_TXLIST_BYTES), Ok(list));
    }
}

/// One message in its frame, bytes to value and value to bytes.
#[track_caller]
fn framed<C: Container + PartialEq + std::fmt::Debug>(message: &Message, cap: usize, value: &C) {
    both_ways(&message.ssz, value);
    assert_eq!(frame::read::<C>(&message.frame.0, cap).as_ref(), Ok(value));
    assert_eq!(frame::write(value), message.frame.0);
    let prefix = message.frame.0.len() - message.ssz.0.len();
    assert_eq!(frame::read_prefix(&message.frame.0, cap), Ok(Some((message.ssz.0.len(), prefix))));
}

#[test]
fn requests_and_responses_travel_in_their_frames() {
    let vectors = vectors();
    let head =
        PreconfHead { block_number: U256::from(1_374_492), submission_window_end: U256::from(1_760_000_384) };
    let ask_page =
        GetCommitmentsByNumberRequest { start_block_number: U256::from(1_374_487), max_count: 256 };
    let signed = |index: usize| vectors.commitments.get(index).unwrap().signed();
    let page = GetCommitmentsByNumberResponse::new(vec![signed(0), signed(1)]).unwrap();
    let empty_page = GetCommitmentsByNumberResponse::default();
    let list = TxList::new(
        Bytes::from_static(&hex!(
            "9340f4c1b737596d6a0165b760903f3922ff9b28fc722fd63b62557aad242f6d57e8adba8936a481"
        )),
        MAX_TXLIST_BYTES,
    )
    .unwrap();
    let ask_list = GetRawTxListRequest {
        raw_tx_list_hash: hex!("1ec5c9680ea43177e86db8c58b02f236bab8d3876801addfb949057581c98238").into(),
    };

    for message in &vectors.request_response {
        match message.message.as_str() {
            "GetHeadRequest" => framed(message, GetHead::REQUEST_CAP, &GetHeadRequest {}),
            "PreconfHead" => framed(message, GetHead::RESPONSE_CAP, &head),
            "GetCommitmentsByNumberRequest" => {
                framed(message, GetCommitmentsByNumber::REQUEST_CAP, &ask_page);
            }
            "GetCommitmentsByNumberResponse" => {
                framed(message, GetCommitmentsByNumber::RESPONSE_CAP, &page);
            }
            "GetCommitmentsByNumberResponse(empty)" => {
                framed(message, GetCommitmentsByNumber::RESPONSE_CAP, &empty_page);
            }
            "GetRawTxListRequest" => framed(message, GetRawTxList::REQUEST_CAP, &ask_list),
            "GetRawTxListResponse" => {
                let answer = GetRawTxListResponse::from(list.clone());
                framed(message, GetRawTxList::RESPONSE_CAP, &answer);
            }
            "GetRawTxListResponse(not found)" => {
                let answer = GetRawTxListResponse::not_found(ask_list.raw_tx_list_hash);
                framed(message, GetRawTxList::RESPONSE_CAP, &answer);
            }
            other => panic!("no test for {other}"),
        }
    }

    assert_eq!(GetHead::matches(&GetHeadRequest {}, &head), Ok(()));
    assert_eq!(GetCommitmentsByNumber::matches(&ask_page, &page), Ok(()));
    assert_eq!(GetCommitmentsByNumber::matches(&ask_page, &empty_page), Ok(()));
    let found = GetRawTxListResponse::from(list.clone());
    assert_eq!(GetRawTxList::matches(&ask_list, &found), Ok(()));
    assert_eq!(found.verify(MAX_TXLIST_BYTES), Ok(Some(list)));
}

#[test]
fn each_request_and_response_appears_once() {
    let mut names: Vec<_> = vectors().request_response.into_iter().map(|m| m.message).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 8);
}

#[test]
fn topics_and_protocols_have_their_names() {
    let Vectors { chain_id, topics, protocols, .. } = vectors();
    assert_eq!(Topic::Commitments.on_chain(chain_id), topics.preconfirmation_commitments);
    assert_eq!(Topic::RawTxLists.on_chain(chain_id), topics.raw_tx_lists);
    assert_eq!(GetHead::protocol(chain_id), protocols.get_head);
    assert_eq!(GetCommitmentsByNumber::protocol(chain_id), protocols.get_commitments_by_number);
    assert_eq!(GetRawTxList::protocol(chain_id), protocols.get_raw_tx_list);
    for topic in Topic::ALL {
        assert!(LEGACY_TOPICS.iter().all(|legacy| !topic.on_chain(chain_id).contains(legacy)));
    }
}
