//! The command queue between the handles and the service task.

use p2p_types::SdkEvent;
use tokio::sync::mpsc;

use crate::chain;

/// What a handle asks of the service task.
#[derive(Debug)]
pub(crate) enum ServiceCommand {
    /// For the chain processor.
    Chain(chain::Command),
    /// Adds a subscriber that loses no event.
    SubscribeLossless(mpsc::Sender<SdkEvent>),
    /// Ends the client.
    Shutdown,
}
