//! A Debian archive in a local folder, believed only as far as its signatures reach.

use std::collections::BTreeSet;
use std::path::Path;

use dormouse_block::{
    Digest, DigestReader, Error, ErrorKind, Gap, HostFile, Locator, Result, Source as _, digest_of,
};
use dormouse_packages::deb822::ParagraphReader;
use jiff::Timestamp;

use crate::codec::Codec;
use crate::folder::{Folder, SuiteFolder, stream};
use crate::openpgp::{cleartext, detached};
use crate::release::{Listed, Release};
use crate::{Index, IndexedPackage, Keyring, Suite, VerifiedPayload};

/// Largest InRelease or Release file read, in bytes. Debian's have under 300 KiB.
const MAX_RELEASE: u64 = 64 << 20;
/// Largest Release.gpg read, in bytes.
const MAX_SIGNATURE: u64 = 1 << 20;
/// Largest index file read, in bytes as it lies there.
const MAX_INDEX: u64 = 2 << 30;
/// Packages of one repository. All of Debian's architectures and suites have fewer.
const MAX_PACKAGES: usize = 4_000_000;

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

/// A repository: suites whose signatures were good, and the packages of their indices.
///
/// Layout: `dists/<suite>/InRelease` (or `Release` with `Release.gpg`), `dists/<suite>/<component>/binary-<architecture>/
/// Packages` plain or compressed or by hash, and payloads wherever the indices say, inside the folder.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: Folder,
    suites: Vec<Suite>,
    packages: Vec<IndexedPackage>,
    gaps: Vec<Gap>,
}

