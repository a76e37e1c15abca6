//! `config sample`: a file with every option, made from what `--help` says.

use super::options::{self, FILE, NodeOption, Takes};
use super::print::written;

/// Longest line of a comment.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of `p2p-node run`, for --config. Made by `p2p-node config sample`.
#
# The keys are the names of the options. What the environment says goes before this file, what the command line says before
# both. Lists are arrays, or strings with commas. Paths are relative to where the node is started.
# `p2p-node config check --config FILE` tells whether a file is good, `config print` what a node would run with.
";

/// Values for options that have no default.
const EXAMPLES: &[(&str, &str)] = &[
    ("network", r#""hoodi""#),
    ("chain-id", "167013"),
    ("p2p.chain-id", "167000"),
    ("domain", r#""placeholder""#),
    ("slasher", r#""none""#),
    ("l1.rpc", r#"["ws://127.0.0.1:8546", "https://l1.example.org"]"#),
    ("lookahead", r#""l1""#),
    ("l2.rpc", r#"["http://127.0.0.1:8547"]"#),
    ("base", r#""100000""#),
    ("datadir", r#""/var/lib/preconf""#),
    ("p2p.listen.quic", "9223"),
    ("p2p.advertise.ip", r#"["203.0.113.7"]"#),
    ("p2p.advertise.tcp", "9222"),
    ("p2p.advertise.udp", "9222"),
    ("p2p.priv.path", r#""/etc/preconf/p2p.key""#),
    (
        "p2p.static",
        r#"["/dns4/peer.example.org/tcp/9222/p2p/16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ"]"#,
    ),
    (
        "p2p.bootnodes",
        r#"["/ip4/203.0.113.9/udp/9222/p2p/16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ"]"#,
    ),
    ("p2p.listen.udp", "9222"),
    ("p2p.rate-limit", r#"["16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ=100/10"]"#),
    ("p2p.trusted", r#"["16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ"]"#),
    ("p2p.netrestrict", r#"["203.0.113.0/24", "2001:db8::/32"]"#),
    ("p2p.peerstore.path", r#""/var/lib/preconf/network""#),
    ("leniency", r#"["zero-parent"]"#),
    ("otlp.endpoint", r#""http://127.0.0.1:4318/v1/traces""#),
    ("metrics.addr", r#""127.0.0.1:9090""#),
    ("metrics.signer", r#""0x0000000000000000000000000000000000000001""#),
    ("status.addr", r#""127.0.0.1:8080""#),
    ("publish", r#""/run/preconf/blocks.jsonl""#),
    ("guard.url", r#""postgres://guard@db.example.org/guard""#),
    ("guard.password-file", r#""/etc/preconf/guard.password""#),
    ("guard.ca", r#""/etc/preconf/guard-ca.pem""#),
    ("guard.schema", r#""preconf_guard""#),
    ("guard.node", r#""node-a""#),
    ("rpc.addr", r#""127.0.0.1""#),
    ("rpc.port", "8550"),
    ("rpc.api", r#"["preconf"]"#),
    ("rpc.jwt-secret", r#""/etc/preconf/jwt.hex""#),
    ("rpc.vhosts", r#"["node.example.org"]"#),
    ("log.filter", r#""warn,p2p_node=info,preconfirmation_p2p=debug""#),
];

/// The file. Every setting is commented out: what is not said is as without a file.
pub(super) fn sample() -> String {
    let mut text = HEAD.to_owned();
    let mut heading = None;
    for option in options::all().iter().filter(|option| option.key() != FILE) {
        if option.heading().is_some_and(|of| heading.as_deref() != Some(of)) {
            heading = option.heading().map(str::to_owned);
            text.push_str(&format!("\n\n# {}\n", heading.as_deref().unwrap_or_default()));
        }
        text.push('\n');
        for line in option.help().lines().flat_map(wrapped) {
            text.push_str(format!("# {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&format!("#{} = {}\n", option.key(), value(option)));
    }
    text
}

/// A default, or an example.
fn value(option: &NodeOption) -> String {
    match (option.takes(), option.default()) {
        (Takes::Nothing, _) => "false".to_owned(),
        (Takes::One, Some(default)) => written(option, default),
        (Takes::Several, Some(default)) => format!("[{}]", written(option, default)),
        (_, None) => {
            let example = EXAMPLES.iter().find(|(key, _)| *key == option.key());
            example.map(|(_, example)| (*example).to_owned()).unwrap_or_default()
        }
    }
}

/// A line in lines that are not too long, between words.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let Some(last) = lines.last_mut() else { break };
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines
}
