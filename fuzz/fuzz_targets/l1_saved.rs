//! For libFuzzer: [`preconfirmation_fuzz::l1_saved`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(l1_saved);
