//! The installed packages of one guest: a folder `local/NAME-VERSION` with a file `desc` for each.

use dormouse_block::{Error, GuestPath, Locator, Result};
use dormouse_filesystem::{Guest, NodeKind};
use jiff::Timestamp;

use super::Config;
use crate::cataloger::{Cataloger, Catalogue, by_frequency};
use crate::{Family, OsRelease, Package, Purl};

/// Largest `desc` read, in bytes. Real ones have under 20 KiB.
const MAX_DESC: u64 = 4 << 20;
/// Packages of one database. All of Arch has fewer than 20,000.
const MAX_PACKAGES: usize = 200_000;
/// The format described here, as the file `ALPM_DB_VERSION` says it.
const VERSION: &str = "9";

/// One package, as its `desc` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its name (`%NAME%`).
    pub name: String,
    /// Its version (`%VERSION%`), with epoch and release.
    pub version: String,
    /// Its architecture (`%ARCH%`).
    pub architecture: String,
    /// What it was built with (`%BASE%`), where the file says it.
    pub base: Option<String>,
    /// Who built it (`%PACKAGER%`).
    pub packager: Option<String>,
    /// When it was installed (`%INSTALLDATE%`), in seconds since 1970.
    pub install_date: Option<i64>,
    /// Bytes of its files (`%SIZE%`).
    pub size: Option<u64>,
    /// Its groups (`%GROUPS%`).
    pub groups: Vec<String>,
    /// What it provides (`%PROVIDES%`).
    pub provides: Vec<String>,
}

impl Record {
    /// Reads the text of a `desc`.
    ///
    /// # Errors
    /// `Corrupt` for one without name or version, or that is no UTF-8.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(text)
            .map_err(|error| Error::corrupt("it is not UTF-8").because(error))?;
        let mut record = Self::default();
        let mut field = "";
        for line in text.lines() {
            if line.is_empty() {
                field = "";
            } else if field.is_empty() {
                field = line
                    .strip_prefix('%')
                    .and_then(|rest| rest.strip_suffix('%'))
                    .ok_or_else(|| Error::corrupt(format!("a value of no field: {line:?}")))?;
            } else {
                record.take(field, line);
            }
        }
        for (value, what) in [(&record.name, "name"), (&record.version, "version")] {
            if value.is_empty() || value.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(Error::corrupt(format!("it has no good {what}: {value:?}")));
            }
        }
        Ok(record)
    }

    fn take(&mut self, field: &str, value: &str) {
        let text = || value.to_owned();
        match field {
            "NAME" => self.name = text(),
            "VERSION" => self.version = text(),
            "ARCH" => self.architecture = text(),
            "BASE" => self.base = Some(text()),
            "PACKAGER" => self.packager = Some(text()),
            "INSTALLDATE" => self.install_date = value.parse().ok(),
            "SIZE" => self.size = value.parse().ok(),
            "GROUPS" => self.groups.push(text()),
            "PROVIDES" => self.provides.push(text()),
            _ => {}
        }
    }

    fn package(self, os: Option<&OsRelease>, config: &Config) -> Package {
        let distro = os.map(OsRelease::distro).unwrap_or_default();
        let purl = Purl {
            family: Family::Pacman,
            namespace: os.map_or("", |os| &os.id),
            name: &self.name,
            version: &self.version,
            qualifiers: &[("arch", &self.architecture), ("distro", &distro)],
        };
        let mut package = Package::new(
            Family::Pacman,
            &self.name,
            &self.version,
            &self.architecture,
            &purl,
        );
        if let Some(base) = self.base {
            package.source_name = base;
        }
        package.hold = config.holds(&self.name, &self.groups);
        package.vendor = self.packager;
        package.size = self.size;
        package.installed_at = self
            .install_date
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        package
    }
}

/// The cataloger of pacman's databases.
pub(crate) struct Pacman;

impl Cataloger for Pacman {
    fn family(&self) -> Family {
        Family::Pacman
    }

    fn catalogue(&self, guest: &Guest, os: Option<&OsRelease>) -> Result<Option<Catalogue>> {
        let mut catalogue = Catalogue::default();
        let config = Config::read(guest)?;
        let bad = |error| Error::corrupt("bad path").because(error);
        let local = GuestPath::new(&config.database)
            .and_then(|path| path.join("local"))
            .map_err(bad)?;
        let Some(entries) = guest.read_dir(&local)? else {
            return Ok(None);
        };
        let mut packages = 0_usize;
        for entry in entries {
            let path = local.join(&entry.name).map_err(bad)?;
            if entry.name == b"ALPM_DB_VERSION" {
                let version = guest.read(&path, 64)?.unwrap_or_default();
                let version = String::from_utf8_lossy(&version);
                if version.trim() != VERSION {
                    let what = format!("a pacman database of version {:?}", version.trim());
                    catalogue.gap(Error::unsupported(what), &path)?;
                }
                continue;
            }
            if entry.kind.is_some_and(|kind| kind != NodeKind::Directory) {
                continue;
            }
            packages = packages.saturating_add(1);
            if packages > MAX_PACKAGES {
                let what = format!("more than {MAX_PACKAGES} packages");
                catalogue.gap(Error::limit(what), &local)?;
                break;
            }
            let path = path.join("desc").map_err(bad)?;
            let record = guest
                .read(&path, MAX_DESC)
                .and_then(|text| text.ok_or_else(|| Error::corrupt("the package has no desc")))
                .and_then(|text| Record::parse(&text))
                .map_err(|error| error.located(&Locator::default().path(path.clone())));
            match record {
                Ok(record) => {
                    catalogue.packages.insert(record.package(os, &config));
                }
                Err(error) => catalogue.gap(error, &path)?,
            }
        }
        catalogue.files.push((local, catalogue.packages.len()));
        let all = catalogue
            .packages
            .iter()
            .map(|one| one.architecture.as_str());
        catalogue.architectures = by_frequency(all, "any");
        Ok(Some(catalogue))
    }
}
