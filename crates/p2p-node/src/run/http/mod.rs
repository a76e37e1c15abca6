//! What operators ask a running node over HTTP.
//!
//! | module | what lives there |
//! |---|---|
//! | [`endpoint`] | the server |
//! | [`metrics`] | `/metrics` |
//! | [`status`] | `/status`, `/healthz`, `/readyz` |

mod endpoint;
mod metrics;
mod status;

pub(super) use endpoint::Endpoint;
pub(super) use metrics::{record, serve as serve_metrics};
pub(super) use status::{About, Node, Policies, Shown, serve as serve_status};
