//! What Prometheus itself says of its configuration and its alerts.

use std::{fs, path::PathBuf};

use crate::{
    error::Error,
    monitoring::{CONFIG, RULES, TESTS},
    shell::{installed, program, root},
    step::Outcome,
    tools::is_gate,
};

/// Debian's package has Prometheus, too, whose service an installation would start: it is unpacked here instead.
const FOLDER: &str = "target/promtool";

/// Where promtool is, if it is anywhere.
fn promtool() -> Option<PathBuf> {
    let fetched = root().join(FOLDER).join("usr/bin/promtool");
    installed("promtool").or_else(|| fetched.is_file().then_some(fetched))
}

/// Fetches promtool, without a need for rights over the host.
fn fetch() -> Result<(), Error> {
    let folder = root().join(FOLDER);
    let failed = |source| Error::Write { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    let download = || program("apt-get", ["download", "prometheus"]).within(&folder).run();
    // On a new machine nobody has fetched the lists of packages yet.
    if download().is_err() {
        program("apt-get", ["update"]).run()?;
        download()?;
    }
    let packages =
        fs::read_dir(&folder).map_err(failed)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for package in packages.filter(|name| name.ends_with(".deb")) {
        program("dpkg-deb", ["--extract", &package, "."]).within(&folder).run()?;
    }
    Ok(())
}

/// Checks configuration and alerts, and runs the tests of the alerts.
pub(crate) fn check_workspace() -> Result<Outcome, Error> {
    if promtool().is_none()
        && is_gate()
        && installed("apt-get").is_some()
        && let Err(error) = fetch()
    {
        eprintln!("promtool cannot be fetched: {error}");
    }
    let Some(promtool) = promtool() else {
        return Ok(Outcome::Skipped("promtool is not installed"));
    };
    let promtool = promtool.to_string_lossy();
    program(&promtool, ["check", "config", CONFIG]).run()?;
    program(&promtool, ["check", "rules", RULES]).run()?;
    program(&promtool, ["test", "rules", TESTS]).run()?;
    Ok(Outcome::Done)
}
