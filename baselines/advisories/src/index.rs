//! The packages of an index.

use std::cmp::Ordering;

use dormouse_block::{Digest, Error, Result};
use dormouse_packages::deb822::Paragraph;
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
    /// Which component of the suite, such as `main`; empty in a flat repository.
    pub component: Box<str>,
    /// Digest of the index that it stands in.
    pub index: Option<Digest>,
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
            let field = field?;
            if let Some(known) = Known::named(field.name.as_bytes()) {
                draft
                    .set(known, std::str::from_utf8(field.value).ok())
                    .map_err(|error| draft.named(error))?;
            }
        }
        draft.finish(suite).map_err(|error| draft.named(error))
    }
}

/// A field of an index that is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Known {
    Package,
    Version,
    Architecture,
    Source,
    Filename,
    Size,
    Sha256,
    InstalledSize,
    MultiArch,
    Essential,
    Protected,
    Priority,
    Section,
    Phased,
    PreDepends,
    Depends,
    Recommends,
    Suggests,
    Enhances,
    Breaks,
    Conflicts,
    Provides,
    Replaces,
}

impl Known {
    const COUNT: usize = 23;
    const RELATIONS: [(Self, RelationField); 9] = [
        (Self::PreDepends, RelationField::PreDepends),
        (Self::Depends, RelationField::Depends),
        (Self::Recommends, RelationField::Recommends),
        (Self::Suggests, RelationField::Suggests),
        (Self::Enhances, RelationField::Enhances),
        (Self::Breaks, RelationField::Breaks),
        (Self::Conflicts, RelationField::Conflicts),
        (Self::Provides, RelationField::Provides),
        (Self::Replaces, RelationField::Replaces),
    ];

    /// By length first: most fields of most packages are of no use here.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let candidates: &[Self] = match name.len() {
            4 => &[Self::Size],
            6 => &[Self::Source, Self::Sha256, Self::Breaks],
            7 => &[Self::Package, Self::Version, Self::Section, Self::Depends],
            8 => &[
                Self::Filename,
                Self::Priority,
                Self::Provides,
                Self::Replaces,
                Self::Suggests,
                Self::Enhances,
            ],
            9 => &[Self::Essential, Self::Protected, Self::Conflicts],
            10 => &[Self::MultiArch, Self::Recommends],
            11 => &[Self::PreDepends],
            12 => &[Self::Architecture],
            14 => &[Self::InstalledSize],
            24 => &[Self::Phased],
            _ => &[],
        };
        candidates
            .iter()
            .copied()
            .find(|known| known.as_str().as_bytes().eq_ignore_ascii_case(name))
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Package => "Package",
            Self::Version => "Version",
            Self::Architecture => "Architecture",
            Self::Source => "Source",
            Self::Filename => "Filename",
            Self::Size => "Size",
            Self::Sha256 => "SHA256",
            Self::InstalledSize => "Installed-Size",
            Self::MultiArch => "Multi-Arch",
            Self::Essential => "Essential",
            Self::Protected => "Protected",
            Self::Priority => "Priority",
            Self::Section => "Section",
            Self::Phased => "Phased-Update-Percentage",
            Self::PreDepends => "Pre-Depends",
            Self::Depends => "Depends",
            Self::Recommends => "Recommends",
            Self::Suggests => "Suggests",
            Self::Enhances => "Enhances",
            Self::Breaks => "Breaks",
            Self::Conflicts => "Conflicts",
            Self::Provides => "Provides",
            Self::Replaces => "Replaces",
        }
    }
}

/// A paragraph as far as it is read: the text of each field of use.
#[derive(Debug, Default)]
pub(crate) struct Draft<'a> {
    values: [Option<&'a str>; Known::COUNT],
}

impl<'a> Draft<'a> {
    /// Takes a field's value; `None` is one that is not UTF-8.
    ///
    /// # Errors
    /// `Corrupt` when it was there already or is not UTF-8.
    pub(crate) fn set(&mut self, known: Known, value: Option<&'a str>) -> Result<()> {
        let bad = |what: &str| Error::corrupt(format!("the field {} {what}", known.as_str()));
        let value = value.ok_or_else(|| bad("is not UTF-8"))?;
        match self.values.get_mut(usize::from(known as u8)) {
            Some(slot @ None) => *slot = Some(value),
            _ => return Err(bad("is there twice")),
        }
        Ok(())
    }

