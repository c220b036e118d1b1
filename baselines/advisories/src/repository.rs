//! A Debian archive in a local folder, believed only as far as its signatures reach.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use dormouse_block::{Digest, Error, Gap, Result, Source as _};
use jiff::Timestamp;

use crate::compiled::Compiled;
use crate::folder::Folder;
use crate::{IndexedPackage, Keyring, Suite, VerifiedPayload};

/// What of a repository is wanted. Empty sets want all that the folder has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Suites, by codename, suite name or folder below `dists/`.
    pub suites: BTreeSet<String>,
    /// Architectures, without `all`, which belongs to each.
    pub architectures: BTreeSet<String>,
    /// Components, such as `main`.
    pub components: BTreeSet<String>,
}

/// What a user says of one repository, beyond the keyring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The only keys that count, by the fingerprint of the primary key or the one that signs, as upper-case hexadecimal
    /// digits; every key of the keyring where empty.
    pub signed_by: BTreeSet<String>,
    /// Digests of Release files, or of indices in a folder without one, that are believed without a signature.
    pub vouched: BTreeSet<Digest>,
}

/// Where compiled indices are kept between openings. A name stands for the digest of the index and the form's version.
///
/// What is loaded is held against its own digest, so damage is found; whoever can write there can lie, so it must be as
/// safe as the rest of the state.
#[derive(Clone, Copy)]
pub struct IndexCache<'a> {
    /// What is kept under a name.
    pub load: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    /// Keeps the parts, joined, under a name. That it cannot is no error: the next opening takes longer.
    pub save: &'a dyn Fn(&str, &[&[u8]]),
}

/// Reads a stream ahead in a thread of the caller's while the closure consumes it.
pub type ReadAhead =
    fn(&mut (dyn Read + Send), &mut dyn FnMut(&mut dyn Read) -> Result<()>) -> Result<()>;

/// How a repository is opened.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The keys believed.
    pub keyring: &'a Keyring,
    /// What is wanted.
    pub selection: &'a Selection,
    /// The instant judged.
    pub as_of: Timestamp,
    /// What the user says of this repository.
    pub trust: &'a Trust,
    /// Where compiled indices are kept.
    pub cache: Option<IndexCache<'a>>,
    /// How indices are unpacked while they are parsed; one after the other where absent.
    pub ahead: Option<ReadAhead>,
    /// Who keeps compiled indices, by name, while others go on; where absent, they are kept before.
    pub later: Option<&'a dyn Fn(String, IndexToKeep)>,
}

/// An index that was read and is to be kept.
pub struct IndexToKeep {
    pub(crate) compiled: Compiled,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl IndexToKeep {
    /// Hands the parts to be kept, joined, to `save`, as [`IndexCache::save`] has them.
    ///
    /// # Errors
    /// `Limit` for more than the form holds.
    pub fn keep(&self, save: impl FnOnce(&[&[u8]])) -> Result<()> {
        let (head, trailer) = self.compiled.frame(self.digest, self.size)?;
        save(&[&head, self.compiled.text(), trailer.as_bytes()]);
        Ok(())
    }
}

/// One index as it was read.
#[derive(Debug, Clone)]
pub(crate) struct LoadedIndex {
    pub(crate) suite: usize,
    pub(crate) component: Box<str>,
    pub(crate) digest: Digest,
    pub(crate) compiled: Compiled,
}

/// A repository: suites whose signatures were good, and the packages of their indices. Cloning it is cheap.
///
/// Layouts: `dists/<suite>/InRelease` (or `Release` with `Release.gpg`) with `dists/<suite>/<component>/
/// binary-<architecture>/Packages`; flat, with the signed file and `Packages` in one folder; or a folder of packages with
/// `Packages` alone, whose digest the user vouches for. Indices are plain, compressed or by hash; payloads are wherever
/// the indices say, inside the folder.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) folder: Folder,
    pub(crate) suites: Vec<Suite>,
    pub(crate) indices: Vec<LoadedIndex>,
    pub(crate) gaps: Vec<Gap>,
}

