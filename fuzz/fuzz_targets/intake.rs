//! For libFuzzer: [`preconfirmation_fuzz::intake`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(intake);