impl Repository {
    /// Opens the repository in `directory`, believing the keys of `keyring`, at the instant `as_of`.
    ///
    /// A suite past its `Valid-Until`, one newer than `as_of`, and an index that is not there are gaps.
    ///
    /// # Errors
    /// `Denied` for a selected suite without a good signature and for an index that differs from what was signed,
    /// `Corrupt` for files that do not read and for a folder without a selected suite, `Limit` past a named bound.
    pub fn open(
        directory: &Path,
        keyring: &Keyring,
        selection: &Selection,
        as_of: Timestamp,
    ) -> Result<Self> {
        let mut repository = Self {
            folder: Folder::open(directory)?,
            suites: Vec::new(),
            packages: Vec::new(),
            gaps: Vec::new(),
        };
        for place in repository.folder.suites()? {
            repository.add_suite(&place, keyring, selection, as_of)?;
        }
        if repository.suites.is_empty() {
            return Err(
                Error::corrupt("no signed suite of those wanted below dists")
                    .in_file(directory.display()),
            );
        }
        for name in &selection.suites {
            let is_there = |suite: &Suite| suite.is_called(name) || suite.directory == *name;
            if !repository.suites.iter().any(is_there) {
                let why = format!("the repository has no suite {name}");
                repository.gaps.push(gap(ErrorKind::Unsupported, why, true));
            }
        }
        repository.packages.sort_by(IndexedPackage::order);
        repository.gaps.sort();
        repository.gaps.dedup();
        Ok(repository)
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

    /// All its packages: by name, the latest version first.
    #[must_use]
    pub fn packages(&self) -> &[IndexedPackage] {
        &self.packages
    }

    /// The packages of one name, the latest version first.
    #[must_use]
    pub fn candidates(&self, name: &str) -> &[IndexedPackage] {
        let start = self
            .packages
            .partition_point(|package| *package.name < *name);
        let end = self
            .packages
            .partition_point(|package| *package.name <= *name);
        self.packages.get(start..end).unwrap_or_default()
    }

    /// The suite that offers a package of this repository.
    #[must_use]
    pub fn suite_of(&self, package: &IndexedPackage) -> Option<&Suite> {
        self.suites.get(package.suite)
    }

    /// Opens a package's payload and checks its size and digest before any byte of it is handed out.
    ///
    /// # Errors
    /// `Denied` when it is not the file that the index names or lies outside the folder, `Corrupt` when there is none.
    pub fn open_payload(&self, package: &IndexedPackage) -> Result<VerifiedPayload> {
        let Some(file) = self.folder.file(&package.filename)? else {
            let what = format!("no payload of {} {}", package.name, package.version);
            return Err(
                Error::corrupt(what).in_file(self.folder.root().join(&*package.filename).display())
            );
        };
        VerifiedPayload::check(file, package.size, package.digest)
    }

    fn add_suite(
        &mut self,
        place: &SuiteFolder,
        keyring: &Keyring,
        selection: &Selection,
        as_of: Timestamp,
    ) -> Result<()> {
        let named = selection.suites.is_empty() || selection.suites.contains(&place.name);
        let (release, mut suite) = match self.believe(place, keyring, as_of) {
            Ok(believed) => believed,
            // One that was not asked for by its folder's name might still be wanted by its signed name; that it can't
            // be known is worth a word, not an end.
            Err(error) if !named && error.kind() != ErrorKind::Io => {
                self.gaps
                    .push(gap(error.kind(), error.with_causes(), false));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !named && !selection.suites.iter().any(|name| release.is_called(name)) {
            return Ok(());
        }
        let name = suite.name().to_owned();
        if suite.stale {
            let until = suite
                .valid_until
                .map(|until| until.to_string())
                .unwrap_or_default();
            let why = format!("the suite {name} was valid until {until}, which is before {as_of}");
            self.gaps.push(gap(ErrorKind::Denied, why, true));
        }
        if let Some(date) = suite.date.filter(|&date| date > as_of) {
            let why = format!(
                "the suite {name} is of {date}, which is after {as_of}; it may ask for more"
            );
            self.gaps.push(gap(ErrorKind::Denied, why, false));
        }
        let has_names = release.codename.is_some() || release.suite.is_some();
        let folder = place.name.split('/').next().unwrap_or(&place.name);
        if has_names && !release.is_called(&place.name) && !release.is_called(folder) {
            let why = format!("the folder {} holds the suite {name}", place.name);
            self.gaps.push(gap(ErrorKind::Corrupt, why, false));
        }
        let number = self.suites.len();
        for path in self.wanted_indices(place, &release, selection)? {
            let index = self.add_index(place, &release, &path, number)?;
            suite.indices.extend(index);
        }
        suite.indices.sort();
        self.suites.push(suite);
        Ok(())
    }

    /// Reads and verifies a suite's signed file.
    fn believe(
        &self,
        place: &SuiteFolder,
        keyring: &Keyring,
        as_of: Timestamp,
    ) -> Result<(Release, Suite)> {
        let path = |file: &str| format!("dists/{}/{file}", place.name);
        let in_file = |file: &str| self.folder.root().join(path(file)).display().to_string();
        let (file, bytes, text, signers) = if let Some(bytes) =
            self.folder.read(&path("InRelease"), MAX_RELEASE)?
        {
            let (text, signers) = cleartext(&bytes, keyring, as_of)
                .map_err(|error| error.in_file(in_file("InRelease")))?;
            ("InRelease", bytes, text.into_bytes(), signers)
        } else {
            let missing = || Error::denied("the suite is not signed").in_file(in_file("Release"));
            let bytes = self
                .folder
                .read(&path("Release"), MAX_RELEASE)?
                .ok_or_else(missing)?;
            let signatures = self
                .folder
                .read(&path("Release.gpg"), MAX_SIGNATURE)?
                .ok_or_else(missing)?;
            let signers = detached(&bytes, &signatures, keyring, as_of)
                .map_err(|error| error.in_file(in_file("Release.gpg")))?;
            ("Release", bytes.clone(), bytes, signers)
        };
        let release = Release::parse(&text).map_err(|error| error.in_file(in_file(file)))?;
        let suite = Suite {
            directory: place.name.clone(),
            codename: release.codename.clone(),
            suite: release.suite.clone(),
            origin: release.origin.clone(),
            label: release.label.clone(),
            version: release.version.clone(),
            date: release.date,
            valid_until: release.valid_until,
            stale: release.valid_until.is_some_and(|until| until < as_of),
            release: path(file),
            digest: Digest::of(&bytes),
            signers,
            indices: Vec::new(),
        };
        Ok((release, suite))
    }

    /// The uncompressed names of the indices to read. One that is listed, not empty, and not there is a gap; it may
    /// hide packages when it is of the main component or of one asked for.
    fn wanted_indices(
        &mut self,
        place: &SuiteFolder,
        release: &Release,
        selection: &Selection,
    ) -> Result<Vec<String>> {
        let mut wanted = Vec::new();
        for component in &release.components {
            let asked = selection.components.contains(component);
            if !selection.components.is_empty() && !asked {
                continue;
            }
            // Debian's security suites once listed their components as `updates/main`, with indices below `main`.
            let component = component.rsplit('/').next().unwrap_or(component);
            for architecture in &release.architectures {
                let is_all = architecture == "all";
                let chosen = selection.architectures.is_empty()
                    || selection.architectures.contains(architecture);
                if (is_all && release.all_in_each) || !(is_all || chosen) {
                    continue;
                }
                let path = format!("{component}/binary-{architecture}/Packages");
                if !Codec::ALL.iter().any(|codec| {
                    release
                        .indices
                        .contains_key(&format!("{path}{}", codec.suffix()))
                }) {
                    continue;
                }
                if self.locate(place, release, &path)?.is_some() {
                    wanted.push(path);
                } else if release
                    .indices
                    .get(&path)
                    .is_none_or(|listed| listed.size > 0)
                    && (asked || selection.architectures.contains(architecture))
                {
                    let why = format!("the index {path} of the suite {} is not there", place.name);
                    self.gaps.push(gap(
                        ErrorKind::Unsupported,
                        why,
                        asked || component == "main",
                    ));
                }
            }
        }
        if wanted.is_empty() {
            let why = format!("the suite {} has no index of what is wanted", place.name);
            self.gaps.push(gap(ErrorKind::Unsupported, why, true));
        }
        Ok(wanted)
    }

    /// The first file that holds the index, by preference of compression, by name and then by hash.
    fn locate(
        &self,
        place: &SuiteFolder,
        release: &Release,
        path: &str,
    ) -> Result<Option<(String, HostFile, Codec, Listed)>> {
        for codec in Codec::ALL {
            let name = format!("{path}{}", codec.suffix());
            let Some(&listed) = release.indices.get(&name) else {
                continue;
            };
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let by_hash = format!("{folder}/by-hash/SHA256/{}", listed.digest.hex());
            let names = [Some(name), release.by_hash.then_some(by_hash)];
            let mut found = Vec::new();
            for name in names.into_iter().flatten() {
                let whole = format!("dists/{}/{name}", place.name);
                if let Some(file) = self.folder.file(&whole)? {
                    found.push((whole, file));
                }
            }
            // A mirror caught in mid-change has the right bytes by hash only; otherwise the name's own file is to blame.
            let right = found.iter().position(|(_, file)| file.len() == listed.size);
            if !found.is_empty() {
                let (whole, file) = found.swap_remove(right.unwrap_or(0));
                return Ok(Some((whole, file, codec, listed)));
            }
        }
        Ok(None)
    }

    fn add_index(
        &mut self,
        place: &SuiteFolder,
        release: &Release,
        path: &str,
        suite: usize,
    ) -> Result<Option<Index>> {
        let Some((whole, file, codec, listed)) = self.locate(place, release, path)? else {
            return Ok(None);
        };
        let name = file.path().display().to_string();
        let before = self.packages.len();
        self.read_index(file, codec, listed, suite)
            .map_err(|error| error.in_file(name))?;
        Ok(Some(Index {
            path: whole,
            digest: listed.digest,
            size: listed.size,
            packages: self.packages.len().saturating_sub(before),
        }))
    }

    fn read_index(
        &mut self,
        file: HostFile,
        codec: Codec,
        listed: Listed,
        suite: usize,
    ) -> Result<()> {
        if listed.size > MAX_INDEX {
            return Err(Error::limit("an index of more than 2 GiB"));
        }
        if file.len() != listed.size || digest_of(&file)? != listed.digest {
            return Err(Error::denied(
                "the index differs from what the Release file says",
            ));
        }
        // Checked before it is read, and again as it is read: what counts are the bytes that were parsed.
        let mut checked =
            std::io::BufReader::with_capacity(256 << 10, DigestReader::new(stream(file)));
        {
            let mut paragraphs = ParagraphReader::new(codec.open(&mut checked)?);
            while let Some(paragraph) = paragraphs.next_paragraph()? {
                if self.packages.len() >= MAX_PACKAGES {
                    return Err(Error::limit("more than 4000000 packages in one repository"));
                }
                self.packages.push(IndexedPackage::parse(paragraph, suite)?);
            }
        }
        std::io::copy(&mut checked, &mut std::io::sink())
            .map_err(|error| Error::io("cannot read the index", error))?;
        let (digest, size) = checked.into_inner().finish();
        if (digest, size) != (listed.digest, listed.size) {
            return Err(Error::denied("the index changed while it was read"));
        }
        Ok(())
    }
}

fn gap(kind: ErrorKind, why: String, may_hide_packages: bool) -> Gap {
    Gap {
        at: Locator::default(),
        kind,
        why,
        may_hide_packages,
    }
}
