//! For libFuzzer: [`preconfirmation_fuzz::config`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(config);
