//! For libFuzzer: [`preconfirmation_fuzz::frame`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(frame);
