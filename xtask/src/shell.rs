//! Running commands, in the workspace's root, with what they do printed first.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::Error;

/// A command on its way to be run.
pub(crate) struct Task {
    command: Command,
    shown: String,
}

/// `cargo` with these arguments.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Task {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), "cargo", args)
}

/// `mdbook` with these arguments.
pub(crate) fn mdbook<'a>(args: impl IntoIterator<Item = &'a str>) -> Task {
    let program = installed("mdbook").unwrap_or_else(|| "mdbook".into());
    command(program.into(), "mdbook", args)
}

/// Another program with these arguments.
pub(crate) fn program<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Task {
    command(program.into(), program, args)
}

fn command<'a>(program: OsString, shown: &str, args: impl IntoIterator<Item = &'a str>) -> Task {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    // What `cargo run` tells a program of its package. Build scripts look at these, and would be run again.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.starts_with(own)))
        {
            command.env_remove(name);
        }
    }
    args.into_iter().fold(Task { command, shown: shown.into() }, Task::arg)
}

impl Task {
    /// One more argument.
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self.shown.push(' ');
        self.shown.push_str(arg);
        self
    }

    /// With an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self.shown.insert_str(0, &format!("{name}={value:?} "));
        self
    }

    /// In another folder than the workspace's root.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it, its output on ours.
    pub(crate) fn run(self) -> Result<(), Error> {
        println!("$ {}", self.shown);
        self.run_quietly()
    }

    /// Runs it without showing it first: for output that a program reads.
    pub(crate) fn run_quietly(mut self) -> Result<(), Error> {
        match self.command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(Error::Failed { command: self.shown }),
            Err(source) => Err(Error::Start { command: self.shown, source }),
        }
    }

    /// Runs it and returns what it wrote to stdout. Its stderr goes to ours.
    pub(crate) fn read(mut self) -> Result<String, Error> {
        match self.command.stderr(Stdio::inherit()).output() {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout)
                .map_err(|problem| Error::Answer { command: self.shown, problem: problem.to_string() }),
            Ok(_) => Err(Error::Failed { command: self.shown }),
            Err(source) => Err(Error::Start { command: self.shown, source }),
        }
    }
}

/// Whether a cargo subcommand is installed.
pub(crate) fn has(subcommand: &str) -> bool {
    let quiet = cargo([subcommand, "--version"]).command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Where a command is: in the `PATH`, or where `cargo install` puts it.
pub(crate) fn installed(command: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let places = [Some(PathBuf::from(command)), home.map(|home| home.join("bin").join(command))];
    places.into_iter().flatten().find(|program| {
        let mut command = Command::new(program);
        let quiet = command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    })
}

/// How a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// Builds the program of a package and says where it is.
pub(crate) fn built(package: &str, profile: Profile) -> Result<PathBuf, Error> {
    let build = cargo(["build", "--quiet", "--package", package]);
    let (build, folder) = match profile {
        Profile::Debug => (build, "debug"),
        Profile::Release => (build.arg("--release"), "release"),
    };
    build.run_quietly()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join(folder).join(format!("{package}{}", std::env::consts::EXE_SUFFIX)))
}

/// The root of the workspace: the folder above this crate.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_to_repeat() {
        let error = cargo(["no-such-subcommand"]).env("SOME", "thing").read().unwrap_err();
        assert_eq!(error.to_string(), "`SOME=\"thing\" cargo no-such-subcommand` failed");
    }

    #[test]
    fn what_is_not_installed_is_not_there() {
        assert!(!has("no-such-subcommand"));
        assert!(has("clippy"));
        assert_eq!(installed("no-such-command"), None);
        assert_eq!(installed("cargo"), Some("cargo".into()));
    }
}
