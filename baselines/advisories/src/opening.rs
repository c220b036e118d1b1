//! Opening a repository: signed files, then the indices that they name.

use std::path::Path;

use dormouse_block::{
    Digest, DigestReader, Error, ErrorKind, Gap, HostFile, Locator, Result, Source as _, digest_of,
};

use crate::codec::Codec;
use crate::compiled::Compiled;
use crate::folder::{Folder, INDICES, Layout, Place, stream};
use crate::openpgp::{cleartext, detached};
use crate::release::{Listed, Release};
use crate::repository::{IndexToKeep, LoadedIndex};
use crate::{Access, Index, Repository, Signer, Suite};

/// Largest InRelease or Release file read, in bytes. Debian's have under 300 KiB.
const MAX_RELEASE: u64 = 64 << 20;
/// Largest Release.gpg read, in bytes.
const MAX_SIGNATURE: u64 = 1 << 20;
/// Largest index file read, in bytes as it lies there.
const MAX_INDEX: u64 = 2 << 30;

/// An index to be read: its name without compression, and its component.
struct Wanted {
    path: String,
    component: Box<str>,
}

/// A signed file that was believed.
struct Believed {
    file: String,
    digest: Digest,
    release: Release,
    signers: Vec<Signer>,
    vouched: bool,
}

impl Repository {
    /// Opens the repository in `directory`.
    ///
    /// A suite past its `Valid-Until`, one newer than the instant judged, and an index that is not there are gaps.
    ///
    /// # Errors
    /// `Denied` for a selected suite without a good signature and for an index that differs from what was signed,
    /// `Corrupt` for files that do not read and for a folder without a selected suite, `Limit` past a named bound.
    pub fn open_with(directory: &Path, access: &Access<'_>) -> Result<Self> {
        let mut repository = Self {
            folder: Folder::open(directory)?,
            suites: Vec::new(),
            indices: Vec::new(),
            gaps: Vec::new(),
        };
        for place in repository.folder.places()? {
            repository.add_suite(&place, access)?;
        }
        if repository.suites.is_empty() {
            return Err(Error::corrupt("no signed suite of those wanted in it")
                .in_file(directory.display()));
        }
        for name in &access.selection.suites {
            let is_there = |suite: &Suite| suite.is_called(name) || suite.directory == *name;
            if !repository.suites.iter().any(is_there) {
                let why = format!("the repository has no suite {name}");
                repository.gaps.push(gap(ErrorKind::Unsupported, why, true));
            }
        }
        repository.gaps.sort();
        repository.gaps.dedup();
        Ok(repository)
    }

