//! Which chain a node is on: what the command line says, and for the rest what the network's file says.

use std::{num::NonZeroUsize, time::Duration};

use p2p_types::{Address, SigningDomain};
use p2p_validation::ValidationConfig;

use super::{
    args::RunArgs,
    error::RunError,
    preset::{L1Chain, L2Rules, Preset},
};

/// The chain id of Taiko's mainnet.
const MAINNET: u64 = 167_000;

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Of L2.
    pub(super) id: u64,
    /// In topics and protocol ids.
    pub(super) p2p_id: u64,
    pub(super) domain: SigningDomain,
    pub(super) slasher: Address,
    /// None without `--network`.
    pub(super) l1: Option<L1Chain>,
    pub(super) l2: L2Rules,
    /// None for the protocol's.
    pub(super) max_txlist_bytes: Option<NonZeroUsize>,
}

impl Chain {
    /// What the options say goes before what the file says.
    pub(super) fn new(args: &RunArgs, preset: Option<Preset>) -> Result<Self, RunError> {
        let of = preset.as_ref();
        let id = args.chain_id.or(of.map(|preset| preset.chain_id)).unwrap_or(MAINNET);
        let missing = |option, placeholder| {
            let network = args.network.as_ref().map(ToString::to_string).unwrap_or_default();
            RunError::Unnamed { network, option, placeholder }
        };
        let domain = args.domain.or(of.and_then(|preset| preset.domain));
        let slasher = args.slasher.or(of.and_then(|preset| preset.slasher));
        Ok(Self {
            id,
            // Where the command line names another chain, the file's is not meant.
            p2p_id: args
                .p2p_chain_id
                .or(of.filter(|_| args.chain_id.is_none()).and_then(|preset| preset.p2p_chain_id))
                .unwrap_or(id),
            domain: domain.ok_or_else(|| missing("--domain", "placeholder"))?.0,
            slasher: slasher.ok_or_else(|| missing("--slasher", "none"))?.0,
            max_txlist_bytes: of.and_then(|preset| preset.limits.max_txlist_bytes),
            l2: of.map(|preset| preset.l2).unwrap_or_default(),
            l1: preset.map(|preset| preset.l1),
        })
    }

    /// The rules of this chain.
    pub(super) fn rules(&self) -> ValidationConfig {
        let mut rules = ValidationConfig::new(self.domain, self.slasher);
        if let Some(L1Chain { time, .. }) = &self.l1 {
            let slot = Duration::from_secs(time.slot_seconds.get());
            let slots = u32::try_from(time.slots_per_epoch.get()).unwrap_or(u32::MAX);
            rules.slot = slot;
            // The end of the next epoch is never further away.
            rules.horizon = slot.saturating_mul(slots).saturating_mul(2);
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::run::preset::NetworkSource;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: RunArgs,
    }

    fn chain(options: &[&str]) -> Result<Chain, RunError> {
        let cli = Cli::try_parse_from(["run", "--lookahead", "open"].iter().chain(options)).unwrap();
        let preset = cli.args.network.as_ref().map(|network: &NetworkSource| network.load().unwrap());
        Chain::new(&cli.args, preset)
    }

    const NAMED: [&str; 4] = ["--domain", "placeholder", "--slasher", "none"];

    #[test]
    fn options_go_before_the_networks_file() {
        let hoodi = ["--network", "hoodi"];
        let ids = |more: &[&str]| {
            let chain = chain(&[&NAMED[..], more].concat()).unwrap();
            (chain.id, chain.p2p_id)
        };
        assert_eq!(ids(&[]), (167_000, 167_000));
        assert_eq!(ids(&["--chain-id", "7"]), (7, 7));
        assert_eq!(ids(&["--chain-id", "7", "--p2p.chain-id", "8"]), (7, 8));
        assert_eq!(ids(&hoodi), (167_013, 167_000));
        assert_eq!(ids(&[&hoodi[..], &["--p2p.chain-id", "8"]].concat()), (167_013, 8));
        assert_eq!(ids(&[&hoodi[..], &["--chain-id", "7"]].concat()), (7, 7));
    }

    #[test]
    fn a_network_without_domain_or_slasher_takes_no_placeholder_by_itself() {
        for (given, option, name) in [
            (["--slasher", "none"], "--domain", "placeholder"),
            (["--domain", "placeholder"], "--slasher", "none"),
        ] {
            let error = chain(&[&["--network", "hoodi"][..], &given].concat()).unwrap_err().to_string();
            assert!(error.contains("hoodi") && error.contains(&format!("{option} {name}")), "{error}");
        }
        for given in [["--slasher", "none"], ["--domain", "placeholder"]] {
            let given = ["run", "--lookahead", "open"].iter().chain(&given);
            assert!(Cli::try_parse_from(given).is_err(), "without a network both are needed");
        }
    }

    #[test]
    fn the_rules_follow_the_networks_slots_and_epochs() {
        let chain = chain(&[&NAMED[..], &["--network", "hoodi"]].concat()).unwrap();
        assert_eq!(chain.rules(), ValidationConfig::new(SigningDomain::PLACEHOLDER, Address::ZERO));
        let mut short = chain;
        short.l1.as_mut().unwrap().time.slot_seconds = std::num::NonZeroU64::MIN;
        assert_eq!(short.rules().slot, Duration::from_secs(1));
        assert_eq!(short.rules().horizon, Duration::from_secs(64));
    }
}
