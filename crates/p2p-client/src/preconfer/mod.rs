//! [`Preconfer`]: a client that signs. It knows whose turn it is, builds the next commitment on the head, has it judged and
//! recorded, and only then asks for a signature.

mod error;
mod propose;
mod readiness;
mod turns;

use std::{fmt, sync::Arc, time::Duration};

use alloy_signer::Signer;
use p2p_types::{Address, UnixSeconds};
use p2p_validation::{LookaheadError, Window};

use crate::{P2pClient, client::Inner};

pub use error::ProposeError;
pub use propose::{BlockFields, Proposed};
pub use readiness::NotReady;
pub use turns::{Turn, Turns};

/// How long a signer may take, unless told otherwise.
const SIGNING_TIMEOUT: Duration = Duration::from_secs(2);

/// A preconfer: proposes blocks in the turns of one signer and hands over. See [`P2pClient::preconfer`]. A clone is another
/// handle of the same preconfer.
///
/// Height, parent, window, slasher, signing domain and the hash of the list are not the caller's to give. They cannot be
/// given at all:
///
/// ```compile_fail,E0560
/// # use p2p_client::{Address, preconfer::BlockFields, UnixSeconds};
/// let fields = BlockFields { block_number: 7, ..BlockFields::at(UnixSeconds::new(1)) };
/// ```
/// ```compile_fail,E0560
/// # use p2p_client::{B256, preconfer::BlockFields, UnixSeconds};
/// let fields = BlockFields { parent_preconfirmation_hash: B256::ZERO, ..BlockFields::at(UnixSeconds::new(1)) };
/// ```
/// ```compile_fail,E0560
/// # use p2p_client::{preconfer::BlockFields, UnixSeconds};
/// let fields = BlockFields { submission_window_end: 7, ..BlockFields::at(UnixSeconds::new(1)) };
/// ```
/// ```compile_fail,E0560
/// # use p2p_client::{Address, preconfer::BlockFields, UnixSeconds};
/// let fields = BlockFields { slasher_address: Address::ZERO, ..BlockFields::at(UnixSeconds::new(1)) };
/// ```
/// ```compile_fail,E0560
/// # use p2p_client::{preconfer::BlockFields, SigningDomain, UnixSeconds};
/// let fields = BlockFields { domain: SigningDomain::PLACEHOLDER, ..BlockFields::at(UnixSeconds::new(1)) };
/// ```
/// ```compile_fail,E0560
/// # use p2p_client::{B256, preconfer::BlockFields, UnixSeconds};
/// let fields = BlockFields { raw_tx_list_hash: B256::ZERO, ..BlockFields::at(UnixSeconds::new(1)) };
/// ```
///
/// What can be given compiles:
///
/// ```
/// # use p2p_client::{preconfer::BlockFields, UnixSeconds};
/// let fields = BlockFields { gas_limit: 30_000_000, ..BlockFields::at(UnixSeconds::new(1)) };
/// ```
#[derive(Clone)]
pub struct Preconfer {
    client: Arc<Inner>,
    signer: Arc<dyn Signer + Send + Sync>,
    address: Address,
    signing_timeout: Duration,
}

impl P2pClient {
    /// A preconfer that signs with `signer`: a local key, a keystore, or a key service of a cloud, whatever implements alloy's
    /// `Signer`. It is asked for signatures of hashes ([`Signer::sign_hash`]) alone.
    ///
    /// The client must publish ([`P2pClientConfig::publishing`](crate::P2pClientConfig::publishing)). Where several nodes use
    /// the key, they need one [guard](crate::P2pClientConfig::with_guard).
    #[must_use]
    pub fn preconfer(&self, signer: impl Signer + Send + Sync + 'static) -> Preconfer {
        let address = signer.address();
        let (client, signer) = (self.inner.clone(), Arc::new(signer));
        Preconfer { client, signer, address, signing_timeout: SIGNING_TIMEOUT }
    }
}

impl Preconfer {
    /// How long the signer may take: 2 s unless told otherwise. A signature that comes later is dropped.
    #[must_use]
    pub const fn with_signing_timeout(mut self, timeout: Duration) -> Self {
        self.signing_timeout = timeout;
        self
    }

    /// Whose promises these are: the signer's address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Our window at a moment; none if it is somebody else's turn, or if the schedule does not tell.
    ///
    /// # Errors
    /// [`LookaheadError`].
    pub fn turn_at(&self, moment: UnixSeconds) -> Result<Option<Window>, LookaheadError> {
        turns::turn_at(self.client.requester.validator.lookahead(), self.address, moment)
    }

    /// Whether a moment is in a window of ours.
    ///
    /// # Errors
    /// [`LookaheadError`].
    pub fn is_my_turn(&self, moment: UnixSeconds) -> Result<bool, LookaheadError> {
        Ok(self.turn_at(moment)?.is_some())
    }

    /// Our present window, or the next one; none as far as the schedule is known.
    ///
    /// # Errors
    /// [`LookaheadError`].
    pub fn next_turn(&self) -> Result<Option<Window>, LookaheadError> {
        let lookahead = self.client.requester.validator.lookahead();
        turns::next_turn(lookahead, self.address, self.client.clock.now())
    }

    /// Our turns as they begin and end, from the present one on.
    #[must_use]
    pub fn turns(&self) -> Turns {
        Turns::new(self.clone())
    }
}

impl fmt::Debug for Preconfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preconfer")
            .field("address", &self.address)
            .field("signing_timeout", &self.signing_timeout)
            .finish_non_exhaustive()
    }
}
