//! For libFuzzer: [`preconfirmation_fuzz::l1_event`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(l1_event);
