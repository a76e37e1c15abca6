//! Requests without a socket, for the fuzz targets of this workspace. Nothing here is stable.

use std::sync::Arc;

use jsonrpsee::server::Methods;
use p2p_client::P2pClient;

use crate::{Namespace, RpcError, method::Registry, node::Node, openrpc, preconf};

/// All methods of a client.
#[derive(Debug)]
pub struct Server(Methods);

impl Server {
    /// The methods of every namespace.
    ///
    /// # Errors
    /// [`RpcError::Methods`] if two methods have one name.
    pub fn new(client: P2pClient) -> Result<Self, RpcError> {
        let node = Node::new(client, "0".into(), Some(1), None);
        let mut registry = Registry::new(Some(Arc::new(node)));
        openrpc::register(&mut registry, Namespace::ALL)?;
        Ok(Self(registry.into_methods()))
    }

    /// The names of all methods.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.method_names()
    }

    /// The answer to a request; none if it is none of JSON-RPC.
    pub async fn ask(&self, request: &str) -> Option<String> {
        let (answer, _subscription) = self.0.raw_json_request(request, 16).await.ok()?;
        Some(answer.get().to_owned())
    }
}

/// Whether bytes have the form of a transaction list.
#[must_use]
pub fn is_txlist(compressed: &[u8]) -> bool {
    preconf::fuzz_txlist(compressed)
}
