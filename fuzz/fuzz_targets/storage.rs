//! For libFuzzer: [`preconfirmation_fuzz::storage`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(storage);
