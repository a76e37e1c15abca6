//! Which crate may reach which, and which may know a runtime or a network.

use crate::{error::Error, shell, tree::Graph, workspace::Metadata};

/// What one crate may reach through normal dependencies, directly or not.
struct Rule {
    package: &'static str,
    /// Crates of this workspace; any other one is forbidden.
    may_reach: &'static [&'static str],
    /// Whether a runtime and a network may be below it.
    io: Io,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Io {
    /// Neither: the caller brings time, bytes and tasks.
    None,
    /// Both.
    Any,
}

const TYPES: &str = "preconfirmation-types";
const FASTVERIFY: &str = "p2p-fastverify";
const WORDS: &str = "p2p-types";
const NETWORK: &str = "preconfirmation-p2p";
const VALIDATION: &str = "p2p-validation";
const STORAGE: &str = "p2p-storage";
const CATCHUP: &str = "p2p-catchup";
const CLIENT: &str = "p2p-client";
const LOOKAHEAD: &str = "p2p-lookahead";
const GUARD: &str = "p2p-guard-postgres";
const RPC: &str = "p2p-rpc";
const FIXTURES: &str = "p2p-fixtures";

/// The layers, lowest first. A crate under `crates/` that is not here fails the check.
const RULES: &[Rule] = &[
    Rule { package: TYPES, may_reach: &[], io: Io::None },
    Rule { package: FASTVERIFY, may_reach: &[], io: Io::None },
    Rule { package: WORDS, may_reach: &[TYPES], io: Io::None },
    Rule { package: VALIDATION, may_reach: &[TYPES, WORDS, FASTVERIFY], io: Io::None },
    // For tests: no crate needs it to be built.
    Rule { package: FIXTURES, may_reach: &[TYPES, WORDS, FASTVERIFY, VALIDATION], io: Io::None },
    Rule { package: STORAGE, may_reach: &[TYPES, WORDS, FASTVERIFY, VALIDATION], io: Io::None },
    Rule { package: CATCHUP, may_reach: &[TYPES, WORDS, FASTVERIFY, VALIDATION], io: Io::None },
    Rule { package: LOOKAHEAD, may_reach: &[TYPES, WORDS, FASTVERIFY, VALIDATION], io: Io::Any },
    Rule { package: GUARD, may_reach: &[TYPES, WORDS], io: Io::Any },
    Rule { package: NETWORK, may_reach: &[TYPES], io: Io::Any },
    Rule {
        package: CLIENT,
        may_reach: &[TYPES, WORDS, FASTVERIFY, VALIDATION, STORAGE, CATCHUP, NETWORK],
        io: Io::Any,
    },
    // For tests, as well.
    Rule {
        package: "p2p-sim",
        may_reach: &[TYPES, WORDS, FASTVERIFY, VALIDATION, STORAGE, CATCHUP, NETWORK, CLIENT],
        io: Io::Any,
    },
    Rule {
        package: RPC,
        may_reach: &[TYPES, WORDS, FASTVERIFY, VALIDATION, STORAGE, CATCHUP, NETWORK, CLIENT],
        io: Io::Any,
    },
    Rule {
        package: "p2p-node",
        may_reach: &[
            TYPES, WORDS, FASTVERIFY, VALIDATION, STORAGE, CATCHUP, LOOKAHEAD, GUARD, NETWORK, CLIENT, RPC,
        ],
        io: Io::Any,
    },
];

/// The published crates without runtime and network, lowest first.
pub(crate) fn inner_crates() -> impl Iterator<Item = &'static str> {
    let inner = RULES.iter().filter(|rule| rule.io == Io::None && rule.package != FIXTURES);
    inner.map(|rule| rule.package)
}

/// Whether a crate is a runtime or a network. Identities (keys and peer ids) are neither.
fn is_io(name: &str) -> bool {
    let family =
        |stem: &str| name == stem || name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-'));
    (family("tokio") || family("libp2p")) && name != "libp2p-identity"
}

/// What a graph holds that its crate's rule forbids, each with the way to it.
fn violations(rule: &Rule, members: &[String], graph: &Graph) -> Vec<String> {
    let reached = graph.reached();
    let forbidden = reached.iter().filter(|(package, _)| {
        let name = package.name.as_str();
        let foreign_layer = members.iter().any(|member| member == name) && !rule.may_reach.contains(&name);
        foreign_layer || (rule.io == Io::None && is_io(name))
    });
    forbidden
        .map(|(package, way)| {
            let way: Vec<_> = way.iter().map(|package| package.name.as_str()).collect();
            format!("{} may not reach {}: {}", rule.package, package.name, way.join(" → "))
        })
        .collect()
}

/// The crates of the workspace, and those among them that live under `crates/`.
fn members() -> Result<(Vec<String>, Vec<String>), Error> {
    let metadata = Metadata::of_workspace()?;
    let crates = shell::root().join("crates");
    let name = |member: &crate::workspace::Crate| member.name.clone();
    let all = metadata.members();
    let layered = all.iter().filter(|member| member.manifest_path.starts_with(&crates));
    Ok((all.iter().map(|member| name(member)).collect(), layered.map(|member| name(member)).collect()))
}