impl Repository {
    /// Opens the repository in `directory`, believing the keys of `keyring`, at the instant `as_of`.
    ///
    /// # Errors
    /// As [`Repository::open_with`].
    pub fn open(
        directory: &Path,
        keyring: &Keyring,
        selection: &Selection,
        as_of: Timestamp,
    ) -> Result<Self> {
        Self::open_with(
            directory,
            &Access {
                keyring,
                selection,
                as_of,
                trust: &Trust::default(),
                cache: None,
                ahead: None,
                later: None,
            },
        )
    }

    /// The name of the folder `directory`, by which baselines speak of the repository in it.
    #[must_use]
    pub fn name_of(directory: &Path) -> Option<String> {
        let real = directory.canonicalize().ok()?;
        Some(real.file_name()?.to_str()?.to_owned())
    }

    /// The folder, by its canonical path.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.folder.root()
    }

    /// The suites that were believed, in the order of their folders' names.
    #[must_use]
    pub fn suites(&self) -> &[Suite] {
        &self.suites
    }

    /// What of it was not read, or is not fit to judge by.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// How many packages it has.
    #[must_use]
    pub fn package_count(&self) -> usize {
        self.indices
            .iter()
            .fold(0, |sum, index| sum.saturating_add(index.compiled.len()))
    }

    /// All its packages: by name, the latest version first. This reads every one of them; [`Repository::candidates`] and
    /// [`Repository::providers`] read what is asked for.
    ///
    /// # Errors
    /// `Corrupt` for a kept index that is not what was written.
    pub fn packages(&self) -> Result<Vec<IndexedPackage>> {
        self.read(|index| (0..index.compiled.len()).collect())
    }

    /// The packages of one name, the latest version first.
    ///
    /// # Errors
    /// As [`Repository::packages`].
    pub fn candidates(&self, name: &str) -> Result<Vec<IndexedPackage>> {
        self.read(|index| index.compiled.named(name).collect())
    }

    /// The packages whose `Provides` name `name`: by name, the latest version first.
    ///
    /// # Errors
    /// As [`Repository::packages`].
    pub fn providers(&self, name: &str) -> Result<Vec<IndexedPackage>> {
        self.read(|index| index.compiled.providing(name))
    }

    fn read(&self, which: impl Fn(&LoadedIndex) -> Vec<usize>) -> Result<Vec<IndexedPackage>> {
        let mut out = Vec::new();
        for index in &self.indices {
            for number in which(index) {
                let mut package = index.compiled.package(number, index.suite)?;
                package.component.clone_from(&index.component);
                package.index = Some(index.digest);
                out.push(package);
            }
        }
        out.sort_by(IndexedPackage::order);
        Ok(out)
    }

    /// The suite that offers a package of this repository.
    #[must_use]
    pub fn suite_of(&self, package: &IndexedPackage) -> Option<&Suite> {
        self.suites.get(package.suite)
    }

    /// Why a package's payload cannot be had, without reading it: a partial mirror has no file for some of its index.
    ///
    /// # Errors
    /// The host's.
    pub fn why_no_payload(&self, package: &IndexedPackage) -> Result<Option<String>> {
        Ok(match self.payload_file(package)? {
            None => Some(format!("the repository has no file {}", package.filename)),
            Some(file) if file.len() != package.size => Some(format!(
                "the repository's file {} has {} bytes, not the {} of its index",
                package.filename,
                file.len(),
                package.size
            )),
            Some(_) => None,
        })
    }

    /// Opens a package's payload and checks its size and digest before any byte of it is handed out.
    ///
    /// # Errors
    /// `Denied` when it is not the file that the index names or lies outside the folder, `Corrupt` when there is none.
    pub fn open_payload(&self, package: &IndexedPackage) -> Result<VerifiedPayload> {
        let Some(file) = self.payload_file(package)? else {
            let what = format!("no payload of {} {}", package.name, package.version);
            return Err(
                Error::corrupt(what).in_file(self.folder.root().join(&*package.filename).display())
            );
        };
        VerifiedPayload::check(file, package.size, package.digest)
    }

    fn payload_file(&self, package: &IndexedPackage) -> Result<Option<dormouse_block::HostFile>> {
        self.folder.file(&package.filename)
    }
}
