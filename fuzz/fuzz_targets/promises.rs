//! For libFuzzer: [`preconfirmation_fuzz::promises`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(promises);
