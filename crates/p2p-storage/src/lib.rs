//! Storage of validated preconfirmations: traits, a memory store, the waiting room, the memory of what was seen.
