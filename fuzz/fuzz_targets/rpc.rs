//! For libFuzzer: [`preconfirmation_fuzz::rpc`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(rpc);
