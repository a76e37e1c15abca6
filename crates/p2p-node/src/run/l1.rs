//! L1, followed for the schedule and for the client: its head and its reorgs.

use std::{path::PathBuf, sync::Arc};

use p2p_client::P2pClient;
use p2p_lookahead::{L1Config, L1Error, L1Event, L1Lookahead};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinSet,
};
use url::Url;

use super::{error::RunError, preset::L1Chain};

/// L1, as its endpoints tell of it. Followed from the start until this is dropped.
pub(super) struct L1 {
    pub(super) lookahead: Arc<L1Lookahead>,
    events: Receiver<L1Event>,
    service: JoinSet<Result<(), L1Error>>,
}

impl L1 {
    /// Begins to follow a network's L1.
    pub(super) fn start(
        chain: L1Chain,
        endpoints: Vec<Url>,
        data_dir: Option<PathBuf>,
    ) -> Result<Self, RunError> {
        let L1Chain { chain_id, time, source, signers } = chain;
        let config = L1Config {
            time,
            signers,
            data_dir,
            ..L1Config::recommended(endpoints, chain_id, time.genesis, source)
        };
        let (lookahead, service) = L1Lookahead::start(config).map_err(RunError::L1Config)?;
        let events = lookahead.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run());
        Ok(Self { lookahead, events, service: tasks })
    }

    /// Tells the client of L1's head and reorgs, until one of the two fails.
    pub(super) async fn follow(mut self, client: &P2pClient) -> Result<(), RunError> {
        loop {
            let event = tokio::select! {
                biased;
                ended = self.service.join_next() => return Err(match ended {
                    Some(Ok(Err(error))) => RunError::L1(error),
                    _ => RunError::Died("follower of L1"),
                }),
                event = self.events.recv() => event,
            };
            match event {
                Ok(L1Event::Head(head)) => client.chain().update_l1_head(head.number).await?,
                // Log and events tell what it has changed.
                Ok(L1Event::Reorg { lowest }) => drop(client.chain().notify_reorg(lowest).await?),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "events of L1 were lost; a reorg among them is not known");
                    if let Some(head) = self.lookahead.status().head {
                        client.chain().update_l1_head(head.number).await?;
                    }
                }
                Err(RecvError::Closed) => return Err(RunError::Died("follower of L1")),
            }
        }
    }
}
