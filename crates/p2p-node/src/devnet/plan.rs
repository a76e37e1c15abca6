//! Keys and schedule of a devnet, derived from the seed and the clock.

use std::{num::NonZeroU64, sync::Arc};

use p2p_types::{Address, B256, Base, SigningDomain, SigningKey, UnixSeconds};
use p2p_validation::{RotatingSchedule, Slot, ValidationConfig};
use preconfirmation_p2p::Keypair;
use preconfirmation_types::keccak256;

use super::{args::DevnetArgs, error::DevnetError};

/// Whose turn a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The preconfer at this position makes blocks and hands over with the last one.
    Blocks(usize),
    /// The preconfer at this position hands over at once, without a block.
    Declines(usize),
    /// The liar's own window: it is elected, and breaks what only an elected preconfer can break.
    Liar,
}

/// The plan of one devnet.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) chain_id: u64,
    pub(crate) domain: SigningDomain,
    pub(crate) slasher: Address,
    pub(crate) base: Base,
    pub(crate) genesis: UnixSeconds,
    pub(crate) schedule: Arc<RotatingSchedule>,
    /// One each node but the late one.
    pub(crate) preconfers: Vec<SigningKey>,
    pub(crate) liar: SigningKey,
    seed: u64,
}

/// The liar has the second turn, so that there are real blocks to lie about.
const LIARS_TURN: usize = 1;

/// Of so many windows of honest preconfers, the last is declined.
const DECLINED: u64 = 5;

impl Plan {
    /// The schedule starts at `genesis`.
    pub(crate) fn new(args: &DevnetArgs, genesis: UnixSeconds) -> Result<Self, DevnetError> {
        let seed = args.seed;
        let preconfers = (0..args.nodes() - 1)
            .map(|node| signing_key(seed, "preconfer", node))
            .collect::<Result<Vec<_>, _>>()?;
        let liar = signing_key(seed, "liar", 0)?;
        let mut operators: Vec<Address> = preconfers.iter().map(SigningKey::address).collect();
        operators.insert(LIARS_TURN, liar.address());
        let base = Base { number: 1_000_000, hash: Some(secret(seed, "base", 0)) };
        Ok(Self {
            chain_id: args.chain_id,
            domain: SigningDomain::PLACEHOLDER,
            slasher: Address::from_word(keccak256("devnet slasher")),
            base,
            genesis,
            schedule: Arc::new(RotatingSchedule::new(operators, genesis, args.window)?),
            preconfers,
            liar,
            seed,
        })
    }

    pub(crate) fn validation(&self) -> ValidationConfig {
        ValidationConfig::new(self.domain, self.slasher)
    }

    /// The key of a liar that nobody has elected.
    pub(crate) fn unelected(&self, liar: usize) -> Result<SigningKey, DevnetError> {
        signing_key(self.seed, "unelected", liar)
    }

    /// So many of these, drawn by the seed, for a node.
    pub(crate) fn draw<T: Clone>(&self, node: usize, from: &[T], many: usize) -> Vec<T> {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (node as u64) << 32);
        rng.choose_multiple(from.iter().cloned(), many)
    }

    /// The network identity of a node.
    pub(crate) fn identity(&self, node: usize) -> Result<Keypair, DevnetError> {
        let mut secret = secret(self.seed, "identity", node).0;
        Keypair::ed25519_from_bytes(&mut secret).map_err(|_| DevnetError::Key)
    }

    pub(crate) fn operators(&self) -> Vec<Address> {
        let mut operators: Vec<Address> = self.preconfers.iter().map(SigningKey::address).collect();
        operators.insert(LIARS_TURN, self.liar.address());
        operators
    }

    /// The `index`-th window and what happens in it.
    pub(crate) fn window(&self, index: u64) -> Option<(Slot, Turn)> {
        let slot = self.schedule.nth(index)?;
        let operators = self.preconfers.len() as u64 + 1;
        let (round, position) = (index / operators, usize::try_from(index % operators).ok()?);
        if position == LIARS_TURN {
            return Some((slot, Turn::Liar));
        }
        let preconfer = position - usize::from(position > LIARS_TURN);
        let honest = round * self.preconfers.len() as u64 + preconfer as u64;
        let declines = honest % DECLINED == DECLINED - 1;
        Some((slot, if declines { Turn::Declines(preconfer) } else { Turn::Blocks(preconfer) }))
    }
}

fn secret(seed: u64, label: &str, index: usize) -> B256 {
    keccak256(format!("devnet {seed} {label} {index}"))
}

fn signing_key(seed: u64, label: &str, index: usize) -> Result<SigningKey, DevnetError> {
    SigningKey::from_bytes(secret(seed, label, index).0).map_err(|_| DevnetError::Key)
}

/// Seconds a window has, as long as the schedule exists.
pub(crate) const fn blocks_per_window(window: NonZeroU64, block_time: NonZeroU64) -> u64 {
    window.get() / block_time.get()
}
