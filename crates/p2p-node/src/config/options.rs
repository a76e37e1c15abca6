//! The options of a node, for whatever else than the command line names them: the file, the environment, the sample.

use clap::{Arg, ArgAction, Args as _, Command};

use crate::{log::RUST_LOG, run::RunArgs};

/// In front of the name of every variable.
pub(super) const PREFIX: &str = "P2P_NODE_";

/// The option that names the file, and so is not in it.
pub(super) const FILE: &str = "config";

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// It is given or not.
    Nothing,
    One,
    /// A list; it may also be given several times.
    Several,
}

/// An option.
#[derive(Debug, Clone)]
pub(super) struct NodeOption(Arg);

impl NodeOption {
    /// Its name without `--`, and its key in the file.
    pub(super) fn key(&self) -> &str {
        self.0.get_long().unwrap_or_default()
    }

    /// By which clap knows it.
    pub(super) fn id(&self) -> &str {
        self.0.get_id().as_str()
    }

    /// Its name in the environment.
    pub(super) fn variable(&self) -> String {
        variable(self.key())
    }

    /// All its names there, the first of which goes before the second.
    pub(super) fn variables(&self) -> Vec<String> {
        variables(self.key())
    }

    pub(super) fn takes(&self) -> Takes {
        match self.0.get_action() {
            ArgAction::SetTrue => Takes::Nothing,
            ArgAction::Append => Takes::Several,
            _ => Takes::One,
        }
    }

    /// Whether its values may have passwords and keys in them, as the URLs of endpoints do.
    pub(super) fn is_secret(&self) -> bool {
        self.0.get_value_names().is_some_and(|names| names.iter().any(|name| name.as_str() == "URL"))
    }

    pub(super) fn default(&self) -> Option<&str> {
        self.0.get_default_values().first()?.to_str()
    }

    pub(super) fn heading(&self) -> Option<&str> {
        self.0.get_help_heading()
    }

    /// What `--help` says of it.
    pub(super) fn help(&self) -> String {
        help(&self.0)
    }

    /// The same option without what depends on others.
    fn alone(&self) -> Arg {
        let arg = Arg::new(self.0.get_id().clone())
            .long(self.key().to_owned())
            .action(self.0.get_action().clone())
            .allow_negative_numbers(self.0.is_allow_negative_numbers_set());
        if self.takes() == Takes::Nothing { arg } else { arg.value_parser(self.0.get_value_parser().clone()) }
    }
}

fn variable(key: &str) -> String {
    let name = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    PREFIX.chars().chain(name).collect()
}

fn variables(key: &str) -> Vec<String> {
    let of_all_programs = (key == "log.filter").then(|| RUST_LOG.to_owned());
    [variable(key)].into_iter().chain(of_all_programs).collect()
}

fn help(arg: &Arg) -> String {
    arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default()
}

/// All options of `run`, in the order of `--help`.
pub(super) fn all() -> Vec<NodeOption> {
    RunArgs::augment_args(Command::new("run")).get_arguments().cloned().map(NodeOption).collect()
}

/// Reads these options one by one, whatever they need of each other.
pub(super) fn reader(options: &[NodeOption]) -> Command {
    Command::new("run")
        .no_binary_name(true)
        .disable_help_flag(true)
        .args(options.iter().map(NodeOption::alone))
}

/// Adds the name in the environment to the help of each option.
pub(super) fn tell_variables(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_long().map(variables) {
        Some(variables) => {
            let help = help(&arg);
            arg.long_help(format!("{help}\n\n[env: {}]", variables.join(", ")))
        }
        None => arg,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_tell_options_apart_in_the_file_and_in_the_environment() {
        let options = all();
        let variables: BTreeSet<_> = options.iter().map(NodeOption::variable).collect();
        assert_eq!(variables.len(), options.len());
        for option in &options {
            let inside = format!("{}.", option.key());
            assert!(!options.iter().any(|other| other.key().starts_with(&inside)), "{inside} is a table");
            assert!(!option.help().is_empty(), "{inside}");
        }
    }

    #[test]
    fn an_option_is_named_alike_everywhere() {
        let options = all();
        let option = options.iter().find(|option| option.key() == "p2p.listen.tcp").unwrap();
        assert_eq!(option.variable(), "P2P_NODE_P2P_LISTEN_TCP");
        assert_eq!((option.takes(), option.default()), (Takes::One, Some("9222")));
        let secret: Vec<_> =
            options.iter().filter(|option| option.is_secret()).map(NodeOption::key).collect();
        assert_eq!(secret, ["l1.rpc", "l2.rpc", "guard.url", "otlp.endpoint"]);
    }
}
