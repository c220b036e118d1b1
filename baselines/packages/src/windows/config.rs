//! Where a guest keeps its registry.

use std::sync::Arc;

use dormouse_block::{Error, Gap, GuestPath, Locator, Result, Source};
use dormouse_filesystem::{Follow, Guest};

use super::regf::{Condition, Hive};
use crate::guest_file::{GuestFile, Scattered};

/// Folders in which Windows installs itself, newest fashion first.
const SYSTEM_ROOTS: [&str; 2] = ["Windows", "WINNT"];
/// Endings of the transaction logs of a hive.
const LOGS: [&str; 3] = [".LOG", ".LOG1", ".LOG2"];

/// A hive of the guest.
pub(super) struct Opened {
    pub(super) hive: Hive,
    pub(super) path: GuestPath,
    /// What is not known of it, where it was left in the middle of a write and no log makes it whole.
    pub(super) gap: Option<Gap>,
}

/// The path of `names` below the guest's root, with letters of either case; on filesystems that do not tell them apart the first
/// look finds it.
pub(super) fn find(guest: &Guest, names: &[&str]) -> Result<Option<GuestPath>> {
    let mut here = GuestPath::root();
    for name in names {
        match child(guest, &here, name)? {
            Some(path) => here = path,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

fn child(guest: &Guest, folder: &GuestPath, name: &str) -> Result<Option<GuestPath>> {
    let bad = |error| Error::corrupt("bad name of a file").because(error);
    let path = folder.join(name).map_err(bad)?;
    if guest.metadata(&path, Follow::Links)?.is_some() {
        return Ok(Some(path));
    }
    let entries = guest.read_dir(folder)?.unwrap_or_default();
    let other = entries
        .into_iter()
        .find(|entry| entry.name.eq_ignore_ascii_case(name.as_bytes()));
    other
        .map(|entry| folder.join(entry.name).map_err(bad))
        .transpose()
}

/// One of the machine's hives, such as `SOFTWARE`; `None` when the guest is no Windows.
pub(super) fn open_system(guest: &Guest, name: &str) -> Result<Option<Opened>> {
    for root in SYSTEM_ROOTS {
        if let Some(path) = find(guest, &[root, "System32", "config", name])? {
            return open(guest, path);
        }
    }
    Ok(None)
}

/// The hive at `path`, with the logs beside it.
pub(super) fn open(guest: &Guest, path: GuestPath) -> Result<Option<Opened>> {
    let at = Locator::default().path(path.clone());
    read(guest, path).map_err(|error| error.located(&at))
}

fn read(guest: &Guest, path: GuestPath) -> Result<Option<Opened>> {
    let Some(file) = GuestFile::open(guest, &path)? else {
        return Ok(None);
    };
    let mut logs: Vec<Arc<dyn Source>> = Vec::new();
    if let (Some(folder), Some(name)) = (path.parent(), path.name()) {
        let name = String::from_utf8_lossy(name).into_owned();
        for ending in LOGS {
            if let Some(log) = child(guest, &folder, &format!("{name}{ending}"))?
                && let Some(log) = GuestFile::open(guest, &log)?
            {
                logs.push(Arc::new(Scattered::from(log)));
            }
        }
    }
    let hive = Hive::open(Arc::new(Scattered::from(file)), &logs)?;
    let gap = match hive.condition() {
        Condition::Dirty(why) => {
            let why = format!("the registry hive was left in the middle of a write, and {why}");
            let at = Locator::default().path(path.clone());
            Some(Gap::from_error(&Error::corrupt(why), &at))
        }
        Condition::Clean | Condition::Recovered { .. } => None,
    };
    Ok(Some(Opened { hive, path, gap }))
}
