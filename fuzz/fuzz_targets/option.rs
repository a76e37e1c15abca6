//! For libFuzzer: [`preconfirmation_fuzz::option`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(option);
