//! For libFuzzer: [`preconfirmation_fuzz::txlist`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(txlist);
