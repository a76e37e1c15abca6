//! `p2p-node db` as operators meet it: the built program, a store on disk, and how it exits.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use p2p_storage::{
    CommitmentStore, DiskConfig, DiskStorage, EvidenceStore, PublishLog, SdkStorage, TxListStore,
    fixtures::{DOMAIN, Judge, block, chain, equivocation, txlist},
};
use p2p_types::{B256, Base};
use serde_json::{Value, json};

fn db(command: &str, folder: &Path, more: &[&str], input: &str) -> Output {
    let mut db = Command::new(env!("CARGO_BIN_EXE_p2p-node"));
    db.args(["db", command]).arg(folder).args(more).env_remove("RUST_LOG");
    let mut child = db.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // A program that does not read its input may have closed it.
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one JSON object of a command that ends well.
#[track_caller]
fn answer(command: &str, folder: &Path, more: &[&str], input: &str) -> Value {
    let output = db(command, folder, &[more, &["--json"]].concat(), input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn open(folder: &Path) -> DiskStorage {
    DiskStorage::open(folder, DiskConfig::recommended(DOMAIN)).unwrap()
}

/// A chain with a fork, a handover, a list in the database, one in a file, and evidence.
fn filled(folder: &Path) -> PathBuf {
    let (path, judge) = (folder.join("store"), Judge::default());
    let store = open(&path);
    store.set_base(Base::at(0)).unwrap();
    let blocks = chain(&store, 12);
    drop(judge.insert(&store, block(7, 7, blocks[5].hash(), 9)).unwrap());
    drop(judge.insert(&store, block(12, 12, blocks[10].hash(), 8)).unwrap());
    drop(judge.insert(&store, block(13, 13, blocks[11].hash(), 0)).unwrap());
    assert!(store.put(3, txlist(3, 500)).unwrap() && store.put(9, txlist(9, 300_000)).unwrap());
    assert!(store.put_evidence(&equivocation(4, 7, [1, 9])).unwrap());
    let hash = Some(blocks[3].hash());
    assert!(store.set_base(Base { number: 4, hash }).unwrap().is_empty());
    path
}

#[test]
fn stats_and_verify_tell_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let stats = answer("stats", &path, &[], "");
    assert_eq!(stats["commitments"], 15);
    assert_eq!(stats["commitmentBytes"], 15 * 382);
    assert_eq!((&stats["txlists"], &stats["txlistBytes"]), (&json!(2), &json!(300_500)));
    assert_eq!((&stats["lowest"], &stats["base"]["number"]), (&json!(1), &json!(4)));
    assert_eq!((&stats["head"]["number"], &stats["evidence"]), (&json!(12), &json!(1)));
    let verified = answer("verify", &path, &[], "");
    assert_eq!((&verified["commitments"], &verified["problems"]), (&json!(15), &json!([])));
    let shown = db("stats", &path, &[], "");
    assert!(text(&shown.stdout).lines().any(|line| line == "commitments 15"), "{}", text(&shown.stdout));
}

#[test]
fn a_flipped_bit_in_a_list_makes_verify_fail_and_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let hash = format!("{:x}", txlist(9, 300_000).hash());
    let file = path.join("txlists").join(&hash[..1]).join(&hash);
    let mut bytes = fs::read(&file).unwrap();
    bytes[150_000] ^= 1;
    fs::write(&file, bytes).unwrap();
    let output = db("verify", &path, &["--json"], "");
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["problems"][0].as_str().unwrap().contains(&hash), "{report}");
    let said = one_line(&output);
    assert!(said.contains(&hash) && said.contains("fetches the list again"), "{said}");
}

/// The one line on stderr of a command that failed.
#[track_caller]
fn one_line(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    said
}

/// All files below a folder, and their bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

#[test]
fn looking_at_a_store_changes_nothing_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    // As a node leaves it that is killed: the database wants to be put in order.
    let store = open(&path);
    store.record_published(&[B256::repeat_byte(1)]).unwrap();
    let database = fs::read(path.join("store.redb")).unwrap();
    drop(store);
    fs::write(path.join("store.redb"), &database).unwrap();
    fs::remove_file(path.join("owner")).unwrap();
    let before = tree(&path);
    for folder in [path.join("txlists"), path.clone()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
    }
    assert_eq!(answer("stats", &path, &[], "")["commitments"], 15);
    assert_eq!(answer("verify", &path, &[], "")["problems"], json!([]));
    assert_eq!(text(&db("export", &path, &[], "").stdout).lines().count(), 1 + 15 + 2 + 1);
    assert_eq!(tree(&path), before);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open(&path));
    assert_ne!(tree(&path), before, "who writes puts it in order");
}

/// What `run` says of a store in a data directory.
fn run(datadir: &Path) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_p2p-node"));
    run.args([
        "run",
        "--domain",
        "placeholder",
        "--slasher",
        "0x5151515151515151515151515151515151515151",
        "--lookahead",
        "open",
    ]);
    run.args(["--p2p.listen.ip", "127.0.0.1", "--p2p.listen.tcp", "0", "--datadir"]).arg(datadir);
    // Should it start, its stdout is closed: that ends it.
    let child = run.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    child.wait_with_output().unwrap()
}

