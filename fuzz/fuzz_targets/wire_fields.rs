//! For libFuzzer: [`preconfirmation_fuzz::wire_fields`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(wire_fields);
