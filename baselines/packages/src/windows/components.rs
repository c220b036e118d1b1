//! Component packages: what Component Based Servicing has installed, staged and superseded, and the updates they came with.

use dormouse_block::{Error, Gap, GuestPath, Locator, Result};
use dormouse_filesystem::Guest;
use jiff::Timestamp;

use super::config::open_system;
use super::installation::{architectures, number, text};
use super::regf::{Hive, Key};
use crate::cataloger::passes_on;
use crate::{Cataloger, Catalogue, Family, OsRelease, Package, Purl, State};

/// Where they stand in `SOFTWARE`.
const PACKAGES: &str = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages";
/// Where Windows XP and Server 2003 keep the updates installed.
const HOTFIXES: &str = r"Microsoft\Windows NT\CurrentVersion\HotFix";
/// Packages read. A Windows of many years has some 10,000.
const MAX_PACKAGES: usize = 200_000;

/// What `CurrentState` says, in our words; `None` for a package of which nothing is there.
fn state(number: u32) -> Result<Option<State>> {
    Ok(match number {
        // Absent, resolving, resolved.
        0x00 | 0x10 | 0x20 => None,
        // Its files are being copied into the store.
        0x30 => Some(State::HalfInstalled),
        // They are there, and nothing is made of them: a feature that is switched off.
        0x40 => Some(State::Disabled),
        0x50 => Some(State::Superseded),
        // To be installed at the next start.
        0x60 => Some(State::Unpacked),
        // To be removed at the next start, or installed in part.
        0x05 | 0x65 => Some(State::HalfConfigured),
        // Installed, and installed for good.
        0x70 | 0x80 => Some(State::Installed),
        other => {
            return Err(Error::unsupported(format!(
                "a component package in state {other:#x}"
            )));
        }
    })
}

/// A package's full name: `Package_for_KB976902~31bf3856ad364e35~x86~~6.1.1.17514`.
#[derive(Debug, PartialEq, Eq)]
struct Identity<'a> {
    name: &'a str,
    architecture: &'a str,
    language: &'a str,
    version: &'a str,
}

impl<'a> Identity<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let parts: Vec<&str> = text.split('~').collect();
        match parts.as_slice() {
            [name, _key, architecture, language, version] if !name.is_empty() => Ok(Self {
                name,
                architecture,
                language,
                version,
            }),
            _ => Err(Error::corrupt(format!(
                "{text:?} is no component package's name"
            ))),
        }
    }
}

/// The first `KB` with digits in a text: the number of the article that describes an update.
pub(super) fn article(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let mut rest = upper.as_str();
    while let Some(at) = rest.find("KB") {
        rest = rest.get(at.saturating_add(2)..)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if (5..=9).contains(&digits.len()) {
            return Some(format!("KB{digits}"));
        }
    }
    None
}

/// A time in units of 100 ns since 1601.
fn filetime(high: u32, low: u32) -> Option<Timestamp> {
    let ticks = u64::from(high) << 32 | u64::from(low);
    let seconds = i64::try_from(ticks / 10_000_000)
        .ok()?
        .checked_sub(11_644_473_600)?;
    (ticks != 0)
        .then(|| Timestamp::from_second(seconds).ok())
        .flatten()
}

fn package(key: &Key<'_>) -> Result<Option<Package>> {
    let identity = Identity::parse(key.name())?;
    let current = number(key, "CurrentState")?
        .ok_or_else(|| Error::corrupt("a component package without a state"))?;
    let Some(state) = state(current)? else {
        return Ok(None);
    };
    let purl = Purl {
        family: Family::Windows,
        namespace: "microsoft",
        name: identity.name,
        version: identity.version,
        qualifiers: &[("arch", identity.architecture), ("lang", identity.language)],
    };
    let mut package = Package::new(
        Family::Windows,
        identity.name,
        identity.version,
        identity.architecture,
        &purl,
    );
    // Rollups name their article only in the file that they came in.
    let article = match article(identity.name) {
        None => text(key, "InstallLocation")?.as_deref().and_then(article),
        article => article,
    };
    if let Some(article) = article {
        package.source_name = article;
    }
    package.state = state;
    package.vendor = Some("Microsoft Corporation".into());
    package.installed_at = match (
        number(key, "InstallTimeHigh")?,
        number(key, "InstallTimeLow")?,
    ) {
        (Some(high), Some(low)) => filetime(high, low),
        _ => None,
    };
    Ok(Some(package))
}

