//! The ways to damage a copy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Failure,
    store::{OLD_BLOCKS, fill},
};

const PAGE: usize = 4096;
const DATABASE: &str = "store.redb";

/// A store, as it was closed and as a process leaves it that is killed.
pub(crate) struct Original {
    closed: PathBuf,
    killed: PathBuf,
    /// The database when the store was younger.
    old: Vec<u8>,
}

impl Original {
    pub(crate) fn make(folder: &Path, seed: u64) -> Result<Self, Failure> {
        let (closed, killed) = (folder.join(format!("closed-{seed}")), folder.join("killed"));
        let mut old = Vec::new();
        fill(&closed, |number| {
            if number == OLD_BLOCKS {
                old = fs::read(closed.join(DATABASE))?;
            } else {
                copy(&closed, &killed)?;
            }
            Ok(())
        })?;
        Ok(Self { closed, killed, old })
    }

    /// Makes a copy, closed or killed.
    pub(crate) fn copy(&self, to: &Path, dice: &mut fastrand::Rng) -> Result<(), Failure> {
        Ok(copy(if dice.u8(0..3) > 0 { &self.closed } else { &self.killed }, to)?)
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// One way: its name, and what it does.
type Way = (&'static str, fn(&Original, &Path, &mut fastrand::Rng) -> io::Result<()>);

/// Each has its turn.
const WAYS: &[Way] = &[
    ("a page zeroed", |_, copy, dice| pages(copy, dice, |page, _| page.fill(0))),
    ("a page filled with ones", |_, copy, dice| pages(copy, dice, |page, _| page.fill(0xff))),
    ("a page of noise", |_, copy, dice| pages(copy, dice, |page, dice| dice.fill(page))),
    ("flipped bits", |_, copy, dice| pages(copy, dice, flip)),
    ("pages swapped", swap_pages),
    ("an old page", |original, copy, dice| {
        database(copy, |bytes| {
            let at = dice.usize(0..original.old.len().min(bytes.len()) / PAGE) * PAGE;
            replace(bytes, at, original.old.get(at..at + PAGE));
        })
    }),
    ("an old header", |original, copy, _| {
        database(copy, |bytes| replace(bytes, 0, original.old.get(..PAGE)))
    }),
    ("an old database", |original, copy, _| fs::write(copy.join(DATABASE), &original.old)),
    ("a byte of the header", |_, copy, dice| header(copy, dice, 1)),
    ("much of the header", |_, copy, dice| header(copy, dice, 40)),
    ("the header zeroed", |_, copy, _| {
        database(copy, |bytes| bytes.iter_mut().take(PAGE).for_each(|byte| *byte = 0))
    }),
    ("cut anywhere", |_, copy, dice| database(copy, |bytes| bytes.truncate(dice.usize(0..bytes.len())))),
    ("cut between pages", |_, copy, dice| {
        database(copy, |bytes| bytes.truncate(dice.usize(0..bytes.len() / PAGE) * PAGE))
    }),
    ("cut to nothing", |_, copy, _| database(copy, Vec::clear)),
    ("bytes appended", |_, copy, dice| {
        let more = dice.usize(1..20_000);
        database(copy, |bytes| bytes.extend(std::iter::repeat_with(|| dice.u8(..)).take(more)))
    }),
    ("pages appended", |_, copy, dice| {
        database(copy, |bytes| bytes.resize(bytes.len() + dice.usize(1..200) * PAGE, 0))
    }),
    ("the database gone", |_, copy, _| fs::remove_file(copy.join(DATABASE))),
    ("another file in its place", |_, copy, dice| database(copy, |bytes| dice.fill(bytes))),
    ("a list zeroed", |_, copy, dice| list(copy, dice, |bytes, _| bytes.fill(0))),
    ("bits of a list flipped", |_, copy, dice| list(copy, dice, |bytes, dice| flip(bytes, dice))),
    ("a list cut", |_, copy, dice| {
        list(copy, dice, |bytes, dice| bytes.truncate(dice.usize(0..bytes.len())))
    }),
    ("bytes appended to a list", |_, copy, dice| list(copy, dice, |bytes, _| bytes.extend([0; 100]))),
    ("a list gone", |_, copy, dice| fs::remove_file(any_list(copy, dice)?)),
    ("lists swapped", |_, copy, dice| {
        let (one, other) = (any_list(copy, dice)?, any_list(copy, dice)?);
        let bytes = fs::read(&one)?;
        fs::copy(&other, &one)?;
        fs::write(other, bytes)
    }),
    ("a folder of lists gone", |_, copy, dice| fs::remove_dir_all(lists(copy, dice))),
    ("a file in place of a folder of lists", |_, copy, dice| {
        let folder = lists(copy, dice);
        fs::remove_dir_all(&folder)?;
        fs::write(folder, b"?")
    }),
    ("a folder in place of a list", |_, copy, dice| {
        let path = any_list(copy, dice)?;
        fs::remove_file(&path)?;
        fs::create_dir(path)
    }),
    ("strange files", |_, copy, dice| {
        fs::write(lists(copy, dice).join("?"), b"?")?;
        fs::write(lists(copy, dice).join("f".repeat(64)), b"?")
    }),
    ("an owner of noise", |_, copy, dice| {
        let mut noise = vec![0; 1_000];
        dice.fill(&mut noise);
        fs::write(copy.join("owner"), noise)
    }),
];

/// Damages a copy; says how.
pub(crate) fn harm(
    original: &Original,
    copy: &Path,
    number: u32,
    dice: &mut fastrand::Rng,
) -> Result<&'static str, Failure> {
    let (name, way) =
        usize::try_from(number).ok().and_then(|at| WAYS.get(at % WAYS.len())).ok_or("no such way")?;
    way(original, copy, dice)?;
    Ok(name)
}

fn database(copy: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let mut bytes = fs::read(copy.join(DATABASE))?;
    change(&mut bytes);
    fs::write(copy.join(DATABASE), bytes)
}

/// Some bytes of both commit slots and what stands before them.
fn header(copy: &Path, dice: &mut fastrand::Rng, many: usize) -> io::Result<()> {
    database(copy, |bytes| {
        for _ in 0..many {
            if let Some(byte) = bytes.get_mut(dice.usize(0..320)) {
                *byte = dice.u8(..);
            }
        }
    })
}

/// Pages that have something in them.
fn used(bytes: &[u8]) -> Vec<usize> {
    let pages = bytes.chunks(PAGE).enumerate();
    pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect()
}

/// Changes one to three pages.
fn pages(
    copy: &Path,
    dice: &mut fastrand::Rng,
    change: impl Fn(&mut [u8], &mut fastrand::Rng),
) -> io::Result<()> {
    database(copy, |bytes| {
        let used = used(bytes);
        for _ in 0..dice.usize(1..=3) {
            let page = dice.choice(&used).and_then(|at| bytes.chunks_mut(PAGE).nth(*at));
            change(page.unwrap_or_default(), dice);
        }
    })
}

fn flip(bytes: &mut [u8], dice: &mut fastrand::Rng) {
    for _ in 0..dice.usize(1..9) {
        let at = dice.usize(0..bytes.len().max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << dice.u8(0..8);
        }
    }
}

fn swap_pages(_: &Original, copy: &Path, dice: &mut fastrand::Rng) -> io::Result<()> {
    database(copy, |bytes| {
        let used = used(bytes);
        let mut one_of = || dice.choice(&used).copied().unwrap_or_default() * PAGE;
        let (one, other) = (one_of(), one_of());
        let page = |at: usize| bytes.get(at..at + PAGE).map(<[u8]>::to_vec);
        let (first, second) = (page(one), page(other));
        replace(bytes, one, second.as_deref());
        replace(bytes, other, first.as_deref());
    })
}

fn replace(bytes: &mut [u8], at: usize, with: Option<&[u8]>) {
    if let Some((place, with)) = bytes.get_mut(at..at + PAGE).zip(with) {
        place.copy_from_slice(with);
    }
}

/// One of the folders of lists.
fn lists(copy: &Path, dice: &mut fastrand::Rng) -> PathBuf {
    copy.join("txlists").join(format!("{:x}", dice.u8(0..16)))
}

/// The file of a list.
fn any_list(copy: &Path, dice: &mut fastrand::Rng) -> io::Result<PathBuf> {
    let mut all = Vec::new();
    for folder in fs::read_dir(copy.join("txlists"))? {
        for file in fs::read_dir(folder?.path())? {
            all.push(file?.path());
        }
    }
    all.sort();
    dice.choice(&all).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn list(
    copy: &Path,
    dice: &mut fastrand::Rng,
    change: impl FnOnce(&mut Vec<u8>, &mut fastrand::Rng),
) -> io::Result<()> {
    let path = any_list(copy, dice)?;
    let mut bytes = fs::read(&path)?;
    change(&mut bytes, dice);
    fs::write(path, bytes)
}
