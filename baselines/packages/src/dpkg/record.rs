//! One package's paragraph in the database.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use dormouse_block::{Error, GuestPath, Result};
use serde::{Deserialize, Serialize};

use super::{Conffile, Relation, RelationField, State, Status, Version, is_package_name};
use crate::deb822::{Field, Paragraph};

/// Longest architecture name accepted, in bytes. Real ones have fewer than 20.
const MAX_ARCHITECTURE: usize = 64;

/// What a package of one architecture may do for packages of others (`Multi-Arch`).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum MultiArch {
    /// Nothing.
    #[default]
    No,
    /// It can be installed for several architectures at once.
    Same,
    /// It satisfies relations of packages of any architecture.
    Foreign,
    /// It does so for relations that say `:any`.
    Allowed,
}

impl MultiArch {
    /// Reads the field's value.
    ///
    /// # Errors
    /// `Corrupt` for a word that dpkg does not know.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "no" => Ok(Self::No),
            "same" => Ok(Self::Same),
            "foreign" => Ok(Self::Foreign),
            "allowed" => Ok(Self::Allowed),
            _ => Err(Error::corrupt(format!(
                "an unknown Multi-Arch value: {word:?}"
            ))),
        }
    }
}

/// One package of one architecture, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its architecture; empty only where the record has none, as those of packages that are not installed may.
    pub architecture: String,
    /// Its version; absent only where nothing of it is installed.
    pub version: Option<Version>,
    /// The version last configured, where that is another one and files of it are there.
    pub config_version: Option<Version>,
    /// Wanted, flagged, and how far it is.
    pub status: Status,
    /// Name of its source package.
    pub source_name: String,
    /// Version of its source package; absent only where `version` is.
    pub source_version: Option<Version>,
    /// The system cannot do without it (`Essential: yes`).
    pub essential: bool,
    /// The system cannot start without it (`Protected: yes`).
    pub protected: bool,
    /// `Multi-Arch`.
    pub multi_arch: MultiArch,
    /// `Priority`, in the file's own word.
    pub priority: Option<String>,
    /// `Section`.
    pub section: Option<String>,
    /// `Installed-Size`, in KiB.
    pub installed_size: Option<u64>,
    /// `Conffiles`.
    pub conffiles: Vec<Conffile>,
    /// `Triggers-Pending`: triggers that it has not processed yet.
    pub triggers_pending: Vec<String>,
    /// `Triggers-Awaited`: packages whose trigger processing it awaits.
    pub triggers_awaited: Vec<String>,
    /// The file that holds it.
    pub file: GuestPath,
    raw: Raw,
}

/// A paragraph's place in the text of its file, which all records of that share.
#[derive(Clone)]
struct Raw {
    text: Arc<Vec<u8>>,
    place: Range<usize>,
}

impl Raw {
    fn bytes(&self) -> &[u8] {
        self.text.get(self.place.clone()).unwrap_or_default()
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Raw {}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}

/// What to make of a paragraph without a `Status` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statusless {
    /// It is broken: `status` and its journal.
    IsCorrupt,
    /// It is installed: `status.d`, which images without dpkg carry.
    IsInstalled,
}

