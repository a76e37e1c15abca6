//! For libFuzzer: [`preconfirmation_fuzz::wire`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(wire);
