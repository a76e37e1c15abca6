//! JSON-RPC requests to a client, without a socket.

use std::{cell::OnceCell, num::NonZeroU64, sync::Arc};

use futures::FutureExt as _;
use libp2p::identity::Keypair;
use p2p_client::{
    Base, P2pClient, P2pClientConfig, Publishing, UnixSeconds, network::sim::SimNetwork,
    validation::RotatingSchedule,
};
use p2p_fixtures::{BASE, CHAIN, WINDOW, key, rules};
use p2p_rpc::fuzz::Server;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// A client on a network of its own, and its methods.
struct World {
    runtime: Runtime,
    server: Server,
    names: Vec<&'static str>,
    client: P2pClient,
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let client = runtime.block_on(async {
            let identity = Keypair::ed25519_from_bytes([7; 32]).unwrap();
            let config = P2pClientConfig::local(CHAIN, identity, rules())
                .with_publishing(Publishing::GuardedUntilRestart)
                .with_clock(|| UnixSeconds::new(50_000));
            let window = NonZeroU64::new(WINDOW).unwrap();
            let schedule = RotatingSchedule::new(vec![key(1).address()], UnixSeconds::new(0), window);
            let (handle, events, service) = SimNetwork::new(1).join(config.network.clone()).unwrap();
            let client = P2pClient::builder(config, Arc::new(schedule.unwrap()))
                .network(handle, events, service.run())
                .start()
                .await
                .unwrap();
            client.chain().l2_synced(Base::at(BASE)).await.unwrap();
            client
        });
        let server = Server::new(client.clone()).unwrap();
        let mut names: Vec<_> = server.names().collect();
        names.sort_unstable();
        Self { runtime, server, names, client }
    }
}

/// A request, whole or as the parameters of a method: it has one answer, and the client goes on.
pub fn rpc(data: &[u8]) {
    thread_local! {
        static WORLD: OnceCell<World> = const { OnceCell::new() };
    }
    let Some((kind, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    WORLD.with(|world| {
        let world = world.get_or_init(World::new);
        let request = match world.names.get(usize::from(*kind)) {
            Some(name) => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{name}","params":{text}}}"#),
            None => text.to_owned(),
        };
        let answer = world.runtime.block_on(world.server.ask(&request));
        let Some(answer) = answer else { return };
        let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
        assert!(world.client.closed().now_or_never().is_none(), "the client goes on");
    });
}