impl Record {
    /// Reads the paragraph that begins at byte `from` of `text`.
    pub(super) fn parse(
        text: &Arc<Vec<u8>>,
        (from, paragraph): (usize, Paragraph<'_>),
        file: &GuestPath,
        statusless: Statusless,
    ) -> Result<Self> {
        let mut seen = Seen::default();
        let mut record = Self {
            name: String::new(),
            architecture: String::new(),
            version: None,
            config_version: None,
            status: Status::INSTALLED,
            source_name: String::new(),
            source_version: None,
            essential: false,
            protected: false,
            multi_arch: MultiArch::No,
            priority: None,
            section: None,
            installed_size: None,
            conffiles: Vec::new(),
            triggers_pending: Vec::new(),
            triggers_awaited: Vec::new(),
            file: file.clone(),
            raw: Raw {
                text: text.clone(),
                place: from..from.saturating_add(paragraph.raw().len()),
            },
        };
        let mut source = None;
        for field in paragraph.fields() {
            let field = field.map_err(|error| record.named(error))?;
            record
                .take(field, &mut seen, &mut source)
                .map_err(|error| record.named(error))?;
        }
        if record.name.is_empty() {
            return Err(Error::corrupt("a record without a package name"));
        }
        if !seen.status && statusless == Statusless::IsCorrupt {
            return Err(record.named(Error::corrupt("a record without a status")));
        }
        if record.version.is_none() && record.status.state.may_have_files() {
            return Err(record.named(Error::corrupt("an installed package without a version")));
        }
        let (source_name, source_version) =
            source_of(source, &record.name, record.version.as_ref())
                .map_err(|error| record.named(error))?;
        record.source_name = source_name;
        record.source_version = source_version;
        Ok(record)
    }

    fn take<'a>(
        &mut self,
        field: Field<'a>,
        seen: &mut Seen,
        source: &mut Option<&'a str>,
    ) -> Result<()> {
        let twice = || Error::corrupt(format!("the field {} is there twice", field.name));
        let once = |fresh: bool| if fresh { Ok(()) } else { Err(twice()) };
        // By length first: most fields are of no interest, and there are many.
        match field.name.len() {
            6 if field.is("Status") => {
                once(!std::mem::replace(&mut seen.status, true))?;
                let text = field.text()?;
                self.status = text
                    .parse()
                    .map_err(|_| Error::corrupt(format!("an unknown status: {text:?}")))?;
            }
            6 if field.is("Source") => once(source.replace(field.text()?).is_none())?,
            7 if field.is("Package") => {
                once(self.name.is_empty())?;
                let name = field.text()?;
                if !is_package_name(name) {
                    return Err(Error::corrupt(format!("a bad package name: {name:?}")));
                }
                name.clone_into(&mut self.name);
            }
            7 if field.is("Version") => {
                once(self.version.replace(version(&field)?).is_none())?;
            }
            7 if field.is("Section") => once(self.section.replace(field.text()?.into()).is_none())?,
            8 if field.is("Priority") => {
                once(self.priority.replace(field.text()?.into()).is_none())?;
            }
            9 if field.is("Essential") => self.essential = field.value == b"yes",
            9 if field.is("Protected") => self.protected = field.value == b"yes",
            9 if field.is("Conffiles") => {
                once(self.conffiles.is_empty())?;
                self.conffiles = Conffile::parse_all(field.value)?;
            }
            10 if field.is("Multi-Arch") => self.multi_arch = MultiArch::parse(field.text()?)?,
            12 if field.is("Architecture") => {
                once(self.architecture.is_empty())?;
                self.architecture = architecture(field.text()?)?.to_owned();
            }
            14 if field.is("Installed-Size") => {
                self.installed_size = field.text()?.parse().ok();
            }
            14 if field.is("Config-Version") => {
                once(self.config_version.replace(version(&field)?).is_none())?;
            }
            16 if field.is("Triggers-Pending") => self.triggers_pending = words(field.text()?),
            16 if field.is("Triggers-Awaited") => self.triggers_awaited = words(field.text()?),
            _ => {}
        }
        Ok(())
    }

    fn named(&self, error: Error) -> Error {
        if self.name.is_empty() {
            return error;
        }
        Error::new(
            error.kind(),
            format!("cannot read the record of {}", self.name),
        )
        .because(error)
    }

    /// The paragraph as it stands in the file, without the empty line after it.
    #[must_use]
    pub fn paragraph(&self) -> Paragraph<'_> {
        Paragraph::new(self.raw.bytes())
    }

    /// The value of any field, in the file's own bytes.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        // The record was walked to its end when it was read.
        self.paragraph().get(name).ok().flatten()
    }

    /// The relations that `field` names; none where the record has no such field.
    ///
    /// # Errors
    /// `Corrupt` when the field does not read.
    pub fn relations(&self, field: RelationField) -> Result<Vec<Relation>> {
        let Some(value) = self.field(field.as_str()) else {
            return Ok(Vec::new());
        };
        let text = std::str::from_utf8(value)
            .map_err(|error| Error::corrupt("a relation is not UTF-8").because(error));
        text.and_then(Relation::parse_all)
            .map_err(|error| self.named(error))
    }

    /// Whether the administrator holds it at its version.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.status.want == super::Want::Hold
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.status.state
    }

    /// The file `<this>.list` in `info/`, and its fellows: the name, with the architecture where several may be
    /// installed at once.
    #[must_use]
    pub fn info_name(&self) -> String {
        if self.multi_arch == MultiArch::Same {
            format!("{}:{}", self.name, self.architecture)
        } else {
            self.name.clone()
        }
    }
}

#[derive(Default)]
struct Seen {
    status: bool,
}

fn version(field: &Field<'_>) -> Result<Version> {
    let text = field.text()?;
    Version::parse(text).map_err(|error| {
        Error::corrupt(format!(
            "the field {} has a bad value: {text:?}",
            field.name
        ))
        .because(error)
    })
}

fn architecture(name: &str) -> Result<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > MAX_ARCHITECTURE || !name.bytes().all(plain) {
        return Err(Error::corrupt(format!("a bad architecture name: {name:?}")));
    }
    Ok(name)
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Name and version of the source package, from a `Source` field such as `glibc (2.36-9)`; both are the binary
/// package's where the field does not say otherwise (Policy 5.6.1).
///
/// # Errors
/// `Corrupt` for a bad name or version.
pub fn source_of(
    field: Option<&str>,
    name: &str,
    version: Option<&Version>,
) -> Result<(String, Option<Version>)> {
    let Some(field) = field else {
        return Ok((name.to_owned(), version.cloned()));
    };
    let bad = || Error::corrupt(format!("a bad source package: {field:?}"));
    let (source, bound) = match field.split_once('(') {
        Some((source, bound)) => (
            source,
            Some(bound.trim_end().strip_suffix(')').ok_or_else(bad)?),
        ),
        None => (field, None),
    };
    let source = source.trim();
    if !is_package_name(source) {
        return Err(bad());
    }
    let version = match bound {
        Some(bound) => Some(Version::parse(bound).map_err(|error| bad().because(error))?),
        None => version.cloned(),
    };
    Ok((source.to_owned(), version))
}
