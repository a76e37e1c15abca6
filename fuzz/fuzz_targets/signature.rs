//! For libFuzzer: [`preconfirmation_fuzz::signature`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(signature);
