//! What the schedule needs to know before it can ask.

use std::{
    collections::BTreeMap,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use alloy_primitives::Address;
use p2p_types::UnixSeconds;
use p2p_validation::L1Time;
use url::Url;

use crate::{
    ConfigError,
    rpc::{Layer, PoolConfig},
};

/// Where the lookahead contract is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The network's inbox, whose configuration names the lookahead contract.
    Inbox(Address),
    /// The lookahead contract itself: the whitelist, or a store.
    Contract(Address),
}

/// How L1 is followed.
#[derive(Debug, Clone)]
pub struct L1Config {
    /// Endpoints in the order of preference: `http`, `https`, `ws`, `wss`.
    pub endpoints: Vec<Url>,
    /// The chain that they must be on.
    pub chain_id: u64,
    /// Genesis, slots and epochs of that chain.
    pub time: L1Time,
    /// Where the contracts are.
    pub source: Source,
    /// Whitelist operators that sign commitments with another key than the whitelist names: by the address that it names.
    pub signers: BTreeMap<Address, Address>,
    /// Where what was learned outlives the process; nowhere if none.
    pub data_dir: Option<PathBuf>,
    /// How long a call may take. 5 s.
    pub call_timeout: Duration,
    /// How often an endpoint without subscriptions is asked for its head. 4 s.
    pub poll_interval: Duration,
    /// How long an endpoint may be without a new block before another one is tried. 36 s, three slots.
    pub silence: Duration,
    /// Epochs before the present one that are learned when somebody asks for them. 1,575: a week.
    pub history: NonZeroU64,
    /// Blocks that a query for logs spans at first; halved whenever an endpoint refuses it. 1,000.
    pub log_range: NonZeroU64,
    /// Past epochs that may wait to be learned. Full: the oldest question stays, a new one is asked again by whoever needs
    /// it. 256.
    pub waiting_epochs: NonZeroUsize,
}

impl L1Config {
    /// What suits a chain with Ethereum's slots and epochs.
    #[must_use]
    pub fn recommended(endpoints: Vec<Url>, chain_id: u64, genesis: UnixSeconds, source: Source) -> Self {
        let nz = |n| NonZeroU64::new(n).unwrap_or(NonZeroU64::MIN);
        Self {
            endpoints,
            chain_id,
            time: L1Time::ethereum(genesis),
            source,
            signers: BTreeMap::new(),
            data_dir: None,
            call_timeout: Duration::from_secs(5),
            poll_interval: Duration::from_secs(4),
            silence: Duration::from_secs(36),
            history: nz(7 * 24 * 3600 / 384),
            log_range: nz(1_000),
            waiting_epochs: NonZeroUsize::new(256).unwrap_or(NonZeroUsize::MIN),
        }
    }

    /// First second of a known chain's beacon genesis: mainnet, Holesky, Hoodi, Helder.
    #[must_use]
    pub const fn genesis_of(chain_id: u64) -> Option<UnixSeconds> {
        match chain_id {
            1 => Some(UnixSeconds::new(1_606_824_023)),
            17_000 => Some(UnixSeconds::new(1_695_902_400)),
            560_048 => Some(UnixSeconds::new(1_742_213_400)),
            7_014_190_335 => Some(UnixSeconds::new(1_718_967_660)),
            _ => None,
        }
    }

    /// The endpoints of it.
    pub(crate) fn pool(&self) -> PoolConfig<'_> {
        PoolConfig {
            layer: Layer::L1,
            endpoints: &self.endpoints,
            chain_id: self.chain_id,
            call_timeout: self.call_timeout,
            poll_interval: self.poll_interval,
            silence: self.silence,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.pool().check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> L1Config {
        let source = Source::Contract(Address::ZERO);
        L1Config::recommended(vec![url.parse().unwrap()], 1, UnixSeconds::new(0), source)
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for url in ["http://a", "https://a", "ws://a", "wss://a"] {
            assert_eq!(config(url).check(), Ok(()));
        }
        assert_eq!(config("ftp://a").check(), Err(ConfigError::Scheme { scheme: "ftp".into() }));
        let none = L1Config { endpoints: vec![], ..config("http://a") };
        assert_eq!(none.check(), Err(ConfigError::NoEndpoints));
        type Field = fn(&mut L1Config) -> &mut Duration;
        let fields: [(&str, Field); 3] = [
            ("call_timeout", |c| &mut c.call_timeout),
            ("poll_interval", |c| &mut c.poll_interval),
            ("silence", |c| &mut c.silence),
        ];
        for (field, of) in fields {
            let mut config = config("http://a");
            *of(&mut config) = Duration::ZERO;
            assert_eq!(config.check(), Err(ConfigError::Zero { field }));
        }
        let mut config = config("http://a");
        config.silence = config.poll_interval;
        assert_eq!(config.check(), Ok(()));
        config.silence -= Duration::from_millis(1);
        assert!(matches!(config.check(), Err(ConfigError::SilenceBelowPoll { .. })));
    }

    #[test]
    fn known_chains_have_their_genesis() {
        let known = [1, 17_000, 560_048, 7_014_190_335].map(L1Config::genesis_of);
        let seconds = known.map(|genesis| genesis.unwrap().get());
        assert_eq!(seconds, [1_606_824_023, 1_695_902_400, 1_742_213_400, 1_718_967_660]);
        assert_eq!(L1Config::genesis_of(31_337), None);
    }
}
