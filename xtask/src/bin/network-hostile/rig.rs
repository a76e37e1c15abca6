//! Honest nodes, the traffic between them, and what arrives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use preconfirmation_p2p::{
    GossipMessage, InboundRequest, Keypair, Network, NetworkConfig, NetworkEvent, NetworkEvents,
    NetworkHandle, PeerId, Published, Verdict,
};
use preconfirmation_types::{
    B256, Container as _, GetCommitmentsByNumberResponse, GetRawTxListResponse, Offence, PreconfCommitment,
    PreconfHead, Preconfirmation, RawTxListGossip, Recovered, SignedCommitment, SigningDomain, SigningKey,
    Topic, U256,
};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const CHAIN: u64 = 167_000;

/// How long an honest message may still come after the last was sent.
const GRACE: Duration = Duration::from_secs(60);

/// Whose promises are honest.
pub(crate) fn preconfer() -> Result<SigningKey, Failure> {
    Ok(SigningKey::from_bytes([7; 32])?)
}

pub(crate) fn commitment(block: u64, key: &SigningKey) -> SignedCommitment {
    let preconf = Preconfirmation {
        block_number: U256::from(block),
        raw_tx_list_hash: B256::repeat_byte(1),
        ..Preconfirmation::default()
    };
    PreconfCommitment { preconf, ..PreconfCommitment::default() }.sign(key, &SigningDomain::PLACEHOLDER)
}

/// The list that every honest node has, of [`LIST_BYTES`].
pub(crate) const LARGE_LIST: B256 = B256::repeat_byte(0x1a);

/// What a node has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// When each honest commitment came, by block.
    pub(crate) honest: HashMap<u64, Instant>,
    /// How many commitments of others reached the check of their signature, by who sent them.
    pub(crate) invalid: HashMap<PeerId, u64>,
}

pub(crate) struct Node {
    pub(crate) handle: NetworkHandle,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Node {
    pub(crate) fn start() -> Result<Self, Failure> {
        Self::with(|_| ())
    }

    /// As [`Node::start`], with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut NetworkConfig)) -> Result<Self, Failure> {
        let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
        change(&mut config);
        let (handle, events, service) = Network::new(config)?;
        let seen = Arc::<Mutex<Seen>>::default();
        let running = tokio::spawn(async move {
            if let Err(error) = service.run().await {
                eprintln!("a node has failed: {error}");
            }
        });
        let judging = tokio::spawn(judge(events, Arc::clone(&seen), preconfer()?));
        Ok(Self { handle, seen, tasks: vec![running, judging] })
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn dial(&self, other: &Self) -> Result<(), Failure> {
        for address in other.handle.listen_addrs().await? {
            self.handle.dial(address).await?;
        }
        Ok(())
    }

    /// Waits until so many peers have subscribed to both topics.
    pub(crate) async fn meets(&self, peers: usize) -> Result<(), Failure> {
        loop {
            let known = self.handle.peers().await?;
            if known.iter().filter(|peer| peer.topics.len() == 2).count() >= peers {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The application of an honest node: checks signatures, answers requests.
async fn judge(mut events: NetworkEvents, seen: Arc<Mutex<Seen>>, honest: SigningKey) {
    while let Some(event) = events.next().await {
        match event {
            NetworkEvent::Gossip { from, message: GossipMessage::Commitment(ssz), verdict } => {
                let judged = match Recovered::from_ssz(&ssz, &SigningDomain::PLACEHOLDER) {
                    Ok(recovered) if recovered.signer() == honest.address() => Ok(recovered),
                    Ok(_) => Err(Offence::WrongSigner),
                    Err(_) => Err(Offence::BadSignature),
                };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                match judged {
                    Ok(recovered) => {
                        let block = recovered.signed().preconf().block_number.saturating_to();
                        seen.honest.entry(block).or_insert_with(Instant::now);
                        verdict.settle(Verdict::Accept);
                    }
                    Err(offence) => {
                        *seen.invalid.entry(from).or_default() += 1;
                        // Who is elected is no question to a relay.
                        verdict.settle(match offence {
                            Offence::WrongSigner => Verdict::RejectAuthor(offence),
                            offence => Verdict::Reject(offence),
                        });
                    }
                }
            }
            NetworkEvent::Gossip { verdict, .. } => verdict.settle(Verdict::Accept),
            NetworkEvent::Request { request, .. } => match request {
                InboundRequest::Head(responder) => responder.send(PreconfHead::default()),
                InboundRequest::Commitments(_, responder) => {
                    if let Ok(page) = GetCommitmentsByNumberResponse::new(Vec::new()) {
                        responder.send(page);
                    }
                }
                InboundRequest::TxList(request, responder) if request.raw_tx_list_hash == LARGE_LIST => {
                    responder.send(GetRawTxListResponse {
                        raw_tx_list_hash: LARGE_LIST,
                        txlist: vec![7; LIST_BYTES].into(),
                    });
                }
                InboundRequest::TxList(request, responder) => {
                    responder.send(GetRawTxListResponse::not_found(request.raw_tx_list_hash));
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// A large list.
const LIST_BYTES: usize = 1024 * 1024;

/// What an author publishes.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    pub(crate) every: Duration,
    /// A list of [`LIST_BYTES`] before every so manieth commitment.
    pub(crate) list_every: u64,
}

/// What became of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Delivered {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) p99: Duration,
}

/// Has the author publish, from this block on, and waits until all readers have all of it.
pub(crate) async fn deliver(
    author: &Node,
    readers: &[&Node],
    from: u64,
    load: Load,
) -> Result<Delivered, Failure> {
    let key = preconfer()?;
    let mut sent = HashMap::new();
    let mut tick = tokio::time::interval(load.every);
    for block in from..from + load.messages {
        tick.tick().await;
        if block % load.list_every == 0 {
            let mut txlist = vec![0; LIST_BYTES];
            txlist.iter_mut().zip(block.to_le_bytes()).for_each(|(to, from)| *to = from);
            let list = RawTxListGossip { raw_tx_list_hash: B256::repeat_byte(9), txlist: txlist.into() };
            let _published = author.handle.publish(Topic::RawTxLists, list.to_ssz().into()).await?;
        }
        sent.insert(block, Instant::now());
        let published = author.handle.publish(Topic::Commitments, commitment(block, &key).to_ssz().into());
        if let Published::Duplicate = published.await? {
            return Err("an honest message was known before".into());
        }
    }
    let missing = |reader: &Node| {
        let seen = reader.seen();
        sent.keys().filter(|block| !seen.honest.contains_key(block)).count() as u64
    };
    let all_there = async {
        while readers.iter().any(|reader| missing(reader) > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What has not come by then counts as lost.
    drop(tokio::time::timeout(GRACE, all_there).await);
    let mut took = Vec::new();
    for reader in readers {
        let seen = reader.seen();
        let came = sent.iter().filter_map(|(block, at)| Some(seen.honest.get(block)?.duration_since(*at)));
        took.extend(came);
    }
    took.sort_unstable();
    Ok(Delivered {
        sent: load.messages * readers.len() as u64,
        lost: readers.iter().map(|reader| missing(reader)).sum(),
        p99: took.get(took.len() * 99 / 100).copied().unwrap_or_default(),
    })
}
