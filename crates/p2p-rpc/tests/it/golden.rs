//! Requests and answers as they were written down, byte for byte. The commitments are those of the wire's vectors.

use std::sync::Arc;

use alloy_primitives::hex;
use p2p_client::{Address, Base, SigningDomain, Slot, StaticSchedule, UnixSeconds, ValidationConfig, Window};
use serde::Deserialize;
use serde_json::Value;

use crate::rig::{World, client_config, server_config};

const GOLDEN: &str = include_str!("../golden/preconf.json");
const VECTORS: &str = include_str!("../../../preconfirmation-types/tests/vectors/wire.json");

/// A node at a moment, and what it is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    about: String,
    /// Which commitment of the vectors gives the slasher and the signer of the only slot.
    vector: usize,
    base: u64,
    now: u64,
    window: [u64; 2],
    exchanges: Vec<Exchange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    request: String,
    response: String,
}

#[tokio::test]
async fn requests_are_answered_to_the_byte() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let sessions: Vec<Session> = serde_json::from_str(GOLDEN).unwrap();
    for session in sessions {
        let vector = &vectors["commitments"][session.vector];
        let address = |field: &str| vector[field].as_str().unwrap().parse::<Address>().unwrap();
        let [start, end] = session.window.map(UnixSeconds::new);
        let slot = Slot { signer: address("signer"), window: Window { start, end } };
        let mut config = client_config(7);
        config.validation = ValidationConfig::new(SigningDomain::PLACEHOLDER, address("slasherAddress"));
        let now = session.now;
        let config = config.with_clock(move || UnixSeconds::new(now));
        let schedule = Arc::new(StaticSchedule::new(vec![slot]).unwrap());
        let world = World::start_with(config, schedule, server_config(), Some(Base::at(session.base))).await;
        for Exchange { request, response } in session.exchanges {
            let (status, body) = world.post(&request).await;
            assert_eq!((status, body.as_str()), (200, response.as_str()), "{}: {request}", session.about);
            // The same over a WebSocket, where the answer is an answer to the same question.
            if !request.contains("preconf_publish") {
                let mut socket = world.socket().await;
                socket.send(request).await;
                let response: Value = serde_json::from_str(&response).unwrap();
                assert_eq!(socket.next().await.unwrap(), response);
            }
        }
        world.stop().await;
    }
}

/// The requests are those of the vectors: whoever changes one of the files changes both.
#[test]
fn golden_commitments_are_the_vectors() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let sessions: Vec<Session> = serde_json::from_str(GOLDEN).unwrap();
    let mut published = 0;
    for session in &sessions {
        for exchange in session.exchanges.iter().filter(|of| of.request.contains("preconf_publishBlock")) {
            let request: Value = serde_json::from_str(&exchange.request).unwrap();
            let commitment = &request["params"][0]["commitment"];
            assert_eq!(commitment, &vectors["commitments"][session.vector]["sszSignedCommitment"]);
            assert_eq!(hex::decode(commitment.as_str().unwrap()).unwrap().len(), 382);
            published += 1;
        }
    }
    assert_eq!(published, 2);
}
