//! L1, followed for the schedule and for the client: its head, its reorgs, and changes of the schedule.

use std::{path::PathBuf, sync::Arc};

use p2p_client::P2pClient;
use p2p_lookahead::{L1Config, L1Error, L1Lookahead, L1Updates};
use tokio::task::JoinSet;
use url::Url;

use super::{error::RunError, preset::L1Chain};

fn config(chain: L1Chain, endpoints: Vec<Url>) -> L1Config {
    let L1Chain { chain_id, time, source, signers } = chain;
    L1Config { time, signers, ..L1Config::recommended(endpoints, chain_id, time.genesis, source) }
}

/// Whether a network's L1 can be followed by way of these endpoints. None of them is asked.
pub(super) fn check(chain: L1Chain, endpoints: Vec<Url>) -> Result<(), RunError> {
    // Nothing is learned before the service runs.
    L1Lookahead::start(config(chain, endpoints)).map(drop).map_err(RunError::L1Config)
}

/// L1, as its endpoints tell of it. Followed from the start until this is dropped.
pub(super) struct L1 {
    pub(super) lookahead: Arc<L1Lookahead>,
    updates: L1Updates,
    service: JoinSet<Result<(), L1Error>>,
}

impl L1 {
    /// Begins to follow a network's L1.
    pub(super) fn start(
        chain: L1Chain,
        endpoints: Vec<Url>,
        data_dir: Option<PathBuf>,
    ) -> Result<Self, RunError> {
        let config = L1Config { data_dir, ..config(chain, endpoints) };
        let (lookahead, service) = L1Lookahead::start(config).map_err(RunError::L1Config)?;
        let updates = lookahead.updates();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run());
        Ok(Self { lookahead, updates, service: tasks })
    }

    /// Tells the client of L1's head, of its reorgs, and of changes of the schedule, until one of the two fails.
    pub(super) async fn follow(mut self, client: &P2pClient) -> Result<(), RunError> {
        let chain = client.chain();
        tokio::select! {
            biased;
            ended = self.service.join_next() => match ended {
                Some(Ok(Err(error))) => Err(RunError::L1(error)),
                _ => Err(RunError::Died("follower of L1")),
            },
            ended = chain.follow_l1(self.updates) => {
                ended?;
                Err(RunError::Died("follower of L1"))
            }
        }
    }
}
