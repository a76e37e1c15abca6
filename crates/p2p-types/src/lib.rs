//! The words of the preconfirmation client: events, commands, sync status, peers, message ids.
