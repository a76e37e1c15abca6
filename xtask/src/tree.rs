//! The dependency graph of one crate, as cargo resolves it for that crate alone.
//!
//! `cargo tree`, not `cargo metadata`: metadata unifies the features of the whole workspace with those that
//! dev-dependencies ask for, and so shows edges that no user of the crate gets. The tree of one package
//! with `-e normal` has neither.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{error::Error, shell::cargo};

/// One version of a crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
}

/// A crate and all that it reaches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    root: Option<Package>,
    edges: BTreeMap<Package, BTreeSet<Package>>,
}

impl Graph {
    /// What a workspace crate reaches on this platform by edges of these kinds (as `cargo tree -e` names
    /// them), with all of its own features on.
    pub(crate) fn of(package: &str, kinds: &str) -> Result<Self, Error> {
        let mut tree = cargo(["tree", "--all-features", "--prefix", "depth", "--format", " {p}"]);
        tree = tree.arg("--edges").arg(kinds).arg("--package").arg(package);
        Self::parse(&tree.read()?)
            .map_err(|problem| Error::Answer { command: format!("cargo tree --package {package}"), problem })
    }

    /// Reads lines of `depth name vX.Y.Z …`, each below its parent. A crate met again is listed without its
    /// children, which are already known.
    pub(crate) fn parse(tree: &str) -> Result<Self, String> {
        let mut graph = Self::default();
        let mut ancestors: Vec<Package> = Vec::new();
        for line in tree.lines().filter(|line| !line.trim().is_empty()) {
            let unreadable = || format!("no `depth name version` in {line:?}");
            let mut words = line.split_whitespace();
            let depth: usize = words.next().and_then(|word| word.parse().ok()).ok_or_else(unreadable)?;
            let name = words.next().ok_or_else(unreadable)?.to_owned();
            let version =
                words.next().and_then(|word| word.strip_prefix('v')).ok_or_else(unreadable)?.to_owned();
            let package = Package { name, version };
            if depth > ancestors.len() {
                return Err(unreadable());
            }
            ancestors.truncate(depth);
            match ancestors.last() {
                Some(parent) => graph.link(&parent.clone(), package.clone()),
                None if graph.root.is_none() => graph.root = Some(package.clone()),
                None => return Err(unreadable()),
            }
            ancestors.push(package);
        }
        Ok(graph)
    }

    /// Takes out the root's edges to a crate.
    pub(crate) fn unlink(&mut self, name: &str) {
        if let Some(reached) = self.root.as_ref().and_then(|root| self.edges.get_mut(root)) {
            reached.retain(|package| package.name != name);
        }
    }

    /// Adds an edge.
    pub(crate) fn link(&mut self, from: &Package, to: Package) {
        self.edges.entry(from.clone()).or_default().insert(to);
    }

    /// Everything that the root reaches, without the root, each with the shortest way to it from the root.
    pub(crate) fn reached(&self) -> BTreeMap<Package, Vec<Package>> {
        let mut ways = BTreeMap::new();
        let Some(root) = &self.root else { return ways };
        let mut queue = VecDeque::from([(root.clone(), vec![root.clone()])]);
        while let Some((at, way)) = queue.pop_front() {
            for next in self.edges.get(&at).into_iter().flatten() {
                if next == root || ways.contains_key(next) {
                    continue;
                }
                let mut way = way.clone();
                way.push(next.clone());
                ways.insert(next.clone(), way.clone());
                queue.push_back((next.clone(), way));
            }
        }
        ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(way: &[Package]) -> Vec<&str> {
        way.iter().map(|package| package.name.as_str()).collect()
    }

    #[test]
    fn a_tree_is_read_with_repeated_crates_and_shortest_ways() {
        let graph = Graph::parse(
            "0 top v0.1.0 (/somewhere)\n1 left v1.0.0\n2 deep v2.0.0-rc.1\n3 deeper v1.0.0\n1 mac v1.0.0 (proc-macro)\n1 deep v2.0.0-rc.1 (*)\n",
        )
        .unwrap();
        let reached = graph.reached();
        assert_eq!(reached.len(), 4);
        let deeper = Package { name: "deeper".into(), version: "1.0.0".into() };
        assert_eq!(names(&reached[&deeper]), ["top", "deep", "deeper"]);
    }

    #[test]
    fn what_only_an_edge_of_the_root_reaches_goes_with_it() {
        let mut graph =
            Graph::parse("0 root v1.0.0\n1 a v1.0.0\n2 b v1.0.0\n1 c v1.0.0\n2 a v1.0.0").unwrap();
        graph.unlink("c");
        let names =
            |graph: &Graph| graph.reached().into_keys().map(|package| package.name).collect::<Vec<_>>();
        assert_eq!(names(&graph), ["a", "b"]);
        graph.unlink("a");
        assert!(graph.reached().is_empty());
    }

    #[test]
    fn two_versions_of_a_crate_are_two() {
        let graph = Graph::parse("0 top v0.1.0\n1 a v1.0.0\n2 x v1.0.0\n1 x v2.0.0\n").unwrap();
        assert_eq!(graph.reached().len(), 3);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for broken in
            ["top v1.0.0", "0 top", "0 top 1.0.0", "0 top v1.0.0\n2 lost v1.0.0", "0 a v1.0.0\n0 b v1.0.0"]
        {
            assert!(Graph::parse(broken).is_err(), "{broken}");
        }
    }
}
