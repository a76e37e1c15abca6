//! The swarm: all behaviours of a node over its transports.

use std::{num::NonZeroUsize, time::Duration};

use libp2p::{
    StreamProtocol, Swarm, allow_block_list, identify, memory_connection_limits, ping,
    request_response::{self, ProtocolSupport},
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
};
use preconfirmation_types::{GetCommitmentsByNumber, GetHead, GetRawTxList, Rpc};

use crate::{
    admission::Admission, codec::SszCodec, config::NetworkConfig, discovery::record,
    duplicate_identity::OwnKey, error::NetworkError, filter::Gossipsub, gossip::Topics, gossip_behaviour,
    half_open::HalfOpen, slow_reader::SlowReaderMonitor, transport,
};

/// The protocol version that the deployed peers identify with.
const IDENTIFY_PROTOCOL: &str = "preconf-p2p/0.1";

/// What this node calls itself, before how much it answers.
const AGENT: &str = concat!("preconfirmation-p2p/", env!("CARGO_PKG_VERSION"));

/// How long the deployed peers wait for an answer of ours, and take to answer us: they ban whoever resets a stream
/// before.
const DEPLOYED_TIMEOUT: Duration = Duration::from_secs(10);

/// Their clock for a stream may start later than ours: as long as opening it takes.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// Streams of one protocol on one connection, both ways together; one more is reset. Deployed peers have been seen to
/// ask 90 times at once, and yamux has no more than 512 on a connection.
const MAX_STREAMS: usize = 256;

/// Inbound streams of a connection that negotiate their protocol at a time: all that yamux allows.
const MAX_NEGOTIATING_STREAMS: usize = 512;

/// All protocols of a node. The connection limits come first: what they refuse costs the others nothing.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: Admission,
    memory: Toggle<memory_connection_limits::Behaviour>,
    pub(crate) banned: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) head: Requests<GetHead>,
    pub(crate) commitments: Requests<GetCommitmentsByNumber>,
    pub(crate) txlist: Requests<GetRawTxList>,
    pub(crate) gossip: Gossipsub,
}

type Requests<R> = request_response::Behaviour<SszCodec<R>>;

/// Builds the swarm; it does not listen or dial yet.
pub(crate) fn swarm(
    config: &NetworkConfig,
    topics: &Topics,
    slow_readers: &SlowReaderMonitor,
    half_open: &HalfOpen,
    own_key: &OwnKey,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let connections = config.connections;
    let behaviour = Behaviour {
        limits: Admission::new(connections).restricted_to(config.restrict_to.clone()),
        memory: connections
            .max_process_bytes
            .map(NonZeroUsize::get)
            .map(memory_connection_limits::Behaviour::with_max_bytes)
            .into(),
        banned: allow_block_list::Behaviour::default(),
        identify: identify::Behaviour::new(
            identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), config.identity.public())
                .with_agent_version(config.serving.agent(AGENT))
                // Where the operator says how the node is reached, interfaces would only mislead.
                .with_hide_listen_addrs(!config.advertise.is_empty()),
        ),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(connections.ping_interval)),
        head: rpc::<GetHead>(config)?,
        commitments: rpc::<GetCommitmentsByNumber>(config)?,
        txlist: rpc::<GetRawTxList>(config)?,
        gossip: gossip_behaviour::build(config, topics)?,
    };
    let swarm_config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(connections.idle_timeout)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
    let local = config.identity.public().to_peer_id();
    let transport = transport::build(config, slow_readers, half_open, own_key)?;
    let mut swarm = Swarm::new(transport, behaviour, local, swarm_config);
    // Where only discovery is reached, nobody dials.
    for address in config.advertise.iter().filter(|address| record::udp_port(address).is_none()) {
        swarm.add_external_address(address.clone());
    }
    Ok(swarm)
}

/// The id of a protocol on a chain, as libp2p has it.
pub(crate) fn protocol<R: Rpc>(chain_id: u64) -> Result<StreamProtocol, NetworkError> {
    StreamProtocol::try_from_owned(R::protocol(chain_id)).map_err(|error| NetworkError::Stack(error.into()))
}

/// How long a request of either side may take, whether or not anybody still waits for its answer.
fn stream_timeout(config: &NetworkConfig) -> Duration {
    config.pacing.timeout.max(DEPLOYED_TIMEOUT).saturating_add(TIMEOUT_MARGIN)
}

fn rpc<R: Rpc>(config: &NetworkConfig) -> Result<Requests<R>, NetworkError> {
    let protocol = protocol::<R>(config.chain_id)?;
    let parameters = request_response::Config::default()
        .with_request_timeout(stream_timeout(config))
        .with_max_concurrent_streams(MAX_STREAMS);
    let protocols = [(protocol, ProtocolSupport::Full)];
    Ok(Requests::with_codec(SszCodec::new(), protocols, parameters))
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn a_request_is_let_run_for_eleven_seconds_or_longer() {
        let mut config = NetworkConfig::new(1, Keypair::generate_ed25519());
        for (timeout, run) in [(3, 11), (20, 21)] {
            config.pacing.timeout = Duration::from_secs(timeout);
            assert_eq!(stream_timeout(&config), Duration::from_secs(run));
        }
    }
}
