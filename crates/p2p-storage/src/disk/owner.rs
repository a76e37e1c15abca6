//! The `owner` file: a pid file beside the database. Where the file system has locks, it names the process that holds the
//! lock; where it has none, it is the lock.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Mutex,
};

use super::group_commit::lock;

/// A process, distinguishable from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its start time in clock ticks; unknown where there is no `/proc`.
    started: Option<u64>,
    /// Its pid namespace: containers have their own.
    namespace: Option<u64>,
}

impl Process {
    pub(super) fn current() -> Self {
        let pid = std::process::id();
        Self { pid, started: stat(pid).ok().and_then(|(_, started)| started), namespace: namespace() }
    }

    /// Whether it has ended. One in another namespace may still run.
    fn is_gone(&self) -> bool {
        if self.namespace.is_some_and(|theirs| namespace().is_some_and(|ours| ours != theirs)) {
            return false;
        }
        match stat(self.pid) {
            Ok((is_dead, started)) => {
                is_dead || self.started.is_some_and(|then| started.is_some_and(|now| now != then))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_proc() => true,
            Err(_) => !answers(self.pid),
        }
    }
}

/// Whether a process is a zombie, and its start time. From `/proc`.
fn stat(pid: u32) -> io::Result<(bool, Option<u64>)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in brackets, which may hold anything; the third is the state, the 22nd the start.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let is_dead = fields.next().is_some_and(|state| matches!(state, "Z" | "X"));
    Ok((is_dead, fields.nth(22 - 4).and_then(|started| started.parse().ok())))
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// `pid:[4026531836]`, as the number.
fn namespace() -> Option<u64> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// Whether a process exists, even if we may not signal it.
#[cfg(unix)]
fn answers(pid: u32) -> bool {
    use rustix::{
        io::Errno,
        process::{Pid, test_kill_process},
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(not(unix))]
const fn answers(_: u32) -> bool {
    true
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pid)?;
        [self.started, self.namespace]
            .into_iter()
            .map_while(|field| field)
            .try_for_each(|field| write!(f, " {field}"))
    }
}

impl FromStr for Process {
    type Err = std::num::ParseIntError;

    /// Reads a pid alone, too.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pid, more) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut more = more.split(' ').map(|field| field.parse().ok());
        Ok(Self { pid: pid.parse()?, started: more.next().flatten(), namespace: more.next().flatten() })
    }
}

/// The file `owner` of a store.
#[derive(Debug)]
pub(super) struct Owner {
    path: PathBuf,
    /// Whether we hold it as a lock.
    claimed: Mutex<bool>,
}

impl Owner {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("owner"), claimed: Mutex::default() }
    }

    /// The owner, current or last; none where the file does not say.
    pub(super) fn read(&self) -> Option<Process> {
        fs::read_to_string(&self.path).ok()?.parse().ok()
    }

    /// The current owner according to the file. An unreadable file counts as owned.
    pub(super) fn is_held(&self) -> io::Result<bool> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.parse().map_or(true, |owner: Process| !owner.is_gone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes our name, for whoever finds the store locked. A failure costs the name alone.
    pub(super) fn write_name(&self) {
        if !*lock(&self.claimed) {
            drop(fs::write(&self.path, Process::current().to_string()));
        }
    }

    /// Takes the lock unless a living process has it. Returns whether it was taken.
    pub(super) fn claim(&self) -> io::Result<bool> {
        let mut claimed = lock(&self.claimed);
        // Of several processes that find a stale file, one removes it and one creates the next.
        for _ in 0..2 {
            if *claimed || self.create()? {
                *claimed = true;
                return Ok(true);
            }
            if self.is_held()? || !self.take_away()? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Creates the file unless it exists. Returns whether it did.
    fn create(&self) -> io::Result<bool> {
        let created = match fs::File::create_new(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            created => created,
        };
        let written = created.and_then(|mut file| {
            file.write_all(Process::current().to_string().as_bytes())?;
            file.sync_all()
        });
        // An empty file would block everybody.
        written.inspect_err(|_| drop(fs::remove_file(&self.path))).map(|()| true)
    }

    /// Removes the file of a dead owner. Returns whether it did. The rename succeeds for one process only.
    fn take_away(&self) -> io::Result<bool> {
        let aside = self.path.with_extension(std::process::id().to_string());
        match fs::rename(&self.path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            renamed => renamed?,
        }
        let taken = fs::read_to_string(&aside)?;
        if taken.parse().is_ok_and(|owner: Process| owner.is_gone()) {
            return fs::remove_file(&aside).map(|()| true);
        }
        // Another process took it over between our check and our rename: put it back.
        fs::rename(&aside, &self.path).map(|()| false)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if *lock(&self.claimed) && self.read() == Some(Process::current()) {
            // A file that is left behind is stale once this process has ended.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> (tempfile::TempDir, Owner) {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::new(folder.path());
        (folder, owner)
    }

    #[test]
    fn a_living_owner_keeps_its_store_and_gives_it_back_at_its_end() {
        let (folder, first) = owner();
        let second = Owner::new(folder.path());
        assert!(first.claim().unwrap() && first.claim().unwrap(), "opened anew by the same");
        assert!(!second.claim().unwrap() && second.is_held().unwrap());
        assert_eq!(second.read().map(|owner| owner.pid), Some(std::process::id()));
        drop(first);
        assert!(!second.is_held().unwrap() && second.claim().unwrap());
    }

    #[test]
    fn what_a_process_left_that_is_gone_is_taken_over() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (pid, me) = (child.id(), Process::current());
        child.wait().unwrap();
        let gone = Process { pid, ..me };
        // A number that has been given to another process since then, which is us.
        let reused = Process { started: me.started.map(|started| started + 1), ..me };
        for left in [gone, reused].into_iter().filter(|left| *left != me) {
            let (folder, next) = owner();
            fs::write(folder.path().join("owner"), left.to_string()).unwrap();
            assert!(next.claim().unwrap(), "{left}");
            assert_eq!(next.read(), Some(me));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left lying");
        }
    }

    #[test]
    fn an_owner_that_cannot_be_judged_keeps_its_store() {
        let me = Process::current();
        let elsewhere = Process { pid: u32::MAX, namespace: Some(1), ..me }.to_string();
        // Of another container, of an earlier version, cut off.
        for left in [elsewhere, me.pid.to_string(), String::new(), "?".into()] {
            let (folder, next) = owner();
            fs::write(folder.path().join("owner"), &left).unwrap();
            if namespace().is_some() || !left.contains(' ') {
                assert!(!next.claim().unwrap(), "{left}");
            }
        }
    }

    #[test]
    fn a_process_is_read_as_it_was_written() {
        for process in [Process::current(), Process { pid: 7, started: None, namespace: None }] {
            assert_eq!(process.to_string().parse(), Ok(process));
        }
        assert!("".parse::<Process>().is_err());
    }
}
