//! L1, followed for the schedule and for the client: its head, its reorgs, and changes of the schedule.

use std::{path::PathBuf, sync::Arc, time::Duration};

use p2p_client::{P2pClient, P2pClientError};
use p2p_lookahead::{L1Config, L1Error, L1Event, L1Lookahead};
use p2p_types::UnixSeconds;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinSet,
    time::sleep,
};
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
        let config = L1Config { data_dir, ..config(chain, endpoints) };
        let (lookahead, service) = L1Lookahead::start(config).map_err(RunError::L1Config)?;
        let events = lookahead.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run());
        Ok(Self { lookahead, events, service: tasks })
    }

    /// Tells the client of L1's head, of its reorgs, and of changes of the schedule, until one of the two fails.
    pub(super) async fn follow(mut self, client: &P2pClient) -> Result<(), RunError> {
        let chain = client.chain();
        // What is in the store may be of a schedule that L1 has changed while the node was down.
        let mut changed = Some(UnixSeconds::default());
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
                Ok(L1Event::Head(head)) => {
                    chain.update_l1_head(head.number).await?;
                    if let Some(since) = changed.take() {
                        drop(until_taken(|| chain.notify_schedule_changed(since)).await?);
                    }
                }
                // Log and events of the client tell what it has changed.
                Ok(L1Event::Reorg { lowest }) => drop(until_taken(|| chain.notify_reorg(lowest)).await?),
                // The head comes after this, so that what has changed is judged by all that is known by then.
                Ok(L1Event::Changed { from }) => {
                    changed = Some(changed.map_or(from, |since| since.min(from)));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        missed,
                        "events of L1 were lost: the schedule is judged anew, which anchors were replaced is not known"
                    );
                    changed = Some(UnixSeconds::default());
                }
                Err(RecvError::Closed) => return Err(RunError::Died("follower of L1")),
            }
        }
    }
}

/// Between two tries to tell the client something that its store cannot take for now.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until the client's store has done it, or has failed for good.
async fn until_taken<T, F: Future<Output = Result<T, P2pClientError>>>(
    ask: impl Fn() -> F,
) -> Result<T, P2pClientError> {
    loop {
        match ask().await {
            Err(error) if error.is_retryable() => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}
