//! The catch-up machine of the preconfirmation client: sans-IO, from any gap to live.
