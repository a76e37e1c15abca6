//! For libFuzzer: [`preconfirmation_fuzz::l2_block`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(l2_block);
