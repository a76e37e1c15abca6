//! What all methods share.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use p2p_client::{Address, P2pClient};
use tokio::sync::Semaphore;

use crate::Host;

/// Subscriptions of all connections together: each can hold some megabytes of blocks that its subscriber has not taken.
const SUBSCRIPTIONS: usize = 64;

/// Signers that are remembered. A node publishes for one, or for a few whose keys are being changed.
const SIGNERS: usize = 64;

/// The client that is served, and what the server itself knows.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) client: P2pClient,
    pub(crate) version: String,
    /// The chain id of L2, where it is known.
    pub(crate) chain_id: Option<u64>,
    /// The program around the server.
    pub(crate) host: Option<Arc<dyn Host>>,
    pub(crate) subscriptions: Arc<Semaphore>,
    /// Who has published here since the start, the latest last.
    signers: Mutex<VecDeque<Address>>,
}

impl Node {
    pub(crate) fn new(
        client: P2pClient,
        version: String,
        chain_id: Option<u64>,
        host: Option<Arc<dyn Host>>,
    ) -> Self {
        let subscriptions = Arc::new(Semaphore::new(SUBSCRIPTIONS));
        Self { client, version, chain_id, host, subscriptions, signers: Mutex::default() }
    }

    /// A commitment of this signer has been published.
    pub(crate) fn on_published(&self, signer: Address) {
        let mut signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        if signers.back() != Some(&signer) {
            signers.retain(|known| *known != signer);
            if signers.len() == SIGNERS {
                signers.pop_front();
            }
            signers.push_back(signer);
        }
    }

    /// Whether this signer has published here.
    pub(crate) fn publishes_for(&self, signer: Address) -> bool {
        self.signers.lock().unwrap_or_else(PoisonError::into_inner).contains(&signer)
    }
}
