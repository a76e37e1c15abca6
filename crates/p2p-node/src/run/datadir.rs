//! What is where in `--datadir`.

/// The store.
pub(super) const STORE: &str = "chain";

/// What the network keeps: known peers, the node's record (ENR).
pub(super) const NETWORK: &str = "network";

/// What was learned from L1.
pub(super) const L1: &str = "l1";

/// The node's key, unless `--p2p.priv.path` names another file.
pub(super) const KEY: &str = "p2p.key";

/// The secret of callers of JSON-RPC, unless `--rpc.jwt-secret` names another file.
pub(super) const JWT: &str = "jwt.hex";
