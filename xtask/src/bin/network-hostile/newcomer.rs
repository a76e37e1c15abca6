//! Whether somebody new is served in the middle of an attack.

use std::time::{Duration, Instant};

use preconfirmation_p2p::NetworkHandle;
use preconfirmation_types::{
    B256, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetHead, GetHeadRequest, GetRawTxList,
    GetRawTxListRequest, U256,
};

use crate::rig::{Failure, Node};

/// How long a newcomer tries.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Has a new node connect to another and ask for its head, a page and a list, again where it fails. How long that takes, at
/// most [`PATIENCE`].
pub(crate) async fn joins(known: NetworkHandle) -> Result<Duration, Failure> {
    let newcomer = Node::start()?;
    let (peer, start) = (known.local_peer_id(), Instant::now());
    let address = known.listen_addrs().await?.remove(0);
    let served = async {
        loop {
            if newcomer.handle.dial(address.clone()).await.is_ok() && asks(&newcomer.handle, peer).await {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // Whoever is not served has waited for so long.
    drop(tokio::time::timeout(PATIENCE, served).await);
    Ok(start.elapsed())
}

async fn asks(newcomer: &NetworkHandle, peer: preconfirmation_p2p::PeerId) -> bool {
    let page = GetCommitmentsByNumberRequest { start_block_number: U256::from(1), max_count: 8 };
    let list = GetRawTxListRequest { raw_tx_list_hash: B256::repeat_byte(9) };
    newcomer.request::<GetHead>(peer, GetHeadRequest {}).await.is_ok()
        && newcomer.request::<GetCommitmentsByNumber>(peer, page).await.is_ok()
        && newcomer.request::<GetRawTxList>(peer, list).await.is_ok()
}
