//! The commands of `docs/operate.md`, and the options in `deploy/`, as an operator finds them.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
};

use crate::rig::NODE;

const DOCUMENT: &str = include_str!("../../../../docs/operate.md");

/// The ports that the five minutes use: another test, or a node of this host, may have them.
const PORTS: [u16; 4] = [9222, 9223, 8080, 9090];

/// The commands of a section, up to the next one.
fn commands(section: &str) -> String {
    let (_, rest) = DOCUMENT.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split_once("\n## ").unwrap().0;
    section.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect()
}

/// Other ports in the place of those that a text names, all of them free.
fn on_free_ports(text: &str) -> String {
    let marked = PORTS.iter().fold(text.to_owned(), |text, port| {
        assert!(text.contains(&port.to_string()), "the commands use port {port}");
        text.replace(&port.to_string(), &format!("<{port}>"))
    });
    let free = PORTS.map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    PORTS.iter().zip(&free).fold(marked, |text, (port, free)| {
        text.replace(&format!("<{port}>"), &free.local_addr().unwrap().port().to_string())
    })
}

#[test]
fn the_five_minutes_of_a_newcomer_work_as_written() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = on_free_ports(&commands("Five minutes"));
    let binaries = Path::new(NODE).parent().unwrap();
    let path = env::join_paths(
        [binaries.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())),
    );
    // What is started is ended, whatever fails; and it fails in time.
    let guarded = format!(
        "set -e\ntrap 'kill $devnet $node $dog 2> /dev/null || true' EXIT\ntrap 'exit 1' TERM\n\
         (exec > /dev/null 2>&1; sleep 240; kill -TERM $$) & dog=$!\n{script}\nwait $devnet"
    );
    let output = Command::new("sh")
        .args(["-c", &guarded])
        .current_dir(folder.path())
        .env("PATH", path.unwrap())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let here = folder.path().join("five-minutes");
    let log = fs::read_to_string(here.join("node.log")).unwrap_or_default();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaints}\n{log}");
    for shown in [
        "\"event\":\"started\"",
        "\"event\":\"commitment\"",
        "\"peers\":[{",
        "p2p_head_applied 100000",
        "running",
    ] {
        assert!(said.contains(shown), "{shown} is not in:\n{said}");
    }
    let devnet = fs::read_to_string(here.join("devnet.txt")).unwrap();
    assert!(devnet.contains("every node has everything"), "{devnet}");
}

/// A file of this repository.
fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// What `run` says of its options.
fn help() -> String {
    let help = Command::new(NODE).args(["run", "--help"]).output().unwrap();
    String::from_utf8(help.stdout).unwrap()
}

/// The options in a text.
fn options(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '`' | ',' | '=' | '"' | '(' | ')'));
    words
        .map(|word| word.trim_end_matches(['.', ':', ';', '\\']))
        .filter(|word| word.starts_with("--") && word.len() > 3)
}

#[test]
fn unit_and_compose_file_name_options_that_exist() {
    let help = help();
    let compose = file("deploy/compose.yaml");
    let (_, command) = compose.split_once("command: >-").unwrap();
    let command = command.split_once("ports:").unwrap().0;
    let unit = file("deploy/systemd/p2p-node.service");
    let start = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    let mut count = 0;
    for text in [command, start] {
        for option in options(text) {
            assert!(help.contains(&format!("{option} <")), "there is no {option}");
            count += 1;
        }
    }
    assert!(count > 5, "{count} options");
}

/// The unit, as systemd reads it, where that is installed.
#[cfg(target_os = "linux")]
#[test]
fn the_unit_is_one_that_systemd_takes_and_calls_safe() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("p2p-node.service");
    let installed = "/usr/local/bin/p2p-node";
    let text = file("deploy/systemd/p2p-node.service");
    assert!(text.contains(installed));
    // Where stdout is null, so is stderr, unless this is said: there would be no log.
    assert!(text.contains("StandardError=journal"));
    fs::write(&unit, text.replace(installed, NODE)).unwrap();
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        Some((output.status.success(), String::from_utf8(said).unwrap()))
    };
    let Some((true, _)) = analyze(&["--version"]) else { return };
    // Other units of this host may have problems of their own.
    let (good, said) = analyze(&["verify"]).unwrap();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("p2p-node")).collect();
    assert!(good && ours.is_empty(), "{said}");
    // In tenths of systemd's scale, which ends at 10. Its versions before 250 cannot tell of a file.
    let (good, said) = analyze(&["security", "--offline=true", "--threshold=20"]).unwrap();
    assert!(good || said.contains("unrecognized option"), "{said}");
}
