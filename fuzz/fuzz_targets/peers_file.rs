//! For libFuzzer: [`preconfirmation_fuzz::peers_file`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(peers_file);
