//! The preconfirmation network over libp2p: gossip, request/response, scores, limits.
