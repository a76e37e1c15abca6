//! `p2p-node inspect` as its users meet it: the built program, fed by a pipe, judged by what it prints and how
//! it exits. What it must print comes from the golden vectors, which an independent implementation wrote.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    thread,
};

use alloy_primitives::hex;
use preconfirmation_types::{
    B256, Container, GetCommitmentsByNumber, GetCommitmentsByNumberResponse, GetHead, GetRawTxList,
    GetRawTxListResponse, KECCAK256_EMPTY, MAX_TXLIST_BYTES, Rpc, SignedCommitment, SigningDomain,
    SigningKey, frame, keccak256,
};
use serde_json::{Value, json};

/// What the program did.
struct Outcome {
    code: i32,
    /// One JSON value a line of stdout.
    objects: Vec<Value>,
    stderr: String,
}

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p2p-node"));
    command.arg("inspect").args(args).env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs `inspect` over `input` to the end.
fn inspect(args: &[&str], input: impl Into<Vec<u8>>) -> Outcome {
    let mut child = start(args);
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.into());
    // From a thread of its own, because the program answers while it reads. A program that refuses its
    // command line reads nothing, so the pipe may be closed.
    let writer = thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.is_empty() || stdout.ends_with('\n'), "the last line is whole");
    Outcome {
        code: output.status.code().unwrap(),
        objects: stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The objects of lines that are all good.
#[track_caller]
fn good(args: &[&str], input: impl Into<Vec<u8>>) -> Vec<Value> {
    let Outcome { code, objects, stderr } = inspect(args, input);
    assert_eq!((code, stderr.as_str()), (0, ""), "{objects:?}");
    objects
}

/// The `error` of a single line that is bad.
#[track_caller]
fn bad(args: &[&str], line: impl Into<Vec<u8>>) -> String {
    let Outcome { code, objects, stderr } = inspect(args, line);
    assert_eq!((code, stderr.as_str()), (1, ""), "{objects:?}");
    let [object] = &objects[..] else { panic!("not one object: {objects:?}") };
    assert_eq!(object.as_object().unwrap().len(), 2, "an error and its line: {object}");
    assert_eq!(object["line"], 1);
    object["error"].as_str().unwrap().to_owned()
}

fn vectors() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../preconfirmation-types/tests/vectors/wire.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn commitments() -> Vec<Value> {
    let all = vectors()["commitments"].as_array().unwrap().clone();
    assert!(all.len() > 1, "there are vectors");
    all
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap()
}

fn bytes(vector: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(vector, key)).unwrap()
}

/// One field of every vector, a line each.
fn column(vectors: &[Value], key: &str) -> String {
    vectors.iter().map(|vector| format!("{}\n", text(vector, key))).collect()
}