fn hotfix(key: &Key<'_>) -> Result<Option<Package>> {
    if number(key, "Installed")? == Some(0) {
        return Ok(None);
    }
    let purl = Purl {
        family: Family::Windows,
        namespace: "microsoft",
        name: key.name(),
        version: "",
        qualifiers: &[],
    };
    Ok(Some(Package::new(
        Family::Windows,
        key.name(),
        "",
        "",
        &purl,
    )))
}

/// Reads the packages that stand below one key.
fn read(
    hive: &Hive,
    path: &GuestPath,
    below: &str,
    take: fn(&Key<'_>) -> Result<Option<Package>>,
    catalogue: &mut Catalogue,
) -> Result<()> {
    let Some(key) = hive.key(below)? else {
        return Ok(());
    };
    let mut records = 0_usize;
    for (index, child) in key.subkeys()?.enumerate() {
        if index >= MAX_PACKAGES {
            return Err(Error::limit("more than 200000 component packages"));
        }
        let read = child.and_then(|child| {
            take(&child).map_err(|error| {
                let name = child.name().to_owned();
                Error::new(error.kind(), format!("component package {name}")).because(error)
            })
        });
        match read {
            Ok(Some(package)) => {
                records = records.saturating_add(1);
                catalogue.packages.insert(package);
            }
            Ok(None) => {}
            Err(error) => catalogue.gap(error, path)?,
        }
    }
    if records != 0 || below == PACKAGES {
        catalogue.files.push((path.clone(), records));
    }
    Ok(())
}

/// The cataloger of Windows' own packages.
pub(crate) struct Components;

impl Cataloger for Components {
    fn family(&self) -> Family {
        Family::Windows
    }

    fn catalogue(&self, guest: &Guest, _os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let Some(software) = open_system(guest, "SOFTWARE")? else {
            return Ok(None);
        };
        let at = Locator::default().path(software.path.clone());
        let mut catalogue = Catalogue::default();
        catalogue.gaps.extend(software.gap);
        let hive = &software.hive;
        read(hive, &software.path, PACKAGES, package, &mut catalogue)
            .and_then(|()| read(hive, &software.path, HOTFIXES, hotfix, &mut catalogue))
            .map_err(|error| error.located(&at))?;
        match architectures(guest, hive) {
            Ok(architectures) => catalogue.architectures = architectures,
            Err(error) if passes_on(&error) => return Err(error),
            // Which processor it is for says nothing of packages.
            Err(error) => catalogue.gaps.push(Gap {
                may_hide_packages: false,
                ..Gap::from_error(&error, &at)
            }),
        }
        Ok(Some(catalogue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_are_found_in_names_and_files() {
        assert_eq!(
            article("Package_1_for_KB2281679").as_deref(),
            Some("KB2281679")
        );
        assert_eq!(
            article(r"\\?\C:\x\Windows10.0-kb5005565-x64.cab").as_deref(),
            Some("KB5005565")
        );
        assert_eq!(article("KBD-Keyboard-KB12"), None);
        assert_eq!(article("aKB"), None);
    }

    #[test]
    fn names_have_five_parts() {
        let identity = Identity::parse(
            "Microsoft-Windows-Foundation~31bf3856ad364e35~amd64~de-DE~10.0.19041.1",
        )
        .unwrap();
        assert_eq!(
            (identity.architecture, identity.language, identity.version),
            ("amd64", "de-DE", "10.0.19041.1")
        );
        assert!(Identity::parse("x~y").is_err());
    }

    #[test]
    fn times_are_counted_from_1601() {
        assert_eq!(
            filetime(0x01cc_753c, 0x0d6f_ca51).unwrap().to_string(),
            "2011-09-17T13:16:47Z"
        );
        assert_eq!(filetime(0, 0), None);
    }

    #[test]
    fn an_unknown_state_is_not_guessed() {
        assert!(state(0x71).is_err());
    }
}
