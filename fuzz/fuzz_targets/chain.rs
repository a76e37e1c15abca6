//! For libFuzzer: [`preconfirmation_fuzz::chain`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(chain);
