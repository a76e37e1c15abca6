//! For libFuzzer: [`preconfirmation_fuzz::enr`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(enr);
