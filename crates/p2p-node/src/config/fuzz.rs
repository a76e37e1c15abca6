//! The file of `--config`, for fuzzing.

use std::path::Path;

use super::{
    file,
    layers::Layers,
    options::{self, NodeOption},
};

/// The options of a node, and what reads their values.
pub struct Config {
    options: Vec<NodeOption>,
    layers: Layers<'static>,
}

/// All options.
#[must_use]
pub fn config() -> Config {
    let options = options::all();
    Config { layers: Layers { reader: options::reader(&options), environment: &[] }, options }
}

impl Config {
    /// How many options a file sets; none if it is refused. `values`: whether they are read, too.
    ///
    /// # Panics
    /// If an option is set twice.
    #[must_use]
    pub fn read(&self, text: &str, values: bool) -> Option<usize> {
        let entries = file::parse(text, &self.options).ok()?;
        for (index, entry) in entries.iter().enumerate() {
            let earlier = entries.iter().take(index);
            assert!(earlier.clone().all(|other| other.key != entry.key), "{} twice", entry.key);
            assert!(entry.line >= 1 && earlier.clone().all(|other| other.line <= entry.line));
        }
        if values {
            return self.layers.checked(entries, Path::new("f"), &self.options).ok().map(|read| read.len());
        }
        Some(entries.len())
    }
}
