//! For libFuzzer: [`preconfirmation_fuzz::address`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(address);
