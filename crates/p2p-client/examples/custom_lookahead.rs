//! A schedule of your own: the application learns from L1 who is elected, and tells it while the client runs.
//!
//! `cargo run -p p2p-client --example custom_lookahead`

mod support;

use std::sync::{Arc, PoisonError, RwLock};

use p2p_client::{Lookahead, LookaheadError, P2pClient, SdkEvent, Slot, UnixSeconds};
use support::{BASE, Outcome, config, publisher, schedule};

/// What has been learned so far.
#[derive(Default)]
struct Learned {
    slots: RwLock<Vec<Slot>>,
}

impl Learned {
    fn learn(&self, slot: Slot) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).push(slot);
    }
}

impl Lookahead for Learned {
    /// On the hot path: answers from memory. `None` says that it is not known yet, and what asks waits; nobody is
    /// penalised for that.
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        Ok(slots.iter().find(|slot| slot.window.contains(moment)).copied())
    }
}

pub(crate) async fn run() -> Outcome {
    let peer = publisher(1).await?;
    let config = config().with_static_peers(peer.network().listen_addrs().await?);

    let learned = Arc::new(Learned::default());
    let client = P2pClient::start(config, learned.clone()).await?;
    let mut events = client.subscribe();
    client.chain().l2_synced(BASE).await?;
    client.network().wait_for_peers(1).await?;
    println!("{}: nobody is known to be elected", client.status());

    // L1 has told.
    learned.learn(schedule()?.nth(0).ok_or("no slot")?);
    while let Some(event) = events.next_event().await? {
        if let SdkEvent::Commitment { block, commitment, .. } = event {
            println!("block {block} by {}", commitment.signer());
            break;
        }
    }
    client.shutdown().await?;
    peer.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    run().await
}