/// Some keys of a vector as an object.
fn pick(vector: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|&key| (key.to_owned(), vector[key].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// What is shown of a signed commitment.
fn signed(vector: &Value) -> Value {
    let keys = ["preconfirmation", "slasherAddress", "signature"];
    pick(vector, &[&keys[..], &["preconfirmationHash", "signingHash", "signer"]].concat())
}

/// The SSZ or the frame of a request or response of the vectors.
fn message(name: &str, key: &str) -> String {
    let vectors = vectors();
    let all = vectors["requestResponse"].as_array().unwrap();
    let found = all.iter().find(|message| message["message"] == name).unwrap();
    text(found, key).to_owned()
}

#[test]
fn every_commitment_vector_is_shown_with_exactly_its_fields() {
    let vectors = commitments();
    let shown = |container: &str, key: &str| good(&["--type", container], column(&vectors, key));

    let expected: Vec<_> = vectors.iter().map(signed).collect();
    assert_eq!(shown("SignedCommitment", "sszSignedCommitment"), expected);

    let keys = ["preconfirmation", "slasherAddress", "preconfirmationHash", "signingHash"];
    let expected: Vec<_> = vectors.iter().map(|vector| pick(vector, &keys)).collect();
    assert_eq!(shown("PreconfCommitment", "sszCommitment"), expected);

    let with_hash = |vector: &Value| {
        let mut fields = vector["preconfirmation"].clone();
        fields["preconfirmationHash"] = vector["preconfirmationHash"].clone();
        fields
    };
    let expected: Vec<_> = vectors.iter().map(with_hash).collect();
    assert_eq!(shown("Preconfirmation", "sszPreconfirmation"), expected);

    let list = |vector: &Value| {
        let hash = &vector["txlistHash"];
        json!({
            "rawTxListHash": hash, "txlist": vector["txlist"], "txlistHash": hash,
            "matches": true, "bytes": bytes(vector, "txlist").len(),
        })
    };
    let expected: Vec<_> = vectors.iter().map(list).collect();
    assert_eq!(shown("RawTxListGossip", "sszRawTxListGossip"), expected);
}

/// Every message of the vectors' request/response part: its name, its container, what is shown of it.
fn messages() -> Vec<(&'static str, &'static str, Value)> {
    let all = commitments();
    let ssz = hex::decode(message("GetCommitmentsByNumberResponse", "ssz")).unwrap();
    let in_page =
        |item: &[u8]| signed(all.iter().find(|vector| bytes(vector, "sszSignedCommitment") == item).unwrap());
    let page: Vec<_> = ssz[4..].chunks(382).map(in_page).collect();
    assert!(page.len() > 1);

    let wire = hex::decode(message("GetRawTxListResponse", "ssz")).unwrap();
    let (hash, list) = (hex::encode_prefixed(&wire[..32]), &wire[36..]);
    let found = json!({
        "rawTxListHash": hash, "txlist": hex::encode_prefixed(list), "txlistHash": keccak256(list),
        "matches": true, "bytes": list.len(), "found": true,
    });
    let not_found = json!({
        "rawTxListHash": hash, "txlist": "0x", "txlistHash": KECCAK256_EMPTY,
        "matches": false, "bytes": 0, "found": false,
    });
    let asked = json!({"startBlockNumber": "1374487", "maxCount": 256});
    vec![
        ("GetHeadRequest", "GetHeadRequest", json!({})),
        (
            "PreconfHead",
            "PreconfHead",
            json!({"blockNumber": "1374492", "submissionWindowEnd": "1760000384"}),
        ),
        ("GetCommitmentsByNumberRequest", "GetCommitmentsByNumberRequest", asked),
        ("GetCommitmentsByNumberResponse", "GetCommitmentsByNumberResponse", json!({"commitments": page})),
        (
            "GetCommitmentsByNumberResponse(empty)",
            "GetCommitmentsByNumberResponse",
            json!({"commitments": []}),
        ),
        ("GetRawTxListRequest", "GetRawTxListRequest", json!({"rawTxListHash": hash})),
        ("GetRawTxListResponse", "GetRawTxListResponse", found),
        ("GetRawTxListResponse(not found)", "GetRawTxListResponse", not_found),
    ]
}

#[test]
fn every_request_and_response_vector_is_shown_bare_and_framed() {
    let messages = messages();
    assert_eq!(messages.len(), vectors()["requestResponse"].as_array().unwrap().len(), "none left out");
    for (name, container, expected) in messages {
        let expected = [expected];
        assert_eq!(good(&["--type", container], message(name, "ssz")), expected, "{name}");
        assert_eq!(good(&["--type", container, "--frame"], message(name, "frame")), expected, "{name}");
    }
}

#[test]
fn the_domain_decides_hash_and_signer() {
    for vector in commitments() {
        let domain = text(&vector, "customDomain");
        let mut wire = bytes(&vector, "sszCommitment");
        wire.extend(bytes(&vector, "customDomainSignature"));
        let mut expected = signed(&vector);
        expected["signature"] = vector["customDomainSignature"].clone();
        expected["signingHash"] = vector["customDomainSigningHash"].clone();
        let expected = [expected];
        let args = ["--type", "SignedCommitment", "--domain", domain];
        assert_eq!(good(&args, hex::encode(&wire)), expected);

        let bare = domain.strip_prefix("0x").unwrap();
        let args = ["--type", "SignedCommitment", "--domain", bare];
        assert_eq!(good(&args, hex::encode(&wire)), expected, "0x is optional");

        let default = text(&vector, "signingHash");
        let args = ["--type", "PreconfCommitment", "--domain"];
        let shown = good(&[&args[..], &[domain]].concat(), text(&vector, "sszCommitment"));
        assert_eq!(shown[0]["signingHash"], vector["customDomainSigningHash"]);
        assert_ne!(shown[0]["signingHash"], default);
    }
}

#[test]
fn the_default_domain_is_that_of_the_vectors() {
    let (vectors, file) = (commitments(), vectors());
    let lines = column(&vectors, "sszSignedCommitment");
    let args = ["--type", "SignedCommitment", "--domain", text(&file, "defaultDomain")];
    assert_eq!(good(&args, lines.clone()), good(&["--type", "SignedCommitment"], lines));
}

#[test]
fn the_chain_id_adds_where_a_container_travels_and_nothing_else() {
    let file = vectors();
    let chain = file["chainId"].to_string();
    let vector = &commitments()[0];
    let with_chain = |container: &str, line: &str| {
        let plain = good(&["--type", container], line).remove(0);
        let mut shown = good(&["--type", container, "--chain-id", &chain], line).remove(0);
        let keys = shown.as_object_mut().unwrap();
        let place = (keys.remove("topic"), keys.remove("protocol"));
        assert_eq!(shown, plain);
        place
    };

    let topic = |key: &str| (Some(file["topics"][key].clone()), None);
    let line = text(vector, "sszSignedCommitment");
    assert_eq!(with_chain("SignedCommitment", line), topic("preconfirmationCommitments"));
    let line = text(vector, "sszRawTxListGossip");
    assert_eq!(with_chain("RawTxListGossip", line), topic("rawTxLists"));

    for (name, container, _) in messages() {
        let key = match container {
            "GetHeadRequest" | "PreconfHead" => "getHead",
            "GetCommitmentsByNumberRequest" | "GetCommitmentsByNumberResponse" => "getCommitmentsByNumber",
            _ => "getRawTxList",
        };
        let protocol = (None, Some(file["protocols"][key].clone()));
        assert_eq!(with_chain(container, &message(name, "ssz")), protocol, "{name}");
    }

    assert_eq!(with_chain("PreconfCommitment", text(vector, "sszCommitment")), (None, None));
    assert_eq!(with_chain("Preconfirmation", text(vector, "sszPreconfirmation")), (None, None));
}

#[test]
fn a_txlist_under_another_hash_is_shown_and_does_not_match() {
    let list = b"anything";
    let (claimed, actual) = (B256::repeat_byte(7), keccak256(list));
    let wire = GetRawTxListResponse { raw_tx_list_hash: claimed, txlist: list.as_slice().into() }.to_ssz();
    let mut expected = json!({
        "rawTxListHash": claimed, "txlist": hex::encode_prefixed(list), "txlistHash": actual,
        "matches": false, "bytes": list.len(),
    });
    assert_eq!(good(&["--type", "RawTxListGossip"], hex::encode(&wire)), [expected.clone()]);
    expected["found"] = true.into();
    assert_eq!(good(&["--type", "GetRawTxListResponse"], hex::encode(&wire)), [expected]);
}

#[test]
fn the_empty_txlist_under_its_own_hash_is_found() {
    let wire = GetRawTxListResponse::not_found(KECCAK256_EMPTY).to_ssz();
    let shown = good(&["--type", "GetRawTxListResponse"], hex::encode(&wire)).remove(0);
    assert_eq!((&shown["found"], &shown["matches"]), (&json!(true), &json!(true)));
}

#[test]
fn text_that_is_not_hex_says_where() {
    for container in ["GetHeadRequest", "SignedCommitment", "RawTxListGossip"] {
        let args = ["--type", container];
        assert_eq!(bad(&args, "0x04zz0000"), "hex: character 5 is 'z', not a digit from 0 to f");
        assert_eq!(bad(&args, "0x040"), "hex: 3 digits, an odd number; every byte has two");
        assert_eq!(bad(&args, " 04 00 "), "hex: character 3 is ' ', not a digit from 0 to f");
        let binary = bad(&args, b"00\xff\x00".as_slice());
        assert_eq!(binary, "hex: character 3 is '\\xff', not a digit from 0 to f");
    }
}

#[test]
fn bytes_that_do_not_decode_say_which_container_field_and_length() {
    let args = |container: &'static str| ["--type", container];
    let vector = &commitments()[0];

    let cut = "SignedCommitment: expected exactly 382 bytes, got 381";
    let wire = bytes(vector, "sszSignedCommitment");
    assert_eq!(bad(&args("SignedCommitment"), hex::encode(&wire[..381])), cut);
    let extended = "SignedCommitment: expected exactly 382 bytes, got 383";
    assert_eq!(bad(&args("SignedCommitment"), hex::encode([&wire[..], &[0]].concat())), extended);
    let mut wire = wire;
    wire[0] = 2;
    let boolean = "SignedCommitment: field eop: a boolean is 0 or 1, got 2";
    assert_eq!(bad(&args("SignedCommitment"), hex::encode(&wire)), boolean);

    assert_eq!(bad(&args("PreconfHead"), "0x"), "PreconfHead: expected exactly 64 bytes, got 0");
    let offset = "GetHeadRequest: field reserved: offset must be 4, got 5";
    assert_eq!(bad(&args("GetHeadRequest"), "05000000"), offset);
    let short = "RawTxListGossip: expected at least 36 bytes, got 4";
    assert_eq!(bad(&args("RawTxListGossip"), "04000000"), short);
    let partial =
        "GetCommitmentsByNumberResponse: field commitments: 1 bytes are no whole number of 382-byte items";
    assert_eq!(bad(&args("GetCommitmentsByNumberResponse"), "0400000000"), partial);

    let mut page = hex::decode(message("GetCommitmentsByNumberResponse", "ssz")).unwrap();
    page[4 + 382] = 9;
    let item = "GetCommitmentsByNumberResponse: field commitments.preconfirmation.eop[1]: \
                a boolean is 0 or 1, got 9";
    assert_eq!(bad(&args("GetCommitmentsByNumberResponse"), hex::encode(&page)), item);
}

#[test]
fn signatures_that_do_not_recover_say_which_rule() {
    let wire = bytes(&commitments()[0], "sszSignedCommitment");
    let with = |signature: &[u8]| hex::encode([&wire[..317], signature].concat());
    let args = ["--type", "SignedCommitment"];
    let (rs, v) = (&wire[317..381], wire[381]);

    let bad_v = [rs, &[27 + v]].concat();
    assert_eq!(bad(&args, with(&bad_v)), format!("signature: v must be 0 or 1, got {}", 27 + v));

    // n − s, with the other v, is a signature of the same signer that Ethereum refuses.
    let order = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let mirrored =
        alloy_primitives::U256::from_be_bytes(order) - alloy_primitives::U256::from_be_slice(&rs[32..]);
    let high = [&rs[..32], &mirrored.to_be_bytes::<32>(), &[1 - v]].concat();
    assert_eq!(bad(&args, with(&high)), "signature: s is in the upper half of the group order");

    assert_eq!(bad(&args, with(&[0; 65])), "signature: r or s is out of range");

    // No point of the curve has 5 as its x coordinate.
    let mut off_curve = [0; 65];
    (off_curve[31], off_curve[63]) = (5, 1);
    assert_eq!(bad(&args, with(&off_curve)), "signature: no public key recovers from it");
}

#[test]
fn a_page_with_one_unsigned_commitment_is_an_error_that_names_it() {
    let mut page = hex::decode(message("GetCommitmentsByNumberResponse", "ssz")).unwrap();
    page[4 + 2 * 382 - 1] = 28;
    let args = ["--type", "GetCommitmentsByNumberResponse"];
    let expected = "commitments[1]: signature: v must be 0 or 1, got 28";
    assert_eq!(bad(&args, hex::encode(&page)), expected);
}

#[test]
fn frames_that_are_not_whole_say_why() {
    let args = ["--type", "GetHeadRequest", "--frame"];
    assert_eq!(bad(&args, "0x"), "frame: the length prefix is cut off");
    assert_eq!(bad(&args, "84"), "frame: the length prefix is cut off");
    let minimal = "frame: the length prefix is not a minimal unsigned varint of at most five bytes";
    assert_eq!(bad(&args, "840004000000"), minimal);
    assert_eq!(bad(&args, "04040000"), "frame: 4 bytes announced, 3 follow");
    assert_eq!(bad(&args, "040400000000"), "frame: 4 bytes announced, 5 follow");
    assert_eq!(bad(&args, "0405000000"), "GetHeadRequest: field reserved: offset must be 4, got 5");
    assert_eq!(bad(&args, "04000000"), "frame: 4 bytes announced, 3 follow", "no frame at all");
}

#[test]
fn each_message_has_the_cap_of_its_protocol() {
    let rows = [
        ("GetHeadRequest", GetHead::REQUEST_CAP),
        ("PreconfHead", GetHead::RESPONSE_CAP),
        ("GetCommitmentsByNumberRequest", GetCommitmentsByNumber::REQUEST_CAP),
        ("GetCommitmentsByNumberResponse", GetCommitmentsByNumber::RESPONSE_CAP),
        ("GetRawTxListRequest", GetRawTxList::REQUEST_CAP),
        ("GetRawTxListResponse", GetRawTxList::RESPONSE_CAP),
    ];
    for (container, cap) in rows {
        // The length alone is judged: nothing follows it.
        let prefix = |mut length: usize| {
            let mut varint = Vec::new();
            while length > 0x7f {
                varint.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            varint.push(u8::try_from(length).unwrap());
            hex::encode(varint)
        };
        let args = ["--type", container, "--frame"];
        assert_eq!(bad(&args, prefix(cap)), format!("frame: {cap} bytes announced, 0 follow"));
        let over = format!("frame: {} bytes announced, at most {cap} allowed", cap + 1);
        assert_eq!(bad(&args, prefix(cap + 1)), over);
    }
}

#[test]
fn containers_without_a_frame_are_refused_before_a_line_is_read() {
    for container in ["Preconfirmation", "PreconfCommitment", "SignedCommitment", "RawTxListGossip"] {
        let outcome = inspect(&["--type", container, "--frame"], "00\n");
        assert_eq!((outcome.code, outcome.objects.len()), (2, 0));
        let message = format!("--frame cannot be used with --type {container}");
        assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("Usage: p2p-node inspect"), "{}", outcome.stderr);
    }
}

#[test]
fn a_command_line_that_is_wrong_is_refused() {
    let refused = |args: &[&str], hint: &str| {
        let outcome = inspect(args, "");
        assert_eq!((outcome.code, outcome.objects.len()), (2, 0), "{args:?}");
        assert!(outcome.stderr.contains(hint), "{}", outcome.stderr);
    };
    refused(&[], "--type <T>");
    refused(&["--type", "signedCommitment"], "SignedCommitment");
    refused(&["--type", "PreconfHead", "--domain", "0x12"], "exactly 32 bytes, got 1");
    refused(&["--type", "PreconfHead", "--domain", "none"], "character 1 is 'n'");
    refused(&["--type", "PreconfHead", "--chain-id", "0x1"], "--chain-id");
}

#[test]
fn good_and_bad_lines_keep_their_order_and_blank_lines_count() {
    let input = "\n  0x04000000\t\r\nzz\n   \n05000000\n04000000\n0x\n04000000";
    let outcome = inspect(&["--type", "GetHeadRequest"], input);
    assert_eq!(outcome.code, 1);
    let expected = [
        json!({}),
        json!({"error": "hex: character 1 is 'z', not a digit from 0 to f", "line": 3}),
        json!({"error": "GetHeadRequest: field reserved: offset must be 4, got 5", "line": 5}),
        json!({}),
        json!({"error": "GetHeadRequest: expected at least 4 bytes, got 0", "line": 7}),
        json!({}),
    ];
    assert_eq!(outcome.objects, expected);
}

#[test]
fn nothing_in_is_nothing_out() {
    assert_eq!(good(&["--type", "SignedCommitment"], ""), [] as [Value; 0]);
    assert_eq!(good(&["--type", "SignedCommitment"], "\n \r\n\t\n"), [] as [Value; 0]);
}

#[test]
fn the_largest_messages_fit_and_one_byte_more_is_an_error_of_its_field() {
    let mut wire =
        GetRawTxListResponse { raw_tx_list_hash: B256::ZERO, txlist: vec![0xab; MAX_TXLIST_BYTES].into() }
            .to_ssz();
    let shown = good(&["--type", "RawTxListGossip"], hex::encode_prefixed(&wire)).remove(0);
    assert_eq!(shown["bytes"], MAX_TXLIST_BYTES);
    let response = GetRawTxListResponse::from_ssz(&wire.clone().into()).unwrap();
    let framed = hex::encode_prefixed(frame::write(&response));
    assert_eq!(good(&["--type", "GetRawTxListResponse", "--frame"], framed)[0]["bytes"], MAX_TXLIST_BYTES);

    wire.push(0);
    let error = "RawTxListGossip: field txlist: at most 2097152 items, got 2097153";
    assert_eq!(bad(&["--type", "RawTxListGossip"], hex::encode_prefixed(&wire)), error);

    let key = SigningKey::from_bytes([7; 32]).unwrap();
    let commitment: SignedCommitment =
        preconfirmation_types::PreconfCommitment::default().sign(&key, &SigningDomain::PLACEHOLDER);
    let page = GetCommitmentsByNumberResponse::new(vec![commitment; 256]).unwrap();
    let line = hex::encode(frame::write(&page));
    let shown = good(&["--type", "GetCommitmentsByNumberResponse", "--frame"], line).remove(0);
    let commitments = shown["commitments"].as_array().unwrap();
    assert_eq!(commitments.len(), 256);
    assert!(commitments.iter().all(|shown| shown["signer"] == json!(key.address())));
}

#[test]
fn a_line_longer_than_any_message_is_skipped_and_the_next_one_read() {
    let mut input = vec![b'0'; 20 << 20];
    input.extend_from_slice(b"\n04000000\n");
    let outcome = inspect(&["--type", "GetHeadRequest"], input);
    assert_eq!((outcome.code, outcome.objects.len()), (1, 2));
    assert!(text(&outcome.objects[0], "error").starts_with("line: more than "), "{:?}", outcome.objects[0]);
    assert_eq!(outcome.objects[0]["line"], 1);
    assert_eq!(outcome.objects[1], json!({}));
}

#[test]
fn an_answer_comes_before_the_next_line_is_asked_for() {
    let mut child = start(&["--type", "GetHeadRequest"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for (line, expected) in [("04000000", "{}\n"), ("", ""), ("0x04000000", "{}\n")] {
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
        if !expected.is_empty() {
            let mut answer = String::new();
            stdout.read_line(&mut answer).unwrap();
            assert_eq!(answer, expected);
        }
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let mut child = start(&["--type", "GetHeadRequest"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    writeln!(stdin, "04000000").unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    // Without end: the program leaves by itself, and what is still written to it fails.
    while writeln!(stdin, "04000000").is_ok() {}
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn any_bytes_on_any_type_give_an_object_or_an_error_and_never_a_panic() {
    let types = [
        "Preconfirmation",
        "PreconfCommitment",
        "SignedCommitment",
        "RawTxListGossip",
        "GetHeadRequest",
        "PreconfHead",
        "GetCommitmentsByNumberRequest",
        "GetCommitmentsByNumberResponse",
        "GetRawTxListRequest",
        "GetRawTxListResponse",
    ];
    // Every vector of every kind, cut short and with a byte turned, read as every type.
    let vector = &commitments()[0];
    let keys = ["sszPreconfirmation", "sszCommitment", "sszSignedCommitment", "sszRawTxListGossip"];
    let mut wires: Vec<_> = keys.iter().map(|key| bytes(vector, key)).collect();
    wires.extend(messages().iter().map(|(name, ..)| hex::decode(message(name, "frame")).unwrap()));
    let mut lines = Vec::new();
    for wire in &wires {
        for at in 0..wire.len() {
            lines.push(hex::encode(&wire[..at]));
            let mut turned = wire.clone();
            turned[at] ^= 0x81;
            lines.push(hex::encode(turned));
        }
    }
    let input = lines.join("\n");
    let blank = lines.iter().filter(|line| line.is_empty()).count();
    for container in types {
        for framed in [&[][..], &["--frame"]] {
            let outcome = inspect(&[&["--type", container][..], framed].concat(), input.clone());
            if outcome.code == 2 {
                assert!(!framed.is_empty());
                continue;
            }
            assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""), "{container}");
            assert_eq!(outcome.objects.len(), lines.len() - blank, "{container}");
            assert!(outcome.objects.iter().all(Value::is_object));
        }
    }
}