#[test]
fn a_damaged_database_is_told_in_one_line_by_whoever_opens_it() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [(&str, Harm); 6] = [
        ("pages zeroed", |bytes| bytes[2 * 4096..12 * 4096].fill(0)),
        ("pages swapped", |bytes| {
            for at in (4096..bytes.len() / 2).rev().step_by(3) {
                let other = bytes.len() - at;
                bytes.swap(at, other);
            }
        }),
        ("header", |bytes| bytes[70..200].fill(0x5a)),
        ("cut", |bytes| bytes.truncate(9_000)),
        ("cut to nothing", Vec::clear),
        ("appended", |bytes| bytes.extend([7; 5_000])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path());
    let database = fs::read(store.join("store.redb")).unwrap();
    fs::rename(&store, folder.path().join("chain")).unwrap();
    let store = folder.path().join("chain");
    for (name, harm) in harms {
        let mut bytes = database.clone();
        harm(&mut bytes);
        fs::write(store.join("store.redb"), bytes).unwrap();
        for command in ["verify", "stats", "export", "compact"] {
            let said = one_line(&db(command, &store, &[], ""));
            assert!(said.contains("chain: the store is corrupt"), "{name}, {command}: {said}");
            assert!(said.contains("move the folder away"), "{name}, {command}: {said}");
        }
        let output = run(folder.path());
        let log = text(&output.stderr);
        let said = log.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {log}");
        assert!(said.starts_with("error: ") && said.contains("--datadir"), "{name}: {log}");
        assert!(said.contains("the store is corrupt") && said.contains("move it away"), "{name}: {log}");
    }
}

#[test]
fn what_is_exported_and_imported_is_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let exported = text(&db("export", &path, &[], "").stdout);
    assert_eq!(exported.lines().count(), 1 + 15 + 2 + 1);
    let copy = folder.path().join("copy");
    let imported = answer("import", &copy, &[], &exported);
    assert_eq!(imported, json!({"commitments": 15, "txlists": 2, "evidence": 1, "refused": 0}));
    assert_eq!(text(&db("export", &copy, &[], "").stdout), exported);
    assert_eq!(answer("verify", &copy, &[], ""), answer("verify", &path, &[], ""));
    let (ours, theirs) = (open(&path), open(&copy));
    assert_eq!((ours.head(), ours.base(), ours.stats()), (theirs.head(), theirs.base(), theirs.stats()));
    for number in 0..15 {
        assert_eq!(ours.at(number), theirs.at(number));
        assert_eq!(ours.by_block(number), theirs.by_block(number));
    }
    let again = db("import", &copy, &[], &exported);
    assert_eq!(again.status.code(), Some(1), "somebody has the copy open");
    drop((ours, theirs));
    let again = db("import", &copy, &[], &exported);
    assert!(text(&again.stderr).contains("import into a new store"), "{}", text(&again.stderr));
}

#[test]
fn lines_that_break_a_rule_are_refused_and_the_others_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let exported = text(&db("export", &path, &[], "").stdout);
    let mut lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Another time in a settled block: another signer, another hash, so that its child has lost its parent.
    assert_eq!(lines[1]["kind"], "commitment");
    let last = lines.len() - 1;
    lines[1]["signature"] = json!(format!("0x{}", "ff".repeat(65)));
    lines[last - 2]["txlist"] = json!("0x00");
    lines[last]["record"]["kind"] = json!("block_after_eop");
    let broken: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let copy = folder.path().join("copy");
    let output = db("import", &copy, &["--json"], &broken);
    assert_eq!(output.status.code(), Some(1));
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(imported["commitments"], 0, "nothing stands on a block that nobody signed");
    assert_eq!((&imported["txlists"], &imported["refused"]), (&json!(1), &json!(17)));
    assert!(text(&output.stderr).starts_with("line 2: "), "{}", text(&output.stderr));
    for garbage in ["", "{}\n", "not an export\n"] {
        assert_eq!(db("import", &folder.path().join("none"), &[], garbage).status.code(), Some(1));
    }
}

#[test]
fn a_list_of_the_greatest_size_fits_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (store, list) = (open(&path), txlist(5, 2 * 1024 * 1024));
    store.set_base(Base::at(0)).unwrap();
    assert!(store.put(1, list.clone()).unwrap());
    drop(store);
    let exported = text(&db("export", &path, &[], "").stdout);
    let copy = folder.path().join("copy");
    assert_eq!(answer("import", &copy, &[], &exported)["txlists"], 1);
    assert_eq!(open(&copy).get(&list.hash()).unwrap(), Some(list));
}

#[test]
fn prune_takes_what_is_settled_and_compact_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    assert_eq!(answer("prune", &path, &["--below", "100"], ""), json!({"pruned": 3}));
    assert_eq!(answer("stats", &path, &[], "")["lowest"], 4);
    let compacted = answer("compact", &path, &[], "");
    assert!(compacted["bytesAfter"].as_u64() <= compacted["bytesBefore"].as_u64(), "{compacted}");
    assert_eq!(answer("verify", &path, &[], "")["problems"], json!([]));
}

#[test]
fn looking_at_what_is_not_there_creates_nothing_and_another_chain_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for command in ["stats", "verify", "export", "compact"] {
        let output = db(command, &missing, &[], "");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("there is no store"), "{}", text(&output.stderr));
    }
    assert!(!missing.exists());
    let path = filled(folder.path());
    let other = B256::repeat_byte(1).to_string();
    let output = db("stats", &path, &["--domain", &other], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("belongs to the signing domain"), "{}", text(&output.stderr));
    let held = open(&path);
    let output = db("stats", &path, &[], "");
    assert!(text(&output.stderr).contains(&format!("by process {}", std::process::id())));
    drop(held);
}
