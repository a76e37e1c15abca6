//! What a network is, from one TOML file: its chains, its contracts, its limits. `--network` names a file of this crate or
//! of the operator's.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
};

use alloy_primitives::FixedBytes;
use p2p_lookahead::{AnchorCall, Source};
use p2p_types::{Address, UnixSeconds};
use p2p_validation::L1Time;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::slasher::Slasher;
use crate::domain::Domain;

/// The files of this crate.
const BUILT_IN: [(&str, &str); 2] = [
    ("mainnet", include_str!("../../networks/mainnet.toml")),
    ("hoodi", include_str!("../../networks/hoodi.toml")),
];

/// What `--network` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NetworkSource {
    /// A file of this crate.
    BuiltIn(&'static str, &'static str),
    File(PathBuf),
}

impl FromStr for NetworkSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let built_in = BUILT_IN.into_iter().find(|(name, _)| *name == text);
        Ok(built_in.map_or_else(|| Self::File(text.into()), |(name, toml)| Self::BuiltIn(name, toml)))
    }
}

impl fmt::Display for NetworkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(name, _) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl NetworkSource {
    /// Reads it. Blocks on the disk, or until whoever writes into a pipe is done.
    pub(super) fn load(&self) -> Result<Preset, PresetError> {
        match self {
            Self::BuiltIn(_, toml) => Preset::parse(toml),
            Self::File(path) => Preset::parse(&fs::read_to_string(path)?),
        }
    }
}

/// Why a file describes no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PresetError {
    /// It cannot be read.
    #[error("{0}; `mainnet`, `hoodi` and files are networks")]
    Read(#[from] io::Error),
    /// It is no TOML, or a field is missing, unknown or of another type.
    #[error("{}", .0.to_string().trim_end())]
    Toml(#[from] toml::de::Error),
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preset {
    /// Of L2.
    pub(super) chain_id: u64,
    /// In topics and protocol ids; that of L2 if none.
    pub(super) p2p_chain_id: Option<u64>,
    /// Under which commitments are signed.
    #[serde(default, deserialize_with = "parsed")]
    pub(super) domain: Option<Domain>,
    /// Which commitments name.
    #[serde(default, deserialize_with = "parsed")]
    pub(super) slasher: Option<Slasher>,
    pub(super) l1: L1Chain,
    #[serde(default)]
    pub(super) l2: L2Rules,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// The L1 of a network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawL1Chain")]
pub(super) struct L1Chain {
    pub(super) chain_id: u64,
    pub(super) time: L1Time,
    pub(super) source: Source,
    /// Operators that sign commitments with another key than the whitelist names.
    pub(super) signers: BTreeMap<Address, Address>,
}

/// What the execution layer makes of a promised block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct L2Rules {
    /// Gas that is added to the promised limit for the anchor transaction; limits are not compared if none.
    pub(super) anchor_gas: Option<u64>,
    /// Where the anchor transaction names its L1 block; that number is not compared if none.
    pub(super) anchor_call: Option<AnchorRule>,
}

/// A function, and which of its words is the number of the L1 block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnchorRule {
    selector: FixedBytes<4>,
    word: usize,
}

impl From<AnchorRule> for AnchorCall {
    fn from(AnchorRule { selector, word }: AnchorRule) -> Self {
        Self { selector: selector.0, word }
    }
}

/// What a network allows; the protocol's defaults where it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// The largest transaction list.
    pub(super) max_txlist_bytes: Option<NonZeroUsize>,
}

/// `[l1]` as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawL1Chain {
    chain_id: u64,
    genesis: UnixSeconds,
    slot_seconds: NonZeroU64,
    slots_per_epoch: NonZeroU64,
    inbox: Option<Address>,
    lookahead: Option<Address>,
    #[serde(default)]
    signers: BTreeMap<Address, Address>,
}

impl TryFrom<RawL1Chain> for L1Chain {
    type Error = &'static str;

    fn try_from(raw: RawL1Chain) -> Result<Self, Self::Error> {
        let RawL1Chain { chain_id, genesis, slot_seconds, slots_per_epoch, inbox, lookahead, signers } = raw;
        let source = match (inbox, lookahead) {
            (Some(inbox), None) => Source::Inbox(inbox),
            (None, Some(contract)) => Source::Contract(contract),
            _ => return Err("exactly one of `inbox` and `lookahead` is needed"),
        };
        Ok(Self { chain_id, time: L1Time { genesis, slot_seconds, slots_per_epoch }, source, signers })
    }
}

