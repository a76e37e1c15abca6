//! For libFuzzer: [`preconfirmation_fuzz::gossip`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(gossip);
