//! For libFuzzer: [`preconfirmation_fuzz::gossip_stream`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(gossip_stream);
