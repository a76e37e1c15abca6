//! Keys and what is shown of them; completions and man pages.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use preconfirmation_p2p::{Bootnode, identity};

const NODE: &str = env!("CARGO_BIN_EXE_p2p-node");

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn run(words: &[&str]) -> Output {
    Command::new(NODE).args(words).env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
}

fn says(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(words: &[&str]) -> String {
    let output = run(words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_key_is_made_once_and_has_one_peer_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/p2p.key");
    let file = path.to_str().unwrap();
    assert!(fails(&["peer-id", file]).contains("p2p-node keygen"));
    let id = says(&["keygen", file]);
    assert_eq!(says(&["peer-id", file]), id);
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!(identity::from_hex(&key).unwrap().public().to_peer_id().to_string(), id.trim_end());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // A second one would make the node another peer.
    assert!(fails(&["keygen", file]).contains("exists already"));
    assert_eq!(fs::read_to_string(&path).unwrap(), key);

    fs::write(&path, "0123").unwrap();
    let broken = fails(&["peer-id", file]);
    assert!(broken.contains("holds no key") && broken.contains("64 hexadecimal digits, not 4"), "{broken}");
}

#[cfg(unix)]
#[test]
fn a_key_may_come_from_stdin() {
    let mut child = Command::new(NODE)
        .args(["peer-id", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(KEY.as_bytes()).unwrap();
    let id = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(id.trim_end(), identity::from_hex(KEY).unwrap().public().to_peer_id().to_string());
}

#[test]
fn a_record_says_where_a_node_of_this_key_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p2p.key");
    let file = file.to_str().unwrap();
    let id = says(&["keygen", file]);
    let record = |more: &[&str]| {
        let text = says(&[&["enr", file, "--ip"], more].concat());
        assert!(text.trim_end().parse::<Bootnode>().is_ok(), "{text}");
        text.trim_end().parse::<discv5::Enr>().unwrap()
    };
    let enr = record(&["203.0.113.7"]);
    assert_eq!(enr.ip4().unwrap().to_string(), "203.0.113.7");
    assert_eq!((enr.udp4(), enr.tcp4(), enr.ip6()), (Some(9222), Some(9222), None));
    assert_eq!(enr.get_decodable::<u64>("taiko").unwrap().unwrap(), 167_000);
    let enr = record(&["2001:db8::7", "--udp", "1", "--tcp", "2", "--quic", "3", "--p2p.chain-id", "7"]);
    assert_eq!((enr.udp6(), enr.tcp6(), enr.ip4()), (Some(1), Some(2), None));
    assert_eq!(enr.get_decodable::<u16>("quic6").unwrap().unwrap(), 3);
    assert_eq!(enr.get_decodable::<u64>("taiko").unwrap().unwrap(), 7);
    assert!(fails(&["enr", file, "--ip", "0.0.0.0"]).contains("nobody can dial"));
    assert!(!id.is_empty());

    fs::write(file, format!("ed25519:{KEY}")).unwrap();
    assert!(fails(&["enr", file, "--ip", "203.0.113.7"]).contains("secp256k1"));
}

/// The commands in `--help`.
fn commands() -> Vec<String> {
    let help = says(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_shell_is_told_of_every_command() {
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = says(&["completions", shell]);
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        assert!(script.contains("p2p.listen.tcp"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("p2p-node.bash");
    fs::write(&script, says(&["completions", "bash"])).unwrap();
    let complete = format!(
        "source {} && COMP_WORDS=(p2p-node run --p2p.listen.) && COMP_CWORD=2 && \
         _p2p__node p2p-node --p2p.listen. run && echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let Ok(output) = Command::new("bash").args(["-c", &complete]).output() else {
        println!("skipped: there is no bash here");
        return;
    };
    let completed = String::from_utf8(output.stdout).unwrap();
    assert!(completed.contains("--p2p.listen.tcp") && !completed.contains("--datadir"), "{completed:?}");
}

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(says(&["man", pages.to_str().unwrap()]), "");
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap_or_else(|_| panic!("no {name}"));
    for command in commands() {
        assert!(page(&format!("p2p-node-{command}.1")).contains(".SH NAME"), "{command}");
    }
    let run = page("p2p-node-run.1");
    for words in ["p2p.listen.tcp", "P2P_NODE_P2P_LISTEN_TCP", "metrics.addr"] {
        assert!(run.contains(words), "{words} is not in the page");
    }
    page("p2p-node-config-check.1");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(fails(&["man", Path::new(&file).join("man1").to_str().unwrap()]).contains("Not a directory"));
}