    pub(crate) fn get(&self, known: Known) -> Option<&'a str> {
        self.values.get(usize::from(known as u8)).copied().flatten()
    }

    fn text(&self, known: Known) -> &'a str {
        self.get(known).unwrap_or_default()
    }

    /// An error with the package's name.
    pub(crate) fn named(&self, error: Error) -> Error {
        let name = self.text(Known::Package);
        let what = format!("cannot read the package {name:?} of the index");
        Error::new(error.kind(), what).because(error)
    }

    fn number(&self, known: Known) -> Result<Option<u64>> {
        let Some(text) = self.get(known) else {
            return Ok(None);
        };
        let value = text.parse().map_err(|_| self.bad(known))?;
        Ok(Some(value))
    }

    fn bad(&self, known: Known) -> Error {
        let value: String = self.text(known).chars().take(80).collect();
        Error::corrupt(format!(
            "the field {} has a bad or no value: {value:?}",
            known.as_str()
        ))
    }

    fn filename(&self) -> Result<&'a str> {
        let name = self.text(Known::Filename);
        let name = name.strip_prefix("./").unwrap_or(name);
        if is_relative_path(name) {
            Ok(name)
        } else {
            Err(self.bad(Known::Filename))
        }
    }

    fn digest(&self) -> Result<Digest> {
        Digest::from_hex(self.text(Known::Sha256)).ok_or_else(|| self.bad(Known::Sha256))
    }

    fn multi_arch(&self) -> Result<MultiArch> {
        self.get(Known::MultiArch)
            .map_or(Ok(MultiArch::default()), MultiArch::parse)
    }

    fn phased(&self) -> Result<Option<u8>> {
        let share = self.number(Known::Phased)?.map(|share| share.min(100));
        share
            .map(u8::try_from)
            .transpose()
            .map_err(|_| self.bad(Known::Phased))
    }

    fn architecture(&self) -> Result<&'a str> {
        let name = self.text(Known::Architecture);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(self.bad(Known::Architecture));
        }
        Ok(name)
    }

    fn source(&self, version: &Version) -> Result<(String, Option<Version>)> {
        let (source, name) = (self.get(Known::Source), self.text(Known::Package));
        dpkg::source_of(source, name, Some(version))
    }

    /// The package's name.
    ///
    /// # Errors
    /// `Corrupt` for what [`Draft::finish`] would refuse.
    pub(crate) fn check(&self) -> Result<&'a str> {
        let name = self.text(Known::Package);
        if !is_package_name(name) {
            return Err(self.bad(Known::Package));
        }
        let version = self.version()?;
        self.architecture()?;
        self.filename()?;
        self.size()?;
        self.digest()?;
        self.number(Known::InstalledSize)?;
        self.multi_arch()?;
        self.phased()?;
        if self.get(Known::Source).is_some() {
            self.source(&version)?;
        }
        Ok(name)
    }

    fn version(&self) -> Result<Version> {
        Version::parse(self.text(Known::Version))
            .map_err(|error| self.bad(Known::Version).because(error))
    }

    fn size(&self) -> Result<u64> {
        self.number(Known::Size)?
            .ok_or_else(|| self.bad(Known::Size))
    }

    fn finish(&self, suite: usize) -> Result<IndexedPackage> {
        let name = self.check()?;
        let version = self.version()?;
        let (source_name, source_version) = self.source(&version)?;
        Ok(IndexedPackage {
            name: name.into(),
            architecture: self.architecture()?.into(),
            source_name: (source_name != name).then(|| source_name.into()),
            source_version: source_version.filter(|source| source.as_str() != version.as_str()),
            version,
            suite,
            component: Box::default(),
            index: None,
            filename: self.filename()?.into(),
            size: self.size()?,
            digest: self.digest()?,
            installed_size: self.number(Known::InstalledSize)?,
            multi_arch: self.multi_arch()?,
            essential: self.text(Known::Essential) == "yes",
            protected: self.text(Known::Protected) == "yes",
            priority: self.get(Known::Priority).map(Into::into),
            section: self.get(Known::Section).map(Into::into),
            phased_percentage: self.phased()?,
            relations: Known::RELATIONS
                .iter()
                .filter_map(|&(known, field)| Some((field, self.get(known)?.into())))
                .collect(),
        })
    }
}
