//! The layers that options come from: the file, above it the environment, above both the command line.
//!
//! What file and environment say is put on the command line, in front of what stands there, and read with it. So every value
//! goes through the same parser and the same rules on what needs what, wherever it comes from.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

use clap::{ArgMatches, Command, parser::ValueSource};

use super::{
    error::{ConfigError, FileProblem},
    file::{self, Entry},
    options::{self, FILE, NodeOption, PREFIX, Takes},
};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The program.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// The file of this network.
    Network(String),
    /// This variable.
    Environment(String),
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Network(network) => write!(f, "network {network}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl Setting {
    /// What other options make of one that is not given.
    pub(super) fn derived(option: NodeOption, value: &str, settings: &[Self]) -> Self {
        let network = settings.iter().find(|of| of.option.key() == "network");
        let network = network.and_then(|of| of.values.first());
        let origin = match network {
            Some(network) => Origin::Network(network.to_string_lossy().into_owned()),
            None => Origin::Default,
        };
        Self { option, origin, values: vec![value.into()] }
    }
}

/// An option that has a value.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(super) option: NodeOption,
    pub(super) origin: Origin,
    pub(super) values: Vec<OsString>,
}

impl Setting {
    /// As the command line has it. A switch that is off is nothing there.
    fn arguments(&self) -> impl Iterator<Item = OsString> {
        let key = self.option.key();
        let is_switch = self.option.takes() == Takes::Nothing;
        self.values.iter().map(move |value| {
            let mut argument = OsString::from(format!("--{key}"));
            if !is_switch {
                argument.push("=");
                argument.push(value);
            }
            argument
        })
    }
}

/// A command line with what file and environment add to it.
#[derive(Debug, Default)]
pub(crate) struct Layered {
    /// For clap.
    pub(crate) arguments: Vec<OsString>,
    /// What has a value. Nothing where the command line is not that of a node, or is wrong.
    pub(crate) settings: Vec<Setting>,
    /// What may be a mistake.
    pub(crate) warnings: Vec<String>,
}

impl Layered {
    /// Whether errors are told in one line: where not the command line alone may be wrong, and the usage is no help, and to
    /// whoever asks whether it is.
    pub(crate) fn in_one_line(&self) -> bool {
        let is_asked = self.arguments.get(1).is_some_and(|word| word == "config");
        is_asked
            || self
                .settings
                .iter()
                .any(|of| matches!(of.origin, Origin::File { .. } | Origin::Environment(_)))
    }
}

/// Adds what file and environment say to a command line, where it is one of a node. One that is wrong stays as it is, so that
/// whoever reads it says so.
pub(crate) fn gather(
    arguments: Vec<OsString>,
    environment: &[(OsString, OsString)],
) -> Result<Layered, ConfigError> {
    let unchanged = |arguments| Layered { arguments, ..Layered::default() };
    let Some(behind) = behind_subcommand(&arguments) else { return Ok(unchanged(arguments)) };
    let (before, given) = arguments.split_at_checked(behind).unwrap_or((&arguments, &[]));
    let options = options::all();
    let layers = Layers { reader: options::reader(&options), environment };
    let Ok(on_line) = layers.reader.clone().try_get_matches_from(given) else {
        return Ok(unchanged(arguments));
    };
    let path = layers.path(&options, &on_line)?;
    let entries = match &path {
        Some(path) => layers.checked(file::read(path, &options)?, path, &options)?,
        None => Vec::new(),
    };
    let mut settings = Vec::new();
    for option in &options {
        let of_file = || {
            let entry = entries.iter().find(|entry| entry.key == option.key())?;
            let origin = Origin::File { path: path.clone()?, line: entry.line };
            Some((origin, entry.values.iter().map(OsString::from).collect()))
        };
        let default = || Some((Origin::Default, vec![option.default()?.into()]));
        let found = match on_command_line(option, &on_line) {
            Some(values) => Some((Origin::CommandLine, values)),
            None => layers.of_environment(option)?.or_else(of_file).or_else(default),
        };
        settings.extend(found.map(|(origin, values)| Setting { option: option.clone(), origin, values }));
    }
    let added = settings.iter().filter(|of| !matches!(of.origin, Origin::Default | Origin::CommandLine));
    let added = added.flat_map(Setting::arguments);
    let arguments = before.iter().cloned().chain(added).chain(given.iter().cloned()).collect();
    let warnings = layers.unknown_variables(&options);
    Ok(Layered { arguments, settings, warnings })
}

