//! The preconfirmation client for sidecars: publish, request, subscribe, catch up, shut down.
