//! For libFuzzer: [`preconfirmation_fuzz::network_file`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(network_file);
