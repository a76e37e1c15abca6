//! Keys, schedules and data directories as they are mounted, piped, missing or in use.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    thread,
};

#[cfg(target_os = "linux")]
use crate::rig::expect_without_rights;
use crate::rig::{CHAIN, LOOPBACK, NODE, Node, ZERO, expect, fifo};

/// A key, and the peer that it makes.
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_key_may_come_from_a_group_mount_a_pipe_or_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, KEY).unwrap();
    let mode = |mode: u32| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    let key = ["--p2p.priv.path", path.to_str().unwrap()];
    mode(0o440);
    let mut node = Node::run(&key);
    let peer = node.started()["peer"].clone();
    node.stop();
    mode(0o640);
    let exposed = [&CHAIN[..], &LOOPBACK, &key].concat();
    expect(1, &exposed, &["--p2p.priv.path", "mode 640", "chmod 600", "0440"]);

    let stdin = [&CHAIN[..], &LOOPBACK, &["--p2p.priv.path", "/dev/stdin"]].concat();
    let mut node = Node::spawn(NODE, &stdin, Stdio::piped());
    node.child.stdin.take().unwrap().write_all(KEY.as_bytes()).unwrap();
    assert_eq!(node.started()["peer"], peer);
    node.stop();

    let pipe = fifo(folder.path(), 0o600);
    let mut node = Node::run(&["--p2p.priv.path", &pipe]);
    fs::write(&pipe, KEY).unwrap();
    assert_eq!(node.started()["peer"], peer);
    node.stop();
}

#[test]
fn a_pipe_into_which_nobody_writes_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = fifo(folder.path(), 0o600);
    let lookahead = format!("rotating:{pipe}");
    let chain = ["run", "--domain", "placeholder", "--slasher", ZERO, "--base=10", "--lookahead"];
    let options = [&chain[..], &[&lookahead], &LOOPBACK].concat();
    let key = [&CHAIN[..], &LOOPBACK, &["--p2p.priv.path", &pipe]].concat();
    thread::scope(|scope| {
        scope.spawn(|| expect(1, &options, &["--lookahead", "within 10 s", "nobody writes"]));
        scope.spawn(|| expect(1, &key, &["--p2p.priv.path", "within 10 s", "nobody writes"]));
    });
}

#[test]
fn a_file_that_cannot_be_read_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let chain = ["run", "--domain", "placeholder", "--slasher", ZERO, "--base=10", "--lookahead"];
    let options = |lookahead| [&chain[..], &[lookahead], &LOOPBACK].concat();
    let directory = format!("file:{path}");
    expect(1, &options(&directory), &["--lookahead file:", path, "Is a directory", "name the file"]);
    expect(
        1,
        &options("rotating:/no/such"),
        &["--lookahead rotating:/no/such", "No such file", "check the path"],
    );
    let key = [&CHAIN[..], &LOOPBACK, &["--p2p.priv.path", path]].concat();
    expect(1, &key, &["--p2p.priv.path", path, "is a directory"]);
    #[cfg(target_os = "linux")]
    {
        let secret = folder.path().join("secret");
        fs::write(&secret, KEY).unwrap();
        // Without rights over the host not even its owner reads it.
        fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let secret = secret.to_str().unwrap();
        let key = [&CHAIN[..], &LOOPBACK, &["--p2p.priv.path", secret]].concat();
        expect_without_rights(1, &key, &["--p2p.priv.path", secret, "Permission denied"]);
        let schedule = format!("file:{secret}");
        expect_without_rights(
            1,
            &options(&schedule),
            &["--lookahead", "Permission denied", "let this user read it"],
        );
    }
    let publish = [&CHAIN[..], &LOOPBACK, &["--forget-on-restart", "--publish", "/no/such"]].concat();
    expect(1, &publish, &["--publish /no/such", "No such file", "check the path"]);
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("data");
    let datadir = [&CHAIN[..], &LOOPBACK, &["--datadir", inside.to_str().unwrap()]].concat();
    expect(1, &datadir, &["--datadir", "Not a directory"]);
}

#[test]
fn a_store_in_use_names_the_process_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let datadir = ["--datadir", folder.path().to_str().unwrap()];
    let mut node = Node::run(&datadir);
    node.started();
    let process = format!("process {}", node.child.id());
    let second = [&CHAIN[..], &LOOPBACK, &datadir].concat();
    expect(1, &second, &["--datadir", "in use", &process, "stop that node"]);
    node.stop();
}
