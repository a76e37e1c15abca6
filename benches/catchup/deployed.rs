//! Servers with the deployed limit: eight requests in ten seconds per peer and protocol, the ninth refused.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use p2p_storage::{CommitmentStore, MemoryStorage, TxListStore};
use preconfirmation_p2p::{InboundRequest, Keypair, Multiaddr, Network, NetworkConfig, NetworkEvent};
use preconfirmation_types::{GetCommitmentsByNumberResponse, GetRawTxListResponse, PreconfHead, U256};

use crate::{Failed, chain::CHAIN};

const ALLOWED: u32 = 8;
const WINDOW: Duration = Duration::from_secs(10);

/// Serves a store within that limit, for ever; counts what it refuses. Returns where.
pub(crate) async fn serve(store: Arc<MemoryStorage>, refused: Arc<AtomicU64>) -> Result<Multiaddr, Failed> {
    let mut config = NetworkConfig::local(CHAIN, Keypair::generate_ed25519());
    config.serving.advertise = false;
    config.serving.requests = std::num::NonZeroU32::MAX;
    config.serving.bytes = std::num::NonZeroUsize::MAX;
    let (handle, mut events, service) = Network::new(config)?;
    tokio::spawn(service.run());
    let address = handle.listen_addrs().await?.into_iter().next().ok_or("no address")?;
    let begun = Instant::now();
    tokio::spawn(async move {
        // The service ends with its last handle.
        let _kept = handle;
        let mut windows = HashMap::new();
        while let Some(event) = events.next().await {
            let NetworkEvent::Request { from, request } = event else { continue };
            let window = begun.elapsed().as_secs() / WINDOW.as_secs();
            let asked = windows.entry((from, std::mem::discriminant(&request))).or_insert((window, 0_u32));
            if asked.0 != window {
                *asked = (window, 0);
            }
            asked.1 += 1;
            if asked.1 > ALLOWED {
                refused.fetch_add(1, Ordering::Relaxed);
                // Dropped: its stream closes without a byte.
                continue;
            }
            if answer(&store, request).is_err() {
                return;
            }
        }
    });
    Ok(address)
}

fn answer(store: &MemoryStorage, request: InboundRequest) -> Result<(), Failed> {
    match request {
        InboundRequest::Head(responder) => {
            let number = store.head()?.map_or(0, |head| head.number);
            responder.send(PreconfHead { block_number: U256::from(number), ..Default::default() });
        }
        InboundRequest::Commitments(asked, responder) => {
            let limit = usize::try_from(asked.max_count)?;
            let found = store.range(u64::try_from(asked.start_block_number)?, limit)?;
            let page = found.iter().map(|stored| stored.recovered.signed().clone()).collect();
            responder.send(GetCommitmentsByNumberResponse::new(page)?);
        }
        InboundRequest::TxList(asked, responder) => {
            let hash = asked.raw_tx_list_hash;
            responder
                .send(store.get(&hash)?.map_or_else(|| GetRawTxListResponse::not_found(hash), Into::into));
        }
        _ => {}
    }
    Ok(())
}
