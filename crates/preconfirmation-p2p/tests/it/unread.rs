//! Askers that do not read what they are answered, and those that never finish asking.

use std::{
    io,
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _, StreamExt as _, future::pending};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise,
    request_response::{self, ProtocolSupport},
    tcp, yamux,
};
use preconfirmation_p2p::{InboundRequest, NetworkEvent, NetworkEvents, NetworkHandle};
use preconfirmation_types::{
    B256, GetCommitmentsByNumber, GetCommitmentsByNumberRequest, GetCommitmentsByNumberResponse, GetHead,
    GetHeadRequest, GetRawTxList, GetRawTxListRequest, GetRawTxListResponse, PreconfHead, U256, frame,
};
use tokio::task::JoinHandle;

use crate::rig::{CHAIN, Metrics, Node, commitment, config, eventually, soon};

const NEVER: Duration = Duration::from_secs(3600);

/// Larger than the window of a stream, so that it cannot be written unread.
const LIST: usize = 600 * 1024;

/// Writes what it is told to and never reads.
#[derive(Clone)]
struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        pending().await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        pending().await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await?;
        io.flush().await?;
        if bytes.len() < 30 { pending().await } else { Ok(()) }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

/// Opens so many streams for lists and writes this to each.
async fn unread(server: &NetworkHandle, streams: usize, request: &[u8]) -> JoinHandle<()> {
    let protocol =
        StreamProtocol::try_from_owned(format!("/taiko/{CHAIN}/preconf/1/get_raw_txlist")).unwrap();
    let parameters =
        request_response::Config::default().with_request_timeout(NEVER).with_max_concurrent_streams(512);
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::new(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| {
            request_response::Behaviour::with_codec(Codec, [(protocol, ProtocolSupport::Full)], parameters)
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
        .build();
    swarm.dial(soon(server.listen_addrs()).await.unwrap().remove(0)).unwrap();
    for _ in 0..streams {
        swarm.behaviour_mut().send_request(&server.local_peer_id(), request.to_vec());
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    })
}

/// A server, with a list indefinitelyy hash.
fn server() -> NetworkHandle {
    let Node { handle, events, .. } = Node::local();
    tokio::spawn(serve(events));
    handle
}

async fn serve(mut events: NetworkEvents) {
    while let Some(event) = events.next().await {
        let NetworkEvent::Request { request, .. } = event else { continue };
        match request {
            InboundRequest::TxList(asked, responder) => responder.send(GetRawTxListResponse {
                raw_tx_list_hash: asked.raw_tx_list_hash,
                txlist: vec![1; LIST].into(),
            }),
            InboundRequest::Head(responder) => responder
                .send(PreconfHead { block_number: U256::from(7), submission_window_end: U256::from(9) }),
            InboundRequest::Commitments(_, responder) => {
                responder.send(GetCommitmentsByNumberResponse::new(vec![commitment(7)]).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A newcomer asks for head, page and list: all come from the application, in this time.
async fn a_newcomer_is_served(server: &NetworkHandle, within: Duration) {
    let (newcomer, peer) = (Node::start(config()), server.local_peer_id());
    soon(newcomer.handle.dial(soon(server.listen_addrs()).await.unwrap().remove(0))).await.unwrap();
    eventually(|| async { newcomer.status(peer).await.filter(|status| status.ready).map(drop) }).await;
    let (start, handle) = (Instant::now(), &newcomer.handle);
    let page = GetCommitmentsByNumberRequest { start_block_number: U256::from(7), max_count: 1 };
    let list = GetRawTxListRequest { raw_tx_list_hash: B256::repeat_byte(5) };
    let head = soon(handle.request::<GetHead>(peer, GetHeadRequest {})).await.unwrap();
    let page = soon(handle.request::<GetCommitmentsByNumber>(peer, page)).await.unwrap();
    let list = soon(handle.request::<GetRawTxList>(peer, list)).await.unwrap();
    let took = start.elapsed();
    let got = (head.block_number, page.commitments().len(), list.txlist.len());
    assert_eq!(got, (U256::from(7), 1, LIST));
    assert!(took < within, "{took:?}");
}

#[tokio::test]
async fn four_peers_that_do_not_read_do_not_end_serving() {
    let (metrics, server) = (Metrics::install(), server());
    let mut unread_by = Vec::new();
    let request = frame::write(&GetRawTxListRequest { raw_tx_list_hash: B256::repeat_byte(1) });
    for _ in 0..4 {
        unread_by.push(unread(&server, 32, &request).await);
    }
    // So many are known not to be read before the newcomer comes.
    tokio::time::sleep(Duration::from_secs(2)).await;
    a_newcomer_is_served(&server, Duration::from_secs(8)).await;
    metrics.reaches("p2p_reqresp_requests_total", "inbound not_read", 1).await;
    assert_eq!(metrics.count("p2p_offences_total", ""), 0);
    unread_by.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn half_requests_hold_nobody_up() {
    let server = server();
    let asking = unread(&server, 200, &[32, 1, 2, 3]).await;
    a_newcomer_is_served(&server, Duration::from_secs(5)).await;
    asking.abort();
}
