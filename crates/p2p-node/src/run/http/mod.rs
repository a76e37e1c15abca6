//! What operators ask a running node over HTTP.
//!
//! | module | what lives there |
//! |---|---|
//! | [`endpoint`] | the server |
//! | [`metrics`] | `/metrics` |
//! | [`page`] | `/`, the status page |
//! | [`journal`] | what has happened recently |
//! | [`status`] | `/status`, `/healthz`, `/readyz` |

mod endpoint;
mod journal;
mod metrics;
mod page;
mod status;

pub(super) use endpoint::Endpoint;
pub(super) use metrics::{record, serve as serve_metrics};
pub(super) use status::{About, Node, Policies, Shown, serve as serve_status};
