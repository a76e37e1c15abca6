//! For libFuzzer: [`preconfirmation_fuzz::agent`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(agent);