/// How many words come before the options of a node: the program and its subcommand.
fn behind_subcommand(arguments: &[OsString]) -> Option<usize> {
    let word = |index: usize| arguments.get(index).and_then(|word| word.to_str());
    match (word(1), word(2)) {
        (Some("run" | "sync" | "preconfer"), _) => Some(2),
        (Some("config"), Some("check" | "print")) => Some(3),
        _ => None,
    }
}

fn on_command_line(option: &NodeOption, matches: &ArgMatches) -> Option<Vec<OsString>> {
    if matches.value_source(option.id()) != Some(ValueSource::CommandLine) {
        return None;
    }
    match option.takes() {
        Takes::Nothing => Some(vec!["true".into()]),
        _ => Some(matches.get_raw(option.id())?.map(OsStr::to_owned).collect()),
    }
}

pub(super) struct Layers<'a> {
    pub(super) reader: Command,
    pub(super) environment: &'a [(OsString, OsString)],
}

impl Layers<'_> {
    /// A variable that is not empty: manifests set variables to nothing that they do not mean.
    fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// The file that is named.
    fn path(&self, options: &[NodeOption], on_line: &ArgMatches) -> Result<Option<PathBuf>, ConfigError> {
        let Some(option) = options.iter().find(|option| option.key() == FILE) else { return Ok(None) };
        let named = match on_command_line(option, on_line) {
            Some(values) => Some(values),
            None => self.of_environment(option)?.map(|(_, values)| values),
        };
        Ok(named.and_then(|values| values.into_iter().next()).map(PathBuf::from))
    }

    fn of_environment(&self, option: &NodeOption) -> Result<Option<(Origin, Vec<OsString>)>, ConfigError> {
        let variables = option.variables().into_iter();
        let mut set = variables.filter_map(|name| Some((self.variable(&name)?, name)));
        let Some((value, name)) = set.next() else { return Ok(None) };
        let wrong = |reason| {
            let value = (!option.is_secret()).then(|| value.to_string_lossy().into_owned());
            ConfigError::Variable { variable: name.clone(), value, reason }
        };
        let values = match (option.takes(), value.to_str()) {
            (Takes::Nothing, Some("true" | "1")) => vec!["true".into()],
            (Takes::Nothing, Some("false" | "0")) => Vec::new(),
            (Takes::Nothing, _) => return Err(wrong("must be true or false".to_owned())),
            _ => {
                self.check(option, value).map_err(wrong)?;
                vec![value.to_owned()]
            }
        };
        Ok(Some((Origin::Environment(name), values)))
    }

    /// What the file says, if every value is one of its option.
    pub(super) fn checked(
        &self,
        entries: Vec<Entry>,
        path: &std::path::Path,
        options: &[NodeOption],
    ) -> Result<Vec<Entry>, ConfigError> {
        for entry in &entries {
            let option =
                options.iter().find(|option| option.key() == entry.key && option.takes() != Takes::Nothing);
            for (option, value) in
                option.into_iter().flat_map(|option| entry.values.iter().map(move |of| (option, of)))
            {
                self.check(option, value.as_ref()).map_err(|reason| ConfigError::File {
                    path: path.to_owned(),
                    line: entry.line,
                    problem: FileProblem::Value {
                        key: entry.key.clone(),
                        value: (!option.is_secret()).then(|| value.clone()),
                        reason,
                    },
                })?;
            }
        }
        Ok(entries)
    }

    /// Why a value is none of this option.
    fn check(&self, option: &NodeOption, value: &OsStr) -> Result<(), String> {
        let mut argument = OsString::from(format!("--{}=", option.key()));
        argument.push(value);
        let read = self.reader.clone().try_get_matches_from([argument]);
        read.map(drop).map_err(|error| match std::error::Error::source(&error) {
            Some(reason) => reason.to_string(),
            None => one_line(&error),
        })
    }

    /// Variables that look like those of options and are none. Others may share the beginning: an orchestrator tells of a
    /// service called `p2p-node` in such variables.
    fn unknown_variables(&self, options: &[NodeOption]) -> Vec<String> {
        let mut warnings = Vec::new();
        for name in self.environment.iter().filter_map(|(name, _)| name.to_str()) {
            let Some(end) = name.strip_prefix(PREFIX) else { continue };
            if options.iter().any(|option| option.variable() == name) {
                continue;
            }
            let key = end.to_ascii_lowercase().replace('_', ".");
            if let Some(nearest) = file::nearest(&key, options).and_then(|nearest| {
                options.iter().find(|option| option.key() == nearest).map(NodeOption::variable)
            }) {
                warnings.push(format!("{name} is no option and is ignored; did you mean {nearest}?"));
            }
        }
        warnings
    }
}

/// What clap says of a command line, without usage and hints on several lines.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<_> =
        said.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}
