//! Applications: what Windows offers to uninstall, for everybody and for each user.

use std::collections::BTreeSet;

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::Guest;

use super::components::article;
use super::config::{Opened, find, open, open_system};
use super::installation::{architectures, text};
use super::regf::Key;
use crate::cataloger::passes_on;
use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl};

/// Where they stand in a hive: programs of the machine's own word size, and of 32 bits on a machine of 64.
const OWN: &str = r"Microsoft\Windows\CurrentVersion\Uninstall";
const OF_32_BITS: &str = r"Wow6432Node\Microsoft\Windows\CurrentVersion\Uninstall";
/// The users of the machine, in `SOFTWARE`.
const PROFILES: &str = r"Microsoft\Windows NT\CurrentVersion\ProfileList";
/// Applications read of one hive.
const MAX_APPLICATIONS: usize = 100_000;
/// Users whose hives are read.
const MAX_USERS: usize = 10_000;

/// An entry of the list. Windows shows those that have a name; the others are parts of something else, and it lists them nowhere.
fn package(key: &Key<'_>, architecture: &str, hive: &GuestPath) -> Result<Option<Package>> {
    let Some(name) = text(key, "DisplayName")? else {
        return Ok(None);
    };
    let version = text(key, "DisplayVersion")?.unwrap_or_default();
    let vendor = text(key, "Publisher")?;
    let purl = Purl {
        family: Family::WindowsApplication,
        namespace: vendor.as_deref().unwrap_or_default(),
        name: &name,
        version: &version,
        qualifiers: &[("arch", architecture)],
    };
    let mut package = Package::new(
        Family::WindowsApplication,
        &name,
        &version,
        architecture,
        &purl,
    );
    // An update of an application stands in the list beside it.
    if text(key, "ParentKeyName")?.is_some()
        && let Some(article) = article(&name)
    {
        package.source_name = article;
    }
    package.vendor = vendor;
    package.location = Some(hive.clone());
    Ok(Some(package))
}

/// The lists of one hive; `prefix` leads to what is `SOFTWARE`'s root there.
fn read(opened: Opened, prefix: &str, own: &str, catalogue: &mut Catalogue) -> Result<()> {
    let mut records = 0_usize;
    for (below, architecture) in [(OWN, own), (OF_32_BITS, "x86")] {
        let Some(key) = opened.hive.key(&format!("{prefix}{below}"))? else {
            continue;
        };
        for (index, child) in key.subkeys()?.enumerate() {
            if index >= MAX_APPLICATIONS {
                return Err(Error::limit("more than 100000 applications"));
            }
            match child.and_then(|child| package(&child, architecture, &opened.path)) {
                Ok(Some(package)) => {
                    records = records.saturating_add(1);
                    catalogue.packages.insert(package);
                }
                Ok(None) => {}
                Err(error) => catalogue.gap(error, &opened.path)?,
            }
        }
    }
    catalogue.gaps.extend(opened.gap);
    catalogue.files.push((opened.path, records));
    Ok(())
}

/// The folders of the machine's users, on the drive that Windows is on; those on others are gaps.
fn users(software: &Opened, catalogue: &mut Catalogue) -> Result<BTreeSet<Vec<String>>> {
    let mut folders = BTreeSet::new();
    let Some(key) = software.hive.key(PROFILES)? else {
        return Ok(folders);
    };
    let root = match software.hive.key(r"Microsoft\Windows NT\CurrentVersion")? {
        Some(key) => text(&key, "SystemRoot")?.unwrap_or_default(),
        None => String::new(),
    };
    let drive = root.get(..2).unwrap_or("C:");
    for (index, user) in key.subkeys()?.enumerate() {
        if index >= MAX_USERS {
            return Err(Error::limit("more than 10000 users"));
        }
        let Some(path) = text(&user?, "ProfileImagePath")? else {
            continue;
        };
        let path = variable(&path, "%SystemRoot%", &root);
        let path = variable(&path, "%SystemDrive%", drive);
        match path.get(..2) {
            Some(on) if on.eq_ignore_ascii_case(drive) => {
                let names = path.get(2..).unwrap_or_default().split('\\');
                folders.insert(
                    names
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned)
                        .collect(),
                );
            }
            _ => {
                let why = format!("the user's folder {path} is on another drive");
                catalogue.gap(Error::unsupported(why), &software.path)?;
            }
        }
    }
    Ok(folders)
}

/// `path` with the variable that it may begin with replaced.
fn variable(path: &str, name: &str, value: &str) -> String {
    match path.get(..name.len()) {
        Some(start) if start.eq_ignore_ascii_case(name) => {
            format!("{value}{}", path.get(name.len()..).unwrap_or_default())
        }
        _ => path.to_owned(),
    }
}

/// The cataloger of applications that Windows knows how to uninstall.
pub(crate) struct Applications;

impl Cataloger for Applications {
    fn family(&self) -> Family {
        Family::WindowsApplication
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let Some(software) = open_system(guest, "SOFTWARE")? else {
            return Ok(None);
        };
        let mut catalogue = Catalogue::default();
        let at = Locator::default().path(software.path.clone());
        let own = match architectures(guest, &software.hive) {
            Ok(all) => all.into_iter().next().unwrap_or_default(),
            Err(error) if passes_on(&error) => return Err(error),
            // What cannot be read of it stands in the gaps of the system's own packages.
            Err(_) => String::new(),
        };
        let users = users(&software, &mut catalogue).map_err(|error| error.located(&at))?;
        read(software, "", &own, &mut catalogue).map_err(|error| error.located(&at))?;
        for folder in users {
            let mut names: Vec<&str> = folder.iter().map(String::as_str).collect();
            names.push("NTUSER.DAT");
            let Some(path) = find(guest, &names)? else {
                continue;
            };
            let read = open(guest, path.clone()).and_then(|hive| match hive {
                Some(hive) => read(hive, r"Software\", &own, &mut catalogue),
                None => Ok(()),
            });
            if let Err(error) = read {
                catalogue.gap(error, &path)?;
            }
        }
        Ok(Some(catalogue))
    }
}
