//! Options from file, environment and command line, and what `config` says of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::rig::{CHAIN, LOOPBACK, NODE, Node};

/// A folder with a configuration in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(toml: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.file(), toml).unwrap();
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("node.toml")
    }

    fn inside(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A command with this file.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(NODE);
        command.args(words).arg("--config").arg(self.file()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// The last line of what a command that fails says.
    fn refused(&self, words: &[&str]) -> String {
        fails(&mut self.command(words), 2)
    }

    fn names(&self) -> Vec<String> {
        names(self.0.path())
    }
}

/// What is in a folder, and in folders in it.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        names.push(format!("{} {modified:?}", path.display()));
        if path.is_dir() {
            names.extend(self::names(&path));
        }
    }
    names.sort();
    names
}

/// The only line that a command says which fails with this code.
fn fails(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().strip_prefix("error: ").unwrap().to_owned()
}

fn says(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

const CHAIN_FILE: &str = "domain = \"placeholder\"\nslasher = \"none\"\nlookahead = \"open\"\nbase = 10\n";

#[test]
fn the_environment_goes_before_the_file_and_the_command_line_before_both() {
    let folder = Folder::with(&format!(
        "{CHAIN_FILE}\n[p2p.listen]\nip = [\"127.0.0.1\", \"::1\"]\ntcp = 1\nudp = 0x10\n"
    ));
    let mut print = folder.command(&["config", "print", "--p2p.listen.udp", "3"]);
    print.env("P2P_NODE_P2P_LISTEN_TCP", "2").env("P2P_NODE_P2P_LISTEN_UDP", "2").env("P2P_NODE_BASE", "");
    let file = folder.file();
    let said = says(&mut print);
    let shown: Vec<_> = said.lines().map(|line| line.split_once("  # ").unwrap()).collect();
    let shown: Vec<_> = shown.into_iter().map(|(value, origin)| (value.trim_end(), origin)).collect();
    let at = |line: usize| format!("{}, line {line}", file.display());
    for (value, origin) in [
        (r#"domain = "placeholder""#, at(1)),
        // An empty variable is as none.
        ("base = 10", at(4)),
        (r#"p2p.listen.ip = ["127.0.0.1", "::1"]"#, at(7)),
        ("p2p.listen.tcp = 2", "P2P_NODE_P2P_LISTEN_TCP".to_owned()),
        ("p2p.listen.udp = 3", "command line".to_owned()),
    ] {
        assert!(shown.contains(&(value, origin.as_str())), "{value} {origin} is not in: {said}");
    }
    let without = says(Command::new(NODE).args([&["config", "print"], &CHAIN[1..]].concat()));
    assert!(without.contains("p2p.listen.tcp = 9222"), "{without}");
    assert!(
        without.lines().any(|line| line.starts_with("p2p.listen.tcp") && line.ends_with("# default")),
        "{without}"
    );
}

#[test]
fn what_the_network_says_is_shown_where_no_option_does() {
    let network = Folder::with(
        "chain_id = 7\np2p_chain_id = 8\ndomain = \"placeholder\"\nslasher = \"none\"\n[l1]\nchain_id = 9\ngenesis = 1\n\
         slot_seconds = 12\nslots_per_epoch = 32\ninbox = \"0x3333333333333333333333333333333333333333\"\n",
    );
    let name = network.file();
    let name = name.to_str().unwrap();
    let print = ["config", "print", "--lookahead", "open"];
    let shown = |more: &[&str]| -> Vec<String> {
        let shown = says(Command::new(NODE).args(print).args(more));
        let lines = shown.lines().map(|line| line.split_once("  # ").unwrap());
        lines.map(|(value, origin)| format!("{} # {origin}", value.trim_end())).collect()
    };
    let of_network = shown(&["--network", name, "--chain-id", "10"]);
    for line in [
        "chain-id = 10 # command line".to_owned(),
        // The file's is for the file's chain.
        format!("p2p.chain-id = 10 # network {name}"),
        format!("slasher = \"{}\" # network {name}", crate::rig::ZERO),
    ] {
        assert!(of_network.contains(&line), "{line}: {of_network:?}");
    }
    assert!(of_network.iter().any(|line| line.starts_with("domain = \"0x54") && line.ends_with(name)));
    let without = shown(&["--domain", "placeholder", "--slasher", "none"]);
    for line in ["chain-id = 167000 # default", "p2p.chain-id = 167000 # default"] {
        assert!(without.iter().any(|of| of == line), "{without:?}");
    }
    // Incomplete options are shown as far as they go.
    assert!(shown(&["--network", "hoodi"]).iter().all(|line| !line.starts_with("domain")));
}

#[test]
fn what_is_shown_is_a_file_that_says_the_same() {
    let folder = Folder::with(&format!(
        "{CHAIN_FILE}forget-on-restart = true\np2p.static = \"/ip4/1.2.3.4/tcp/1,/ip4/1.2.3.4/tcp/2\"\n"
    ));
    let shown = says(&mut folder.command(&["config", "print"]));
    let copy = Folder::with(
        &shown.lines().filter(|line| !line.starts_with("config = ")).collect::<Vec<_>>().join("\n"),
    );
    let values = |shown: &str| -> Vec<String> {
        let lines = shown.lines().filter(|line| !line.starts_with("config = "));
        lines.map(|line| line.split("  # ").next().unwrap().trim_end().to_owned()).collect()
    };
    assert_eq!(values(&says(&mut copy.command(&["config", "print"]))), values(&shown));
    assert!(shown.contains("forget-on-restart = true") && shown.contains("/ip4/1.2.3.4/tcp/2\"]"), "{shown}");
}

#[test]
fn a_node_runs_with_nothing_but_a_file_that_the_environment_names() {
    let folder = Folder::with(&format!(
        "{CHAIN_FILE}[p2p]\nlisten.ip = \"127.0.0.1\"\nlisten.tcp = 0\n[status]\naddr = \"127.0.0.1:0\"\n"
    ));
    let script =
        format!("exec env P2P_NODE_CONFIG={} P2P_NODE_LISTEN_TCP=7 {NODE} run", folder.file().display());
    let mut node = Node::spawn("sh", &["-c", &script], Stdio::null());
    let started = node.started();
    assert!(started["status"].is_string(), "{started}");
    // A variable that is nearly one.
    node.logs(&["WARN", "P2P_NODE_LISTEN_TCP", "P2P_NODE_P2P_LISTEN_TCP"]);
    node.logs(&["running"]);
    node.stop();
}

#[test]
fn what_is_wrong_in_a_file_is_told_in_one_line_and_nothing_is_touched() {
    let line =
        |folder: &Folder, number: usize| format!("--config {}, line {number}: ", folder.file().display());
    for (toml, number, problem) in [
        ("\np2p.lissten.tcp = 1", 2, "there is no option `p2p.lissten.tcp`; did you mean `p2p.listen.tcp`?"),
        ("[p2p.listen]\nport = 1", 2, "there is no option `p2p.listen.port`; did you mean `p2p.listen.ip`?"),
        ("chain_id = 7", 1, "there is no option `chain_id`; did you mean `chain-id`?"),
        (
            "config = \"other.toml\"",
            1,
            "there is no option `config`; `p2p-node config sample` has all of them",
        ),
        ("xyz = {}", 1, "there is no option `xyz`; `p2p-node config sample` has all of them"),
        ("p2p.listen.tcp = \"many\"", 1, "p2p.listen.tcp = \"many\": invalid digit found in string"),
        ("p2p.listen.tcp = 65536", 1, "p2p.listen.tcp = \"65536\": 65536 is not in 0..=65535"),
        ("p2p.listen.tcp = [1]", 1, "p2p.listen.tcp: of type array, must be a string or a number"),
        ("p2p.listen.tcp = true", 1, "p2p.listen.tcp: of type boolean, must be a string or a number"),
        ("[p2p.listen.tcp]\nport = 1", 1, "p2p.listen.tcp: of type table, must be a string or a number"),
        ("p2p.static = [[\"a\"]]", 1, "p2p.static: of type array, must be strings in a list"),
        ("forget-on-restart = \"yes\"", 1, "forget-on-restart: of type string, must be true or false"),
        (
            "p2p.static = [\"/ip4/1.2.3.4/tcp/1\", \"1.2.3.4:1\"]",
            1,
            "p2p.static = \"1.2.3.4:1\": `1.2.3.4:1` is no multiaddr, such as /ip4/…/tcp/…/p2p/…",
        ),
        ("l1.rpc = \"word\"", 1, "l1.rpc: relative URL without a base"),
        ("base = 1\nbase = 2", 2, "duplicate key"),
        ("base = 1\n\"p2p.listen.tcp\" = 2\np2p.listen.tcp = 3", 2, "p2p.listen.tcp is given twice"),
        ("base = ", 1, ""),
    ] {
        let folder = Folder::with(toml);
        let datadir = folder.inside("data");
        let before = folder.names();
        for command in [&["run"][..], &["config", "check"], &["config", "print"]] {
            let said = folder.refused(&[command, &CHAIN[1..], &LOOPBACK, &["--datadir", &datadir]].concat());
            let problem_said = said.strip_prefix(&line(&folder, number));
            let problem_said = problem_said.unwrap_or_else(|| panic!("{toml}: {said}"));
            assert!(problem_said.starts_with(problem) || problem.contains('…'), "{toml}: {said}");
            assert!(!said.contains("word"), "a secret: {said}");
        }
        assert_eq!(folder.names(), before);
    }
}

#[test]
fn what_is_wrong_elsewhere_is_told_in_one_line_too() {
    let folder = Folder::with(CHAIN_FILE);
    let no_file = Command::new(NODE).args(["run", "--config", "/no/such.toml"]).output().unwrap();
    let said = String::from_utf8(no_file.stderr).unwrap();
    assert_eq!(said, "error: --config /no/such.toml: No such file or directory (os error 2)\n");
    assert_eq!(no_file.status.code(), Some(2));

    let mut variable = folder.command(&["run"]);
    let said = fails(variable.env("P2P_NODE_P2P_LISTEN_TCP", "many"), 2);
    assert_eq!(said, "P2P_NODE_P2P_LISTEN_TCP = \"many\": invalid digit found in string");
    let mut secret = folder.command(&["run"]);
    let said = fails(secret.env("P2P_NODE_L1_RPC", "0123456789"), 2);
    assert_eq!(said, "P2P_NODE_L1_RPC: relative URL without a base");
    let mut switch = folder.command(&["run"]);
    let said = fails(switch.env("P2P_NODE_FORGET_ON_RESTART", "maybe"), 2);
    assert_eq!(said, "P2P_NODE_FORGET_ON_RESTART = \"maybe\": must be true or false");

    // What only several options together make wrong.
    let said = folder.refused(&["run", "--l2.rpc", "http://127.0.0.1:1"]);
    assert!(said.contains("--l2.rpc") && said.contains("--base"), "{said}");
    let empty = Folder::with("");
    let said = empty.refused(&["config", "check"]);
    assert!(said.contains("--domain <HEX> --slasher <ADDRESS>"), "{said}");
}

#[test]
fn secrets_are_not_shown() {
    let folder = Folder::with(
        "network = \"hoodi\"\ndomain = \"placeholder\"\nslasher = \"none\"\nl1.rpc = [\"wss://me:word@l1.example.org/v3/0123\"]\n",
    );
    let mut print = folder.command(&["config", "print", "--l1.rpc=https://l1.example.org?key=4567"]);
    let shown = says(print.env("P2P_NODE_L2_RPC", "http://l2.example.org:1/89ab,http://127.0.0.1:2"));
    assert!(shown.contains(r#"l1.rpc = ["https://l1.example.org/…"]"#), "{shown}");
    assert!(shown.contains(r#"l2.rpc = ["http://l2.example.org:1/…", "http://127.0.0.1:2"]"#), "{shown}");
    let shown = says(&mut folder.command(&["config", "print"]));
    assert!(shown.contains(r#"l1.rpc = ["wss://l1.example.org/…"]"#), "{shown}");
}

#[test]
fn the_sample_is_what_deploy_has_and_each_of_its_settings_is_one() {
    let sample = says(Command::new(NODE).args(["config", "sample"]));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/p2p-node.toml");
    assert!(
        fs::read_to_string(&shipped).unwrap_or_default() == sample,
        "run `p2p-node config sample > deploy/p2p-node.toml`"
    );
    let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let keys: Vec<_> = sample
        .lines()
        .filter(|line| setting(line))
        .map(|line| line[1..].split(' ').next().unwrap())
        .collect();
    let help = says(Command::new(NODE).args(["run", "--help"]));
    for option in help.lines().filter_map(|line| line.trim_start().strip_prefix("--")) {
        let key = option.split([' ', '<']).next().unwrap();
        assert!(keys.contains(&key) || ["config", "help"].contains(&key), "{key} is not in the sample");
    }
    // A base is instead of an L2 endpoint.
    for without in ["base", "l2.rpc"] {
        let on = |line: &str| match line.strip_prefix('#') {
            Some(line_on) if setting(line) && line_on.split(' ').next() != Some(without) => {
                line_on.to_owned()
            }
            _ => line.to_owned(),
        };
        let folder = Folder::with(&sample.lines().map(on).collect::<Vec<_>>().join("\n"));
        let shown = says(&mut folder.command(&["config", "print"]));
        for key in keys.iter().filter(|key| **key != without) {
            let line = shown.lines().find(|line| line.starts_with(&format!("{key} = ")));
            let line = line.unwrap_or_else(|| panic!("{key} is not in: {shown}"));
            assert!(line.contains("node.toml, line "), "{line}");
        }
    }
}

#[test]
fn help_names_the_variable_of_each_option_and_the_readme_each_option() {
    let help = says(Command::new(NODE).args(["run", "--help"]));
    let readme = include_str!("../../README.md");
    assert!(help.contains("[env: P2P_NODE_P2P_LISTEN_TCP]"), "{help}");
    let options = help.split("Exit code:").next().unwrap().lines();
    let options: Vec<_> = options.filter_map(|line| line.trim_start().strip_prefix("--")).collect();
    for option in &options {
        let named = format!("`--{}", option.split(' ').next().unwrap());
        let ends = ["`", " "].map(|end| format!("{named}{end}"));
        assert!(ends.iter().any(|named| readme.contains(named)), "the README has no {named}");
    }
    let options = options.len();
    assert_eq!(help.matches("[env: P2P_NODE_").count(), options, "{help}");
}

#[test]
fn a_check_touches_nothing_and_minds_no_node_that_runs() {
    // Without a peer it would be warned of that.
    let folder = Folder::with(&format!("{CHAIN_FILE}p2p.static = \"/ip4/127.0.0.1/tcp/1\"\n"));
    let datadir = folder.inside("data");
    let options = ["--datadir", datadir.as_str()];
    let check = [&["config", "check"], &options[..]].concat();
    let before = folder.names();
    assert_eq!(says(&mut folder.command(&check)), "");
    assert_eq!(folder.names(), before);

    let mut node = Node::run(&options);
    node.started();
    assert_eq!(says(&mut folder.command(&check)), "");
    node.stop();
    let before = folder.names();
    assert_eq!(says(&mut folder.command(&check)), "");
    let domain = format!("0x{}", "11".repeat(32));
    let other = [&check[..], &["--domain", &domain]].concat();
    let said = fails(&mut folder.command(&other), 1);
    assert!(said.contains("--datadir") && said.contains("--domain"), "{said}");
    assert_eq!(folder.names(), before);

    fs::write(folder.inside("key"), "0123").unwrap();
    for (more, words) in [
        (["--p2p.priv.path", &folder.inside("key")], "--p2p.priv.path"),
        (["--network", "/no/such.toml"], "--network /no/such.toml"),
        (["--lookahead", "file:/no/such.json"], "--lookahead file:/no/such.json"),
        (["--l1.rpc", "ws://127.0.0.1:1"], "--l1.rpc"),
        (["--publish", "/no/such.jsonl"], "--publish /no/such.jsonl"),
        (["--p2p.advertise.ip", "0.0.0.0"], "--p2p.advertise.ip 0.0.0.0"),
        (["--datadir", &folder.inside("node.toml")], "--datadir"),
    ] {
        let command = [&["config", "check"], &more[..]].concat();
        let said = fails(&mut folder.command(&command), 1);
        assert!(said.starts_with(words), "{said}");
    }
}
