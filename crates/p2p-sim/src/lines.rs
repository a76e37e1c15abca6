//! The links of a run: what all are like, and what is wrong with those of single nodes for a while.

use std::{num::NonZeroU32, time::Duration};

use p2p_types::PeerId;
use preconfirmation_p2p::sim::{Link, SimNetwork};

use crate::scenario::{Fault, Kind, Scenario};

pub(crate) struct Lines {
    usual: Link,
    /// What is wrong now.
    faults: Vec<Fault>,
}

impl Lines {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let usual = Link {
            delay: Duration::from_millis(scenario.delay),
            jitter: Duration::from_millis(scenario.jitter),
            ..Link::default()
        };
        Self { usual, faults: Vec::new() }
    }

    pub(crate) fn begin(&mut self, fault: &Fault) {
        self.faults.push(fault.clone());
    }

    pub(crate) fn end(&mut self, fault: &Fault) {
        self.faults.retain(|other| other.id != fault.id);
    }

    /// Sets all links between these peers; honest nodes are told by their numbers.
    pub(crate) fn apply(&self, network: &SimNetwork, peers: &[(Option<usize>, PeerId)]) {
        network.set_links(self.usual);
        if self.faults.is_empty() {
            return;
        }
        for (from, one) in peers {
            for (to, other) in peers {
                let link = self.between([*from, *to]);
                if link != self.usual {
                    network.set_link(*one, *other, link);
                }
            }
        }
    }

    fn between(&self, ends: [Option<usize>; 2]) -> Link {
        let mut link = self.usual;
        for fault in &self.faults {
            match fault.kind {
                Kind::Loss { node, percent } if ends.contains(&Some(node)) => {
                    link.loss = f64::from(percent) / 100.0;
                }
                Kind::Slow { node, millis } if ends.contains(&Some(node)) => {
                    link.delay += Duration::from_millis(millis);
                }
                Kind::Narrow { node, bytes_per_second } if ends.contains(&Some(node)) => {
                    link.bytes_per_second = NonZeroU32::new(bytes_per_second);
                }
                Kind::Disorder { node, percent } if ends.contains(&Some(node)) => {
                    (link.duplicate, link.reorder) = (f64::from(percent) / 100.0, f64::from(percent) / 100.0);
                }
                _ => {}
            }
        }
        link
    }
}