/// The members without a rule, and the rules without a member.
fn unmatched(layered: &[String]) -> Vec<String> {
    let lawless = layered.iter().filter(|name| RULES.iter().all(|rule| rule.package != name.as_str()));
    let idle = RULES.iter().filter(|rule| layered.iter().all(|name| name != rule.package));
    lawless
        .map(|name| format!("{name} has no rule: give it one in xtask/src/layering.rs"))
        .chain(idle.map(|rule| format!("the rule of {} has no crate", rule.package)))
        .collect()
}

/// Checks every crate of the workspace.
pub(crate) fn check_workspace() -> Result<(), Error> {
    let (members, layered) = members()?;
    let mut found = unmatched(&layered);
    for rule in RULES.iter().filter(|rule| layered.iter().any(|name| name == rule.package)) {
        let graph = Graph::of(rule.package, "normal")?;
        let broken = violations(rule, &members, &graph);
        println!(
            "{:<22} {}",
            rule.package,
            if broken.is_empty() { "keeps its layer" } else { "BREAKS ITS LAYER" }
        );
        found.extend(broken);
    }
    Error::unless_empty(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Package;

    fn package(name: &str) -> Package {
        Package { name: name.into(), version: "1.0.0".into() }
    }

    fn rule(name: &str) -> &'static Rule {
        RULES.iter().find(|rule| rule.package == name).unwrap()
    }

    fn all() -> Vec<String> {
        RULES.iter().map(|rule| rule.package.to_owned()).collect()
    }

    /// The graph of `p2p-validation` as it should be.
    fn good() -> Graph {
        Graph::parse(
            "0 p2p-validation v1.0.0\n1 p2p-types v1.0.0\n2 libp2p-identity v1.0.0\n3 bytes v1.0.0\n2 preconfirmation-types v1.0.0\n3 tokio_lookalike v1.0.0\n",
        )
        .unwrap()
    }

    #[track_caller]
    fn fails_with(from: &str, to: &str, way: &str) {
        let mut graph = good();
        graph.link(&package(from), package(to));
        let found = violations(rule(VALIDATION), &all(), &graph);
        assert_eq!(found, [format!("p2p-validation may not reach {to}: {way}")]);
    }

    #[test]
    fn a_good_graph_passes() {
        assert_eq!(violations(rule(VALIDATION), &all(), &good()), [""; 0]);
    }

    #[test]
    fn a_direct_forbidden_edge_fails() {
        fails_with(VALIDATION, "tokio", "p2p-validation → tokio");
        fails_with(VALIDATION, "tokio-util", "p2p-validation → tokio-util");
        fails_with(VALIDATION, "libp2p", "p2p-validation → libp2p");
        fails_with(VALIDATION, "libp2p-swarm", "p2p-validation → libp2p-swarm");
        fails_with(VALIDATION, STORAGE, "p2p-validation → p2p-storage");
    }

    #[test]
    fn a_forbidden_edge_far_below_fails() {
        fails_with("bytes", "tokio", "p2p-validation → p2p-types → libp2p-identity → bytes → tokio");
        fails_with(TYPES, "libp2p-core", "p2p-validation → p2p-types → preconfirmation-types → libp2p-core");
        fails_with(WORDS, CLIENT, "p2p-validation → p2p-types → p2p-client");
    }

    #[test]
    fn the_lowest_crate_reaches_no_other_of_the_workspace() {
        for other in all().iter().filter(|name| *name != TYPES) {
            let mut graph = Graph::parse("0 preconfirmation-types v1.0.0\n1 bytes v1.0.0\n").unwrap();
            graph.link(&package("bytes"), package(other));
            assert_eq!(violations(rule(TYPES), &all(), &graph).len(), 1, "{other}");
        }
    }

    #[test]
    fn the_network_knows_the_wire_and_no_more_and_the_client_all_but_the_binary() {
        let mut network =
            Graph::parse("0 preconfirmation-p2p v1.0.0\n1 tokio v1.0.0\n1 libp2p v1.0.0\n").unwrap();
        assert_eq!(violations(rule(NETWORK), &all(), &network), [""; 0]);
        network.link(&package("libp2p"), package(WORDS));
        assert_eq!(violations(rule(NETWORK), &all(), &network).len(), 1);

        let mut client =
            Graph::parse("0 p2p-client v1.0.0\n1 p2p-storage v1.0.0\n1 preconfirmation-p2p v1.0.0\n")
                .unwrap();
        assert_eq!(violations(rule(CLIENT), &all(), &client), [""; 0]);
        client.link(&package(STORAGE), package("p2p-node"));
        assert_eq!(violations(rule(CLIENT), &all(), &client).len(), 1);
    }

    #[test]
    fn inner_crates_know_no_io() {
        for inner in [TYPES, FASTVERIFY, WORDS, VALIDATION, STORAGE, CATCHUP] {
            assert!(rule(inner).io == Io::None, "{inner}");
        }
    }

    #[test]
    fn a_crate_without_a_rule_and_a_rule_without_a_crate_fail() {
        assert!(unmatched(&all()).is_empty());
        let mut names = all();
        names.push("newcomer".into());
        assert_eq!(unmatched(&names).len(), 1);
        names.truncate(all().len() - 1);
        assert_eq!(unmatched(&names).len(), 1);
    }

    #[test]
    fn this_workspace_keeps_its_layers() {
        check_workspace().unwrap();
    }
}