    fn add_suite(&mut self, place: &Place, access: &Access<'_>) -> Result<()> {
        let (selection, as_of) = (access.selection, access.as_of);
        let named = selection.suites.is_empty() || selection.suites.contains(place.name());
        let believed = match self.believe(place, access) {
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
        let release = believed.release;
        if !named && !selection.suites.iter().any(|name| release.is_called(name)) {
            return Ok(());
        }
        let mut suite = Suite {
            directory: place.name().to_owned(),
            codename: release.codename.clone(),
            suite: release.suite.clone(),
            origin: release.origin.clone(),
            label: release.label.clone(),
            version: release.version.clone(),
            date: release.date,
            valid_until: release.valid_until,
            stale: release.valid_until.is_some_and(|until| until < as_of),
            not_automatic: release.not_automatic,
            but_automatic_upgrades: release.but_automatic_upgrades,
            vouched: believed.vouched,
            release: believed.file,
            digest: believed.digest,
            signers: believed.signers,
            indices: Vec::new(),
        };
        self.note_dates(&suite, access);
        let has_names = release.codename.is_some() || release.suite.is_some();
        let folder = place.name().split('/').next().unwrap_or_default();
        if place.layout == Layout::Components
            && has_names
            && !release.is_called(place.name())
            && !release.is_called(folder)
        {
            let why = format!(
                "the folder {} holds the suite {}",
                place.name(),
                suite.name()
            );
            self.gaps.push(gap(ErrorKind::Corrupt, why, false));
        }
        let number = self.suites.len();
        for wanted in self.wanted_indices(place, &release, access)? {
            let index = self.add_index(place, &release, &wanted, number, access)?;
            suite.indices.extend(index);
        }
        suite.indices.sort();
        self.suites.push(suite);
        Ok(())
    }

    fn note_dates(&mut self, suite: &Suite, access: &Access<'_>) {
        let (name, as_of) = (suite.name(), access.as_of);
        if let Some(until) = suite.valid_until.filter(|_| suite.stale) {
            let why = format!("the suite {name} was valid until {until}, which is before {as_of}");
            self.gaps.push(gap(ErrorKind::Denied, why, true));
        }
        if let Some(date) = suite.date.filter(|&date| date > as_of) {
            let why = format!(
                "the suite {name} is of {date}, which is after {as_of}; it may ask for more"
            );
            self.gaps.push(gap(ErrorKind::Denied, why, false));
        }
    }

    /// Reads and verifies a suite's signed file.
    fn believe(&self, place: &Place, access: &Access<'_>) -> Result<Believed> {
        let (keyring, as_of) = (access.keyring, access.as_of);
        let in_file = |file: &str| {
            self.folder
                .root()
                .join(place.path(file))
                .display()
                .to_string()
        };
        let is_vouched = |digest: &Digest| access.trust.vouched.contains(digest);
        let read = |file: &str, limit| self.folder.read(&place.path(file), limit);
        let parse = |file: &str, text: &[u8]| {
            Release::parse(text).map_err(|error| error.in_file(in_file(file)))
        };
        if let Some(bytes) = read("InRelease", MAX_RELEASE)? {
            let (text, signers) = cleartext(&bytes, keyring, as_of)
                .and_then(|(text, signers)| Ok((text, self.counting(signers, access)?)))
                .map_err(|error| error.in_file(in_file("InRelease")))?;
            return Ok(Believed {
                file: place.path("InRelease"),
                digest: Digest::of(&bytes),
                release: parse("InRelease", text.as_bytes())?,
                signers,
                vouched: false,
            });
        }
        let Some(bytes) = read("Release", MAX_RELEASE)? else {
            return self.believe_index(place, access);
        };
        let digest = Digest::of(&bytes);
        let (signers, vouched) = if is_vouched(&digest) {
            (Vec::new(), true)
        } else {
            let signatures = read("Release.gpg", MAX_SIGNATURE)?.ok_or_else(|| {
                Error::denied(format!(
                    "the suite is not signed, and nobody vouches for {digest}"
                ))
                .in_file(in_file("Release"))
            })?;
            let signers = detached(&bytes, &signatures, keyring, as_of)
                .and_then(|signers| self.counting(signers, access))
                .map_err(|error| error.in_file(in_file("Release.gpg")))?;
            (signers, false)
        };
        Ok(Believed {
            file: place.path("Release"),
            digest,
            release: parse("Release", &bytes)?,
            signers,
            vouched,
        })
    }

    /// A folder with nothing but an index: believed when the user vouches for it.
    fn believe_index(&self, place: &Place, access: &Access<'_>) -> Result<Believed> {
        let mut seen = Vec::new();
        for name in INDICES {
            let path = place.path(name);
            let Some(file) = self.folder.file(&path)? else {
                continue;
            };
            if file.len() > MAX_INDEX {
                return Err(Error::limit("an index of more than 2 GiB").in_file(path));
            }
            let digest = digest_of(&file)?;
            if access.trust.vouched.contains(&digest) {
                let mut release = Release {
                    suite: self.folder.name().map(str::to_owned),
                    ..Release::default()
                };
                let size = file.len();
                release
                    .indices
                    .insert(name.to_owned(), Listed { digest, size });
                return Ok(Believed {
                    file: path,
                    digest,
                    release,
                    signers: Vec::new(),
                    vouched: true,
                });
            }
            seen.push(format!("{path} is {digest}"));
        }
        let why = format!(
            "the repository is not signed, and nobody vouches for its index: {}",
            seen.join(", ")
        );
        Err(Error::denied(why).in_file(self.folder.root().display()))
    }

    /// The signers that count for this repository.
    fn counting(&self, signers: Vec<Signer>, access: &Access<'_>) -> Result<Vec<Signer>> {
        let only = &access.trust.signed_by;
        if only.is_empty() {
            return Ok(signers);
        }
        let known: Vec<_> = signers
            .iter()
            .map(|signer| signer.primary.clone())
            .collect();
        let counting: Vec<_> = signers
            .into_iter()
            .filter(|signer| only.contains(&signer.primary) || only.contains(&signer.key))
            .collect();
        if counting.is_empty() {
            return Err(Error::denied(format!(
                "signed by {}, none of which the baseline names for the repository {}",
                known.join(" and "),
                self.folder.name().unwrap_or_default()
            )));
        }
        Ok(counting)
    }

    /// The indices to read. One that is listed, not empty, and not there is a gap; it may hide packages when it is of
    /// the main component or of one asked for.
    fn wanted_indices(
        &mut self,
        place: &Place,
        release: &Release,
        access: &Access<'_>,
    ) -> Result<Vec<Wanted>> {
        let selection = access.selection;
        let mut wanted = Vec::new();
        if place.layout == Layout::Flat {
            let path = "Packages".to_owned();
            if self.locate(place, release, &path)?.is_some() {
                let component = Box::default();
                wanted.push(Wanted { path, component });
            }
        }
        for listed in &release.components {
            if place.layout == Layout::Flat {
                break;
            }
            let asked = selection.components.contains(listed);
            if !selection.components.is_empty() && !asked {
                continue;
            }
            // Debian's security suites once listed their components as `updates/main`, with indices below `main`.
            let component = listed.rsplit('/').next().unwrap_or(listed);
            for architecture in &release.architectures {
                let is_all = architecture == "all";
                let chosen = selection.architectures.is_empty()
                    || selection.architectures.contains(architecture);
                if (is_all && release.all_in_each) || !(is_all || chosen) {
                    continue;
                }
                let path = format!("{component}/binary-{architecture}/Packages");
                let lists = |codec: &Codec| {
                    let name = format!("{path}{}", codec.suffix());
                    release.indices.contains_key(&name)
                };
                if !Codec::ALL.iter().any(lists) {
                    continue;
                }
                let is_empty = release.indices.get(&path).is_some_and(|it| it.size == 0);
                if self.locate(place, release, &path)?.is_some() {
                    wanted.push(Wanted {
                        path,
                        component: component.into(),
                    });
                } else if !is_empty && (asked || selection.architectures.contains(architecture)) {
                    let name = place.name();
                    let why = format!("the index {path} of the suite {name} is not there");
                    let hides = asked || component == "main";
                    self.gaps.push(gap(ErrorKind::Unsupported, why, hides));
                }
            }
        }
        if wanted.is_empty() {
            let why = format!("the suite {} has no index of what is wanted", place.name());
            self.gaps.push(gap(ErrorKind::Unsupported, why, true));
        }
        Ok(wanted)
    }

    /// The first file that holds the index, by preference of compression, by name and then by hash.
    fn locate(
        &self,
        place: &Place,
        release: &Release,
        path: &str,
    ) -> Result<Option<(String, HostFile, Codec, Listed)>> {
        for codec in Codec::ALL {
            let name = format!("{path}{}", codec.suffix());
            let Some(&listed) = release.indices.get(&name) else {
                continue;
            };
            let hex = listed.digest.hex();
            let by_hash = match path.rsplit_once('/') {
                Some((folder, _)) => format!("{folder}/by-hash/SHA256/{hex}"),
                None => format!("by-hash/SHA256/{hex}"),
            };
            let names = [Some(name), release.by_hash.then_some(by_hash)];
            let mut found = Vec::new();
            for name in names.into_iter().flatten() {
                let whole = place.path(&name);
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
        place: &Place,
        release: &Release,
        wanted: &Wanted,
        suite: usize,
        access: &Access<'_>,
    ) -> Result<Option<Index>> {
        let Some((whole, file, codec, listed)) = self.locate(place, release, &wanted.path)? else {
            return Ok(None);
        };
        let name = file.path().display().to_string();
        let compiled =
            read_index(file, codec, listed, access).map_err(|error| error.in_file(name))?;
        let packages = compiled.len();
        self.indices.push(LoadedIndex {
            suite,
            component: wanted.component.clone(),
            digest: listed.digest,
            compiled,
        });
        Ok(Some(Index {
            path: whole,
            digest: listed.digest,
            size: listed.size,
            packages,
        }))
    }
}

/// The index of this digest: as it was kept, or read and kept.
fn read_index(
    file: HostFile,
    codec: Codec,
    listed: Listed,
    access: &Access<'_>,
) -> Result<Compiled> {
    let differs = || Error::denied("the index differs from what the Release file says");
    if listed.size > MAX_INDEX {
        return Err(Error::limit("an index of more than 2 GiB"));
    }
    if file.len() != listed.size {
        return Err(differs());
    }
    let name = format!("{}.v1", listed.digest.hex());
    if let Some(cache) = access.cache
        && let Some(kept) = (cache.load)(&name)
        && let Some(compiled) = Compiled::from_kept(kept, listed.digest, listed.size)
    {
        return Ok(compiled);
    }
    if digest_of(&file)? != listed.digest {
        return Err(differs());
    }
    // Checked before it is read, and again as it is read: what counts are the bytes that were parsed.
    let mut checked = std::io::BufReader::with_capacity(256 << 10, DigestReader::new(stream(file)));
    let expected = listed.size.saturating_mul(codec.expected_growth());
    let mut unpacked = codec.open(&mut checked)?;
    let compiled = match access.ahead {
        None => Compiled::read(&mut unpacked, expected)?,
        Some(ahead) => {
            let mut compiled = None;
            ahead(&mut unpacked, &mut |reader| {
                compiled = Some(Compiled::read(reader, expected)?);
                Ok(())
            })?;
            compiled.ok_or_else(|| Error::corrupt("an index that nobody read"))?
        }
    };
    drop(unpacked);
    std::io::copy(&mut checked, &mut std::io::sink())
        .map_err(|error| Error::io("cannot read the index", error))?;
    let (digest, size) = checked.into_inner().finish();
    if (digest, size) != (listed.digest, listed.size) {
        return Err(Error::denied("the index changed while it was read"));
    }
    if let Some(cache) = access.cache {
        let index = IndexToKeep {
            compiled: compiled.clone(),
            digest,
            size,
        };
        match access.later {
            Some(later) => later(name, index),
            None => index.keep(|parts| (cache.save)(&name, parts))?,
        }
    }
    Ok(compiled)
}

fn gap(kind: ErrorKind, why: String, may_hide_packages: bool) -> Gap {
    Gap {
        at: Locator::default(),
        kind,
        why,
        may_hide_packages,
    }
}
