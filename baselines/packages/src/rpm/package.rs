//! From a header to a package.

use base64ct::{Base64, Encoding as _};
use dormouse_block::{Error, Result};
use jiff::Timestamp;

use super::header::{Header, tag};
use super::key_id;
use crate::{Family, Kind, OsRelease, Package, Purl};

/// Longest text taken into an inventory, in bytes; names and versions have fewer than 200.
const MAX_TEXT: usize = 4096;
/// The name of the records that are keys.
const KEY: &str = "gpg-pubkey";

/// What a header says of its package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageHeader {
    /// Its name.
    pub name: String,
    /// Its epoch, where it says one.
    pub epoch: Option<u32>,
    /// Its version.
    pub version: String,
    /// Its release.
    pub release: String,
    /// Its architecture; keys have none.
    pub architecture: Option<String>,
    /// The file name of its source package.
    pub source_rpm: Option<String>,
    /// Who made it.
    pub vendor: Option<String>,
    /// The module and stream that it was built in.
    pub module: Option<String>,
    /// When it was installed, in seconds since 1970.
    pub install_time: Option<u64>,
    /// What its files take, in bytes.
    pub size: Option<u64>,
    /// The id of the key that it is signed with, in lower-case hexadecimal.
    pub signing_key: Option<String>,
}

impl PackageHeader {
    /// Reads what the inventory wants of a header.
    ///
    /// # Errors
    /// `Corrupt` for a header without name, version or release, or with one that is no plain text.
    pub fn read(header: &Header<'_>) -> Result<Self> {
        let name = required(header, tag::NAME, "name")?;
        let named = |error: Error| {
            Error::new(error.kind(), format!("cannot read the header of {name}")).because(error)
        };
        Self::read_named(header, name.clone()).map_err(named)
    }

    fn read_named(header: &Header<'_>, name: String) -> Result<Self> {
        // Absent or, for some keys, `(none)`.
        let optional = |tag| -> Result<Option<String>> {
            let text = header.text(tag)?.filter(|text| *text != b"(none)");
            text.map(|text| plain(text, "field")).transpose()
        };
        let epoch = header.number(tag::EPOCH).map(u32::try_from).transpose();
        Ok(Self {
            epoch: epoch.map_err(|_| Error::corrupt("an epoch of more than 32 bits"))?,
            version: required(header, tag::VERSION, "version")?,
            release: required(header, tag::RELEASE, "release")?,
            architecture: optional(tag::ARCH)?,
            source_rpm: optional(tag::SOURCE_RPM)?,
            vendor: optional(tag::VENDOR)?,
            module: optional(tag::MODULARITY_LABEL)?,
            install_time: header.number(tag::INSTALL_TIME),
            size: header
                .number(tag::LONG_SIZE)
                .or_else(|| header.number(tag::SIZE)),
            signing_key: signing_key(header),
            name,
        })
    }

    /// The version as rpm compares it: `[epoch:]version-release`, an epoch of 0 left out.
    #[must_use]
    pub fn evr(&self) -> String {
        match self.epoch {
            Some(epoch) if epoch > 0 => format!("{epoch}:{}-{}", self.version, self.release),
            _ => format!("{}-{}", self.version, self.release),
        }
    }

    /// Name and version of the source package, from the file name `name-version-release.src.rpm`.
    fn source(&self) -> Option<(&str, String)> {
        let file = self.source_rpm.as_deref()?.strip_suffix(".rpm")?;
        let (stem, _) = file.rsplit_once('.')?;
        let (rest, release) = stem.rsplit_once('-')?;
        let (name, version) = rest.rsplit_once('-')?;
        (!name.is_empty()).then(|| (name, format!("{version}-{release}")))
    }

    pub(super) fn into_package(self, os: Option<&OsRelease>) -> Package {
        let distro = os.map(OsRelease::distro).unwrap_or_default();
        let epoch = self.epoch.filter(|epoch| *epoch > 0);
        let purl = Purl {
            family: Family::Rpm,
            namespace: os.map_or("", |os| &os.id),
            name: &self.name,
            version: &format!("{}-{}", self.version, self.release),
            qualifiers: &[
                ("arch", self.architecture.as_deref().unwrap_or_default()),
                ("distro", &distro),
                (
                    "epoch",
                    &epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
                ),
                ("upstream", self.source_rpm.as_deref().unwrap_or_default()),
            ],
        };
        let evr = self.evr();
        let architecture = self.architecture.as_deref().unwrap_or_default();
        let mut package = Package::new(Family::Rpm, &self.name, &evr, architecture, &purl);
        if let Some((name, version)) = self.source() {
            name.clone_into(&mut package.source_name);
            package.source_version = version;
        }
        if self.name == KEY {
            package.kind = Kind::Key;
        }
        package.installed_at = self
            .install_time
            .and_then(|seconds| i64::try_from(seconds).ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        package.vendor = self.vendor;
        package.module = self.module;
        package.size = self.size;
        package.signing_key = self.signing_key;
        package
    }
}

fn plain(text: &[u8], what: &str) -> Result<String> {
    let bad = || {
        let start = String::from_utf8_lossy(text.get(..40).unwrap_or(text));
        Error::corrupt(format!("a bad {what}: {start:?}"))
    };
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(bad());
    }
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    if text.chars().any(char::is_control) {
        return Err(bad());
    }
    Ok(text.to_owned())
}

fn required(header: &Header<'_>, tag: u32, what: &str) -> Result<String> {
    let text = header.text(tag)?;
    let text = text.ok_or_else(|| Error::corrupt(format!("a header without a {what}")))?;
    plain(text, what)
}

/// The key of the newest kind of signature that the header has.
fn signing_key(header: &Header<'_>) -> Option<String> {
    let modern = header
        .texts(tag::OPENPGP)
        .ok()
        .flatten()
        .and_then(|mut texts| {
            texts.find_map(|text| {
                let text = std::str::from_utf8(text.get(..MAX_TEXT).unwrap_or(text)).ok()?;
                let packet = Base64::decode_vec(text).ok()?;
                key_id::of_signature(&packet)
            })
        });
    let of_header = [tag::RSA_HEADER, tag::DSA_HEADER];
    let of_package = [tag::SIG_PGP, tag::SIG_GPG];
    modern.or_else(|| {
        of_header
            .into_iter()
            .chain(of_package)
            .find_map(|tag| key_id::of_signature(header.bytes(tag)?))
    })
}
