//! The packages of an index.

use std::cmp::Ordering;

use dormouse_block::{Digest, Error, Result};
use dormouse_packages::deb822::{Field, Paragraph};
use dormouse_packages::dpkg::{self, MultiArch, Relation, RelationField, Version, is_package_name};

use crate::release::is_relative_path;

/// One binary package that a repository offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedPackage {
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: Version,
    /// Its architecture; `all` for packages of any.
    pub architecture: Box<str>,
    /// Its source package's name, where that is another one.
    source_name: Option<Box<str>>,
    /// Its source package's version, where that is another one.
    source_version: Option<Version>,
    /// Which of [`crate::Repository::suites`] offers it.
    pub suite: usize,
    /// Where its payload is, relative to the repository's folder; it never leads out of that.
    pub filename: Box<str>,
    /// Bytes of the payload.
    pub size: u64,
    /// Digest of the payload.
    pub digest: Digest,
    /// `Installed-Size`, in KiB.
    pub installed_size: Option<u64>,
    /// `Multi-Arch`.
    pub multi_arch: MultiArch,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Protected: yes`.
    pub protected: bool,
    /// `Priority`.
    pub priority: Option<Box<str>>,
    /// `Section`.
    pub section: Option<Box<str>>,
    /// Of a hundred machines, how many are to take it now (`Phased-Update-Percentage`); absent means all.
    pub phased_percentage: Option<u8>,
    relations: Vec<(RelationField, Box<str>)>,
}

impl IndexedPackage {
    /// Its source package's name.
    #[must_use]
    pub fn source_name(&self) -> &str {
        self.source_name.as_deref().unwrap_or(&self.name)
    }

    /// Its source package's version.
    #[must_use]
    pub fn source_version(&self) -> &Version {
        self.source_version.as_ref().unwrap_or(&self.version)
    }

    /// The relations that `field` names; none where the index has no such field.
    ///
    /// # Errors
    /// `Corrupt` when the field does not read.
    pub fn relations(&self, field: RelationField) -> Result<Vec<Relation>> {
        let Some((_, text)) = self.relations.iter().find(|(known, _)| *known == field) else {
            return Ok(Vec::new());
        };
        Relation::parse_all(text).map_err(|error| {
            let what = format!(
                "cannot read {} of {} {}",
                field.as_str(),
                self.name,
                self.version
            );
            Error::new(error.kind(), what).because(error)
        })
    }

    /// Whether it can be installed where the machine's own architecture is `native` and the installed package has
    /// `architecture`: `all` stands for the native one, either way.
    #[must_use]
    pub fn fits(&self, architecture: &str, native: &str) -> bool {
        let plain = |name: &str| name == "all" || name == native;
        *self.architecture == *architecture || (plain(&self.architecture) && plain(architecture))
    }

    /// By name, then the latest version first, then architecture and suite: the order of a repository.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        self.name
            .cmp(&other.name)
            .then_with(|| other.version.cmp(&self.version))
            .then_with(|| self.architecture.cmp(&other.architecture))
            .then_with(|| self.suite.cmp(&other.suite))
            .then_with(|| self.filename.cmp(&other.filename))
    }

    /// Reads one paragraph of a `Packages` file; `suite` is the number to keep with it.
    ///
    /// # Errors
    /// `Corrupt` for a paragraph without name, version, architecture, file, size or SHA-256 digest, and for a bad one.
    pub fn parse(paragraph: Paragraph<'_>, suite: usize) -> Result<Self> {
        let mut draft = Draft::default();
        for field in paragraph.fields() {
            draft.take(field?).map_err(|error| draft.named(error))?;
        }
        draft.finish(suite).map_err(|error| draft.named(error))
    }
}

/// A paragraph as far as it is read.
#[derive(Default)]
struct Draft<'a> {
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
    source: Option<&'a str>,
    filename: &'a str,
    size: Option<u64>,
    digest: Option<Digest>,
    installed_size: Option<u64>,
    multi_arch: MultiArch,
    essential: bool,
    protected: bool,
    priority: Option<&'a str>,
    section: Option<&'a str>,
    phased: Option<u8>,
    relations: Vec<(RelationField, Box<str>)>,
}

impl<'a> Draft<'a> {
    fn take(&mut self, field: Field<'a>) -> Result<()> {
        let bad = || {
            let value = String::from_utf8_lossy(
                field
                    .value
                    .get(..field.value.len().min(80))
                    .unwrap_or_default(),
            );
            Error::corrupt(format!(
                "the field {} has a bad value: {value:?}",
                field.name
            ))
        };
        let number = || field.text()?.parse::<u64>().map_err(|_| bad());
        // By length first: most fields of most packages are of no use here.
        match field.name.len() {
            4 if field.is("Size") => self.size = Some(number()?),
            6 if field.is("Source") => self.source = Some(field.text()?),
            6 if field.is("SHA256") => {
                self.digest = Some(Digest::from_hex(field.text()?).ok_or_else(bad)?);
            }
            7 if field.is("Package") => self.name = field.text()?,
            7 if field.is("Version") => self.version = field.text()?,
            7 if field.is("Section") => self.section = Some(field.text()?),
            8 if field.is("Filename") => self.filename = field.text()?,
            8 if field.is("Priority") => self.priority = Some(field.text()?),
            9 if field.is("Essential") => self.essential = field.value == b"yes",
            9 if field.is("Protected") => self.protected = field.value == b"yes",
            10 if field.is("Multi-Arch") => self.multi_arch = MultiArch::parse(field.text()?)?,
            12 if field.is("Architecture") => self.architecture = field.text()?,
            14 if field.is("Installed-Size") => self.installed_size = Some(number()?),
            24 if field.is("Phased-Update-Percentage") => {
                let percentage = number()?.min(100);
                self.phased = Some(u8::try_from(percentage).map_err(|_| bad())?);
            }
            6..=11 => {
                if let Some(known) = RelationField::from_name(field.name) {
                    self.relations.push((known, field.text()?.into()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn named(&self, error: Error) -> Error {
        let what = format!("cannot read the package {:?} of the index", self.name);
        Error::new(error.kind(), what).because(error)
    }

    fn finish(&mut self, suite: usize) -> Result<IndexedPackage> {
        let missing = |what: &str| Error::corrupt(format!("it has no {what}"));
        if !is_package_name(self.name) {
            return Err(Error::corrupt("a bad or missing package name"));
        }
        let version = Version::parse(self.version)
            .map_err(|error| Error::corrupt("a bad or missing version").because(error))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if self.architecture.is_empty() || !self.architecture.bytes().all(plain) {
            return Err(Error::corrupt("a bad or missing architecture"));
        }
        let filename = self.filename.strip_prefix("./").unwrap_or(self.filename);
        if !is_relative_path(filename) {
            return Err(Error::corrupt(format!(
                "a bad or missing file name: {:?}",
                self.filename
            )));
        }
        let (source_name, source_version) =
            dpkg::source_of(self.source, self.name, Some(&version))?;
        Ok(IndexedPackage {
            name: self.name.into(),
            architecture: self.architecture.into(),
            source_name: (source_name != self.name).then(|| source_name.into()),
            source_version: source_version.filter(|source| source.as_str() != version.as_str()),
            version,
            suite,
            filename: filename.into(),
            size: self.size.ok_or_else(|| missing("size"))?,
            digest: self.digest.ok_or_else(|| missing("SHA-256 digest"))?,
            installed_size: self.installed_size,
            multi_arch: self.multi_arch,
            essential: self.essential,
            protected: self.protected,
            priority: self.priority.map(Into::into),
            section: self.section.map(Into::into),
            phased_percentage: self.phased,
            relations: std::mem::take(&mut self.relations),
        })
    }
}
