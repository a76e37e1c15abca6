//! The options of `inspect`.

use std::fmt;

use clap::{Args, ValueEnum};
use preconfirmation_types::{GetCommitmentsByNumber, GetHead, GetRawTxList, Rpc, SigningDomain, Topic};

use crate::domain::Domain;

/// Show containers of the wire as JSON: one hex string a line on stdin, one object a line on stdout
///
/// Reads one hex string a line (0x and blanks around it are optional, blank lines are skipped) and writes one
/// JSON object for each. Numbers of the chain are decimal strings, bytes are 0x-hex.
///
/// Commitments come with their hashes and their signer, transaction lists with the hash of their bytes and
/// whether it matches (one that does not is shown, not refused). A line that does not decode, or whose
/// signature does not recover, gives {"error": …, "line": …}; the lines behind it are still read.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 if every line was good, 1 if one was not or input or output failed, 2 for a bad command line.

Examples:
  echo 0x04000000 | p2p-node inspect --type GetHeadRequest
  p2p-node inspect --type SignedCommitment --chain-id 167000 < commitments.hex
  p2p-node inspect --type GetRawTxListResponse --frame < frames.hex")]
pub(crate) struct InspectArgs {
    /// The container that every line holds, as the protocol names it
    #[arg(long = "type", value_name = "T", value_enum)]
    pub(super) container: ContainerType,

    /// The chain's signing domain, 32 bytes: hashes and signers of commitments depend on it
    #[arg(long, value_name = "HEX", default_value_t = Domain(SigningDomain::PLACEHOLDER))]
    pub(super) domain: Domain,

    /// Add where the container travels on this chain
    ///
    /// Adds `topic` to what travels by gossip and `protocol` to requests and responses. Nothing else depends on
    /// the chain id; containers that only travel inside others are shown as without it.
    #[arg(long, value_name = "N")]
    pub(super) chain_id: Option<u64>,

    /// Lines are length-prefixed frames of the request/response protocols
    ///
    /// An unsigned varint, then the container; judged against the cap that the protocol sets for the message.
    /// Only for requests and responses: PreconfHead and the Get… containers.
    #[arg(long)]
    pub(super) frame: bool,
}

/// The containers, under exactly the names of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub(crate) enum ContainerType {
    /// The promise about one block
    Preconfirmation,
    /// A preconfirmation and its slasher
    PreconfCommitment,
    /// A commitment and its signature (gossip)
    SignedCommitment,
    /// A transaction list (gossip)
    RawTxListGossip,
    /// get_head, request
    GetHeadRequest,
    /// get_head, response
    PreconfHead,
    /// get_commitments_by_number, request
    GetCommitmentsByNumberRequest,
    /// get_commitments_by_number, response
    GetCommitmentsByNumberResponse,
    /// get_raw_txlist, request
    GetRawTxListRequest,
    /// get_raw_txlist, response
    GetRawTxListResponse,
}

/// What takes a container from peer to peer.
pub(super) enum Carrier {
    /// It travels inside other containers only.
    None,
    /// A gossip topic.
    Gossip(Topic),
    /// A frame of a request/response protocol.
    Rpc {
        /// The protocol id on a chain.
        protocol: fn(u64) -> String,
        /// Most bytes behind the length prefix.
        cap: usize,
    },
}

impl Carrier {
    fn request<R: Rpc>() -> Self {
        Self::Rpc { protocol: R::protocol, cap: R::REQUEST_CAP }
    }

    fn response<R: Rpc>() -> Self {
        Self::Rpc { protocol: R::protocol, cap: R::RESPONSE_CAP }
    }
}

impl ContainerType {
    pub(super) fn carrier(self) -> Carrier {
        match self {
            Self::Preconfirmation | Self::PreconfCommitment => Carrier::None,
            Self::SignedCommitment => Carrier::Gossip(Topic::Commitments),
            Self::RawTxListGossip => Carrier::Gossip(Topic::RawTxLists),
            Self::GetHeadRequest => Carrier::request::<GetHead>(),
            Self::PreconfHead => Carrier::response::<GetHead>(),
            Self::GetCommitmentsByNumberRequest => Carrier::request::<GetCommitmentsByNumber>(),
            Self::GetCommitmentsByNumberResponse => Carrier::response::<GetCommitmentsByNumber>(),
            Self::GetRawTxListRequest => Carrier::request::<GetRawTxList>(),
            Self::GetRawTxListResponse => Carrier::response::<GetRawTxList>(),
        }
    }
}

impl fmt::Display for ContainerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names of the variants are the names of the protocol.
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use preconfirmation_types::{
        Container, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHeadRequest,
        GetRawTxListRequest, GetRawTxListResponse, PreconfCommitment, PreconfHead, Preconfirmation,
        RawTxListGossip, SignedCommitment, frame,
    };

    use super::*;
    use crate::inspect::MAX_LINE;

    fn row<C: Container>() -> (&'static str, usize) {
        (C::NAME, C::MAX_SSZ_BYTES)
    }

    #[test]
    fn types_are_named_and_framed_as_in_the_protocol() {
        let rows = [
            row::<Preconfirmation>(),
            row::<PreconfCommitment>(),
            row::<SignedCommitment>(),
            row::<RawTxListGossip>(),
            row::<GetHeadRequest>(),
            row::<PreconfHead>(),
            row::<GetCommitmentsByNumberRequest>(),
            row::<GetCommitmentsByNumberResponse>(),
            row::<GetRawTxListRequest>(),
            row::<GetRawTxListResponse>(),
        ];
        assert_eq!(ContainerType::value_variants().len(), rows.len());
        for (container, (name, bytes)) in ContainerType::value_variants().iter().zip(rows) {
            assert_eq!(container.to_string(), name);
            assert_eq!(container.to_possible_value().unwrap().get_name(), name);
            assert!(
                MAX_LINE >= 2 + 2 * (frame::MAX_PREFIX_BYTES + bytes),
                "{name}: a line holds the longest"
            );
            if let Carrier::Rpc { cap, .. } = container.carrier() {
                assert!(cap >= bytes, "{name}: a frame holds the longest container");
            }
        }
    }
}
