//! L2, followed for the client: what the contracts have settled, and which promises were kept.

use std::collections::BTreeMap;

use p2p_client::{P2pClient, PromiseCounts, PromiseStats};
use p2p_lookahead::{L2Config, L2Follower, L2Handle};
use p2p_types::{Address, BlockNumber, Breach};
use serde::Serialize;
use url::Url;

use super::{error::RunError, preset::L2Rules};

/// L2, as its endpoints tell of it.
pub(super) struct L2 {
    pub(super) handle: L2Handle,
    follower: L2Follower,
}

impl L2 {
    /// None without endpoints. Nothing is asked before [`follow`](Self::follow).
    pub(super) fn new(endpoints: Vec<Url>, chain_id: u64, rules: L2Rules) -> Result<Option<Self>, RunError> {
        if endpoints.is_empty() {
            return Ok(None);
        }
        let config = L2Config {
            anchor_gas: rules.anchor_gas,
            anchor_call: rules.anchor_call.map(Into::into),
            ..L2Config::recommended(endpoints, chain_id)
        };
        let (handle, follower) = L2Follower::new(config).map_err(RunError::L2Config)?;
        Ok(Some(Self { handle, follower }))
    }

    /// Moves the client's base as the contracts settle blocks, until the client fails.
    pub(super) async fn follow(self, client: &P2pClient) -> Result<(), RunError> {
        client.chain().follow_l2(self.follower).await?;
        Err(RunError::Died("follower of L2"))
    }
}

/// Broken promises that `/status` has, the newest.
const SHOWN: usize = 16;

/// Which promises were kept, as `/status` has it.
#[derive(Debug, Serialize)]
pub(super) struct Promises {
    #[serde(flatten)]
    total: Counts,
    /// Settled blocks that nobody is known to have promised.
    unpromised: u64,
    /// Blocks of the chain that should have been settled.
    overdue: usize,
    signers: BTreeMap<Address, Counts>,
    /// The newest broken promises, oldest first.
    last_broken: Vec<Broken>,
}

/// What became of the promises of one signer, or of all.
#[derive(Debug, Serialize)]
struct Counts {
    kept: u64,
    broken: u64,
    /// As far as could be compared they were kept.
    unproven: u64,
    /// Of all these, settled late.
    late: u64,
}

impl From<PromiseCounts> for Counts {
    fn from(PromiseCounts { kept, broken, unproven, late, .. }: PromiseCounts) -> Self {
        Self { kept, broken, unproven, late }
    }
}

/// A broken promise.
#[derive(Debug, Serialize)]
struct Broken {
    block: BlockNumber,
    signer: Address,
    reason: &'static str,
    breach: Breach,
}

impl From<&PromiseStats> for Promises {
    fn from(stats: &PromiseStats) -> Self {
        let newest = stats.broken.iter().skip(stats.broken.len().saturating_sub(SHOWN));
        let broken = newest.map(|broken| Broken {
            block: broken.settled.number,
            signer: broken.commitment.signer(),
            reason: broken.breach.reason(),
            breach: broken.breach,
        });
        Self {
            total: stats.total.into(),
            unpromised: stats.unpromised,
            overdue: stats.overdue,
            signers: stats.signers.iter().map(|(signer, counts)| (*signer, (*counts).into())).collect(),
            last_broken: broken.collect(),
        }
    }
}
