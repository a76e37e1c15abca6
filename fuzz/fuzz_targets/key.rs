//! For libFuzzer: [`preconfirmation_fuzz::key`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(key);