/// A value as the command line has it.
fn parsed<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(D::Error::custom)
}

impl Preset {
    pub(super) fn parse(toml: &str) -> Result<Self, PresetError> {
        Ok(toml::from_str(toml)?)
    }
}

#[cfg(test)]
mod tests {
    use p2p_lookahead::L1Config;

    use super::*;

    const PRIVATE: &str = r#"
        chain_id = 7
        domain = "placeholder"
        slasher = "none"

        [l1]
        chain_id = 31337
        genesis = 1700000000
        slot_seconds = 1
        slots_per_epoch = 8
        lookahead = "0x3333333333333333333333333333333333333333"
        signers = { "0x0101010101010101010101010101010101010101" = "0x0202020202020202020202020202020202020202" }

        [l2]
        anchor_gas = 1000
        anchor_call = { selector = "0x01020304", word = 2 }
    "#;

    #[test]
    fn the_networks_of_this_crate_are_those_that_are_deployed() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        for (name, chain_id, l1, inbox) in [
            ("mainnet", 167_000, 1, "0x6f21C543a4aF5189eBdb0723827577e1EF57ef1f"),
            ("hoodi", 167_013, 560_048, "0xeF4bB7A442Bd68150A3aa61A6a097B86b91700BF"),
        ] {
            let source: NetworkSource = name.parse().unwrap();
            assert_eq!(source.to_string(), name);
            let preset = source.load().unwrap();
            assert_eq!((preset.chain_id, preset.p2p_chain_id), (chain_id, Some(167_000)));
            assert_eq!((preset.domain, preset.slasher), (None, None), "nobody has deployed them");
            assert_eq!(preset.l1.chain_id, l1);
            assert_eq!(preset.l1.time, L1Time::ethereum(L1Config::genesis_of(l1).unwrap()));
            assert_eq!(preset.l1.source, Source::Inbox(address(inbox)));
            assert_eq!(
                preset.limits.max_txlist_bytes.unwrap().get(),
                preconfirmation_types::MAX_TXLIST_BYTES
            );
        }
    }

    #[test]
    fn a_private_network_is_a_file_of_the_same_form() {
        let preset = Preset::parse(PRIVATE).unwrap();
        assert_eq!((preset.chain_id, preset.p2p_chain_id), (7, None));
        assert_eq!(preset.domain.unwrap().0, preconfirmation_types::SigningDomain::PLACEHOLDER);
        assert_eq!(preset.slasher.unwrap().0, Address::ZERO);
        assert_eq!(preset.l1.source, Source::Contract(Address::repeat_byte(0x33)));
        assert_eq!(preset.l1.time.slots_per_epoch.get(), 8);
        assert_eq!(preset.l1.signers[&Address::repeat_byte(1)], Address::repeat_byte(2));
        assert_eq!(preset.limits, Limits::default());
        let anchor_call = AnchorCall::from(preset.l2.anchor_call.unwrap());
        assert_eq!(
            (preset.l2.anchor_gas, anchor_call),
            (Some(1000), AnchorCall { selector: [1, 2, 3, 4], word: 2 })
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let inbox = "inbox = \"0x3333333333333333333333333333333333333333\"\nlookahead";
        for (from, to, words) in [
            ("chain_id = 7", "", "missing field `chain_id`"),
            ("slot_seconds = 1", "slot_seconds = 0", "nonzero"),
            ("0x01020304", "0x0102", "selector"),
            ("placeholder", "0x00", "32 bytes"),
            ("none", "nobody", "slasher"),
            ("genesis", "beginning", "unknown field `beginning`"),
            ("lookahead", inbox, "exactly one of `inbox` and `lookahead`"),
        ] {
            let error = Preset::parse(&PRIVATE.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(words), "{to}: {error}");
        }
        let missing = "no/such.toml".parse::<NetworkSource>().unwrap().load().unwrap_err().to_string();
        assert!(missing.contains("`mainnet`"), "{missing}");
    }
}
