//! For libFuzzer: [`preconfirmation_fuzz::bootnode`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(bootnode);
