//! The rules that make a preconfirmation commitment valid, pure and synchronous.
