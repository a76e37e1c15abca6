//! A byzantine peer: it joins the network like any other and publishes what breaks the rules.

use std::{collections::HashSet, sync::Arc, time::Duration};

use p2p_types::{B256, Preconfirmation, SignedCommitment, U256};
use preconfirmation_p2p::{
    GossipMessage, Multiaddr, Network, NetworkConfig, NetworkEvent, NetworkEvents, NetworkHandle, PeerId,
    Published, Verdict,
};
use preconfirmation_types::{Bytes, Container, PreconfCommitment, RawTxListGossip, Topic};
use tokio::{sync::watch, task::JoinHandle, time::interval};

use super::{
    error::DevnetError,
    plan::{Plan, Turn},
    preconfer::unix_now,
};

/// Between two rounds of invalid messages.
const INTERVAL: Duration = Duration::from_millis(250);

/// What the byzantine peer has sent.
#[derive(Debug, Default)]
pub(crate) struct Lies {
    /// Messages that the network took.
    pub(crate) sent: u64,
    /// Messages that found no peer any more.
    pub(crate) refused: u64,
    /// Preconfirmation hashes of forged commitments.
    pub(crate) commitments: HashSet<B256>,
    /// Hashes claimed for, and real hashes of, forged lists.
    pub(crate) txlists: HashSet<B256>,
}

/// The peer and its work.
pub(crate) struct Liar {
    plan: Arc<Plan>,
    peer: Option<PeerId>,
    stop: watch::Sender<bool>,
    work: Option<JoinHandle<Lies>>,
}

impl Liar {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self { plan, peer: None, stop: watch::Sender::new(false), work: None }
    }

    /// Joins the network under an identity of its own and starts to lie.
    pub(crate) async fn start(&mut self, identity: usize, peers: &[Multiaddr]) -> Result<(), DevnetError> {
        let config = NetworkConfig::local(self.plan.chain_id, self.plan.identity(identity)?);
        let (network, events, service) = Network::new(config)?;
        self.peer = Some(network.local_peer_id());
        let (plan, stopped, handle) = (self.plan.clone(), self.stop.subscribe(), network.clone());
        self.work = Some(tokio::spawn(async move {
            let service = tokio::spawn(service.run());
            let lies = lie(&plan, handle.clone(), events, stopped).await;
            handle.shutdown();
            // However the liar's network ends is nobody's concern.
            drop(service.await);
            lies
        }));
        for address in peers {
            network.dial(address.clone()).await?;
        }
        Ok(())
    }

    /// Who it is on the network.
    pub(crate) const fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Ends it. What it has sent.
    pub(crate) async fn stop(self) -> Result<Lies, DevnetError> {
        self.stop.send_replace(true);
        match self.work {
            Some(work) => work.await.map_err(|_| DevnetError::Observer),
            None => Ok(Lies::default()),
        }
    }
}

async fn lie(
    plan: &Plan,
    network: NetworkHandle,
    mut events: NetworkEvents,
    mut stopped: watch::Receiver<bool>,
) -> Lies {
    let mut lies = Lies::default();
    let mut pace = interval(INTERVAL);
    let mut latest: Option<Preconfirmation> = None;
    let mut round = 0_u64;
    loop {
        tokio::select! {
            biased;
            _ = stopped.changed() => return lies,
            event = events.next() => match event {
                Some(NetworkEvent::Gossip { message, verdict, .. }) => {
                    // It forwards as it should, so that its peers keep it in their meshes.
                    verdict.settle(Verdict::Accept);
                    if let GossipMessage::Commitment(ssz) = message
                        && let Ok(signed) = SignedCommitment::from_ssz(&ssz)
                        && !signed.preconf().is_eop_only()
                    {
                        latest = Some(signed.commitment.preconf);
                    }
                }
                Some(_) => {}
                None => return lies,
            },
            _ = pace.tick() => {
                if let Some(latest) = &latest {
                    round += 1;
                    send_round(plan, &network, latest, round, &mut lies).await;
                }
            }
        }
    }
}

/// One round of invalid messages about the block after the latest. Before its own turn it sends one only, so that it is not
/// graylisted when its turn comes: what only an elected preconfer can break is broken then.
async fn send_round(
    plan: &Plan,
    network: &NetworkHandle,
    latest: &Preconfirmation,
    round: u64,
    lies: &mut Lies,
) {
    let now = unix_now();
    let window = plan.schedule.index(now);
    let Some((slot, turn)) = plan.window(window) else { return };
    let salt = B256::left_padding_from(&round.to_be_bytes());
    let next = Preconfirmation {
        eop: false,
        block_number: latest.block_number.saturating_add(U256::from(1)),
        timestamp: U256::from(now.get()),
        submission_window_end: U256::from(slot.window.end.get()),
        raw_tx_list_hash: salt,
        parent_preconfirmation_hash: latest.hash(),
        ..latest.clone()
    };
    if turn == Turn::Liar {
        // Elected, and still: a parent that nobody knows, and a height that does not follow its parent.
        let orphan = Preconfirmation { parent_preconfirmation_hash: !salt, ..next.clone() };
        commitment(plan, network, orphan, lies).await;
        let skips = next.block_number.saturating_add(U256::from(2));
        commitment(plan, network, Preconfirmation { block_number: skips, ..next }, lies).await;
        return;
    }
    if window == 0 && !lies.commitments.is_empty() {
        return;
    }
    // Somebody else's window, as if it were elected.
    commitment(plan, network, next.clone(), lies).await;
    if window > 0 {
        // The same with a broken parent, a window that no schedule has, and a list that is another.
        let orphan = Preconfirmation { parent_preconfirmation_hash: !salt, ..next.clone() };
        commitment(plan, network, orphan, lies).await;
        let never = U256::from(slot.window.end.get() + 1);
        commitment(plan, network, Preconfirmation { submission_window_end: never, ..next }, lies).await;
        let forged =
            RawTxListGossip { raw_tx_list_hash: latest.raw_tx_list_hash, txlist: salt.to_vec().into() };
        lies.txlists.insert(preconfirmation_types::keccak256(&forged.txlist));
        publish(network, Topic::RawTxLists, forged.to_ssz().into(), lies).await;
    }
}

async fn commitment(plan: &Plan, network: &NetworkHandle, preconf: Preconfirmation, lies: &mut Lies) {
    lies.commitments.insert(preconf.hash());
    let signed = PreconfCommitment { preconf, slasher_address: plan.slasher }.sign(&plan.liar, &plan.domain);
    publish(network, Topic::Commitments, signed.to_ssz().into(), lies).await;
}

async fn publish(network: &NetworkHandle, topic: Topic, ssz: Bytes, lies: &mut Lies) {
    match network.publish(topic, ssz).await {
        Ok(Published::Sent { .. } | Published::Queued) => lies.sent += 1,
        Ok(Published::Duplicate) | Err(_) => lies.refused += 1,
    }
}
