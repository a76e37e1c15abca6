//! Byzantine peers: they join the network like any other and publish what breaks the rules, or pass on nothing.

use std::{collections::HashSet, sync::Arc, time::Duration};

use p2p_types::{B256, Preconfirmation, SignedCommitment, SigningKey, U256};
use preconfirmation_p2p::{
    GossipMessage, Multiaddr, Network, NetworkEvent, NetworkEvents, NetworkHandle, PeerId, Published, Verdict,
};
use preconfirmation_types::{Bytes, Container, PreconfCommitment, RawTxListGossip, Topic, keccak256};
use tokio::{sync::watch, task::JoinHandle, time::interval};

use super::{
    args::Transport,
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

/// What a byzantine peer does.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// It has a turn, and breaks what only an elected preconfer can break.
    Elected,
    /// It has none, and signs with a key of its own.
    Unelected(SigningKey),
    /// It takes everything and passes on nothing.
    Silent,
}

/// The peer and its work.
pub(crate) struct Liar {
    plan: Arc<Plan>,
    manner: Manner,
    peer: Option<PeerId>,
    stop: watch::Sender<bool>,
    work: Option<JoinHandle<Lies>>,
}

impl Liar {
    pub(crate) fn new(plan: Arc<Plan>, manner: Manner) -> Self {
        Self { plan, manner, peer: None, stop: watch::Sender::new(false), work: None }
    }

    /// Joins the network under an identity of its own and starts to lie.
    pub(crate) async fn start(
        &mut self,
        transport: Transport,
        identity: usize,
        peers: &[Multiaddr],
    ) -> Result<(), DevnetError> {
        let config = transport.network(self.plan.chain_id, self.plan.identity(identity)?);
        let (network, events, service) = Network::new(config)?;
        self.peer = Some(network.local_peer_id());
        let (plan, stopped, handle) = (self.plan.clone(), self.stop.subscribe(), network.clone());
        let manner = self.manner.clone();
        self.work = Some(tokio::spawn(async move {
            let service = tokio::spawn(service.run());
            let lies = lie(&plan, &manner, handle.clone(), events, stopped).await;
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
    manner: &Manner,
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
                    // A liar forwards as it should, so that its peers keep it in their meshes.
                    let passes_on = !matches!(manner, Manner::Silent);
                    verdict.settle(if passes_on { Verdict::Accept } else { Verdict::Ignore });
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
                if let Some(latest) = &latest
                    && !matches!(manner, Manner::Silent)
                {
                    round += 1;
                    send_round(plan, manner, &network, latest, round, &mut lies).await;
                }
            }
        }
    }
}

/// One round of invalid messages about the block after the latest. Before its own turn it sends one only, so that it is not
/// graylisted when its turn comes: what only an elected preconfer can break is broken then.
async fn send_round(
    plan: &Plan,
    manner: &Manner,
    network: &NetworkHandle,
    latest: &Preconfirmation,
    round: u64,
    lies: &mut Lies,
) {
    let now = unix_now();
    let window = plan.schedule.index(now);
    let Some((slot, turn)) = plan.window(window) else { return };
    let (key, salt) = match manner {
        Manner::Unelected(key) => (key, keccak256(format!("{} {round}", key.address()))),
        Manner::Elected | Manner::Silent => (&plan.liar, B256::left_padding_from(&round.to_be_bytes())),
    };
    let next = Preconfirmation {
        eop: false,
        block_number: latest.block_number.saturating_add(U256::from(1)),
        timestamp: U256::from(now.get()),
        submission_window_end: U256::from(slot.window.end.get()),
        raw_tx_list_hash: salt,
        parent_preconfirmation_hash: latest.hash(),
        ..latest.clone()
    };
    if turn == Turn::Liar && matches!(manner, Manner::Elected) {
        // Elected, and still: a parent that nobody knows, and a height that does not follow its parent.
        let orphan = Preconfirmation { parent_preconfirmation_hash: !salt, ..next.clone() };
        commitment(plan, key, network, orphan, lies).await;
        let skips = next.block_number.saturating_add(U256::from(2));
        commitment(plan, key, network, Preconfirmation { block_number: skips, ..next }, lies).await;
        return;
    }
    if window == 0 && !lies.commitments.is_empty() {
        return;
    }
    // Somebody else's window, as if it were elected.
    commitment(plan, key, network, next.clone(), lies).await;
    if window > 0 {
        // The same with a broken parent, a window that no schedule has, and a list that is another.
        let orphan = Preconfirmation { parent_preconfirmation_hash: !salt, ..next.clone() };
        commitment(plan, key, network, orphan, lies).await;
        let never = U256::from(slot.window.end.get() + 1);
        commitment(plan, key, network, Preconfirmation { submission_window_end: never, ..next }, lies).await;
        let forged =
            RawTxListGossip { raw_tx_list_hash: latest.raw_tx_list_hash, txlist: salt.to_vec().into() };
        lies.txlists.insert(keccak256(&forged.txlist));
        publish(network, Topic::RawTxLists, forged.to_ssz().into(), lies).await;
    }
}

async fn commitment(
    plan: &Plan,
    key: &SigningKey,
    network: &NetworkHandle,
    preconf: Preconfirmation,
    lies: &mut Lies,
) {
    lies.commitments.insert(preconf.hash());
    let signed = PreconfCommitment { preconf, slasher_address: plan.slasher }.sign(key, &plan.domain);
    publish(network, Topic::Commitments, signed.to_ssz().into(), lies).await;
}

async fn publish(network: &NetworkHandle, topic: Topic, ssz: Bytes, lies: &mut Lies) {
    match network.publish(topic, ssz).await {
        Ok(Published::Sent { .. } | Published::Queued) => lies.sent += 1,
        Ok(Published::Duplicate) | Err(_) => lies.refused += 1,
    }
}
