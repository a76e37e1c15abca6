//! For libFuzzer: [`preconfirmation_fuzz::export`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(export);
