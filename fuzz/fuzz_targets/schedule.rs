//! For libFuzzer: [`preconfirmation_fuzz::schedule`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(schedule);
