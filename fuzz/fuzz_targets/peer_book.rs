//! For libFuzzer: [`preconfirmation_fuzz::peer_book`].
#![cfg_attr(fuzzing, no_main)]

preconfirmation_fuzz::binary!(peer_book);
