//! Package files: verified and unpacked once per digest, then shared by every machine that needs them.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dormouse_advisories::{Repository, VerifiedPayload};
use dormouse_block::{Digest, Error, Result};
use dormouse_overlay::PayloadReader;
use dormouse_remedy::deb::{Identity, Limits, Unpacked, unpack};
use dormouse_remedy::{PlannedPackage, WHOLE_PACKAGE};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::state::Store;

/// Bytes moved in one step.
const STEP: usize = 256 << 10;

/// A package file that was verified and unpacked.
pub(crate) struct Payload {
    /// What is in it.
    pub unpacked: Arc<Unpacked>,
    /// Its data archive with each file's bytes at their offset; what lies between them is not kept.
    data: Option<File>,
    /// The package file itself.
    package: VerifiedPayload,
}

type Slot = Arc<OnceLock<std::result::Result<Arc<Payload>, String>>>;

/// The package files of some repositories.
pub struct Payloads<'a> {
    repositories: &'a [Repository],
    store: &'a Store,
    slots: Mutex<HashMap<Digest, Slot>>,
}

impl<'a> Payloads<'a> {
    /// Package files of `repositories`, unpacked into `store`.
    #[must_use]
    pub fn new(repositories: &'a [Repository], store: &'a Store) -> Self {
        Self {
            repositories,
            store,
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// All package files of a plan, in parallel.
    ///
    /// # Errors
    /// One that is missing, is not what its index says, or does not unpack.
    pub fn all(&self, packages: &[PlannedPackage]) -> Result<PayloadSet> {
        // Those that nobody unpacks yet come first: machines alike share the work, and do not wait for each other's.
        packages
            .par_iter()
            .filter_map(|package| {
                let slot = self.claim(package)?;
                Some(self.get(package, &slot).map(drop))
            })
            .collect::<Result<()>>()?;
        let payloads = packages
            .par_iter()
            .map(|package| Ok((package.payload, self.get(package, &self.slot(package))?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        Ok(PayloadSet(Arc::new(payloads)))
    }

    fn slot(&self, package: &PlannedPackage) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(package.payload).or_default().clone()
    }

    /// The slot of a package that nobody has asked for yet.
    fn claim(&self, package: &PlannedPackage) -> Option<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.entry(package.payload) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => Some(entry.insert(Slot::default()).clone()),
        }
    }

    fn get(&self, package: &PlannedPackage, slot: &Slot) -> Result<Arc<Payload>> {
        // Unpacking is sequential, so a thread that waits here never waits for itself.
        slot.get_or_init(|| {
            self.unpack(package)
                .map(Arc::new)
                .map_err(|error| error.with_causes())
        })
        .clone()
        .map_err(Error::denied)
    }

    fn unpack(&self, package: &PlannedPackage) -> Result<Payload> {
        let verified = open(self.repositories, package)?;
        let data = self.store.writer()?;
        let file = data
            .reopen()
            .map_err(|error| Error::io("cannot write to the store", error))?;
        let mut buf = vec![0; STEP];
        let unpacked = unpack(
            BufReader::with_capacity(STEP, verified.reader()),
            Some(&identity(package)),
            &Limits::default(),
            &mut |head, content| {
                let mut at = head.offset;
                loop {
                    let n = read_some(content, &mut buf)?;
                    let Some(part) = buf.get(..n).filter(|part| !part.is_empty()) else {
                        return Ok(());
                    };
                    file.write_all_at(part, at)
                        .map_err(|error| Error::io("cannot write to the store", error))?;
                    at = at.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
                }
            },
        )?;
        // The file has no name any more once `data` goes; its bytes stay as long as it is open.
        Ok(Payload {
            unpacked: Arc::new(unpacked),
            data: Some(file),
            package: verified,
        })
    }
}

/// Reads at least one byte unless the stream is at its end.
pub(crate) fn read_some(content: &mut dyn Read, buf: &mut [u8]) -> Result<usize> {
    loop {
        match content.read(buf) {
            Ok(n) => return Ok(n),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(not_unpacked(error)),
        }
    }
}

/// What is said of a package file whose bytes do not come.
pub(crate) fn not_unpacked(error: std::io::Error) -> Error {
    Error::corrupt("a package file does not unpack").because(error)
}

/// What the index says the package file is.
pub(crate) fn identity(package: &PlannedPackage) -> Identity {
    Identity {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
    }
}

/// Opens and verifies the package file of a planned package.
///
/// # Errors
/// `Denied` when no repository has it any more, or its bytes are not what its index says.
pub(crate) fn open(
    repositories: &[Repository],
    package: &PlannedPackage,
) -> Result<VerifiedPayload> {
    open_by_digest(
        repositories,
        &package.name,
        &package.version,
        package.payload,
    )
}

/// Opens and verifies the package file of a package by its digest.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_by_digest(
    repositories: &[Repository],
    name: &str,
    version: &str,
    payload: Digest,
) -> Result<VerifiedPayload> {
    for repository in repositories {
        let candidates = repository.candidates(name)?;
        if let Some(found) = candidates.iter().find(|found| found.digest == payload) {
            return repository.open_payload(found);
        }
    }
    Err(Error::denied(format!(
        "no repository has the package file of {name} {version}"
    )))
}

/// The package files of one plan.
#[derive(Clone)]
pub struct PayloadSet(Arc<BTreeMap<Digest, Arc<Payload>>>);

impl PayloadSet {
    /// What is in them, by digest.
    #[must_use]
    pub fn unpacked(&self) -> BTreeMap<Digest, Arc<Unpacked>> {
        let each = self.0.iter();
        each.map(|(digest, payload)| (*digest, payload.unpacked.clone()))
            .collect()
    }

    /// Opens their bytes.
    #[must_use]
    pub fn reader(&self) -> PayloadReader {
        let set = self.clone();
        Arc::new(move |payload, offset, size| set.open(payload, offset, size))
    }

    fn open(&self, payload: Digest, offset: u64, size: u64) -> Result<Box<dyn Read>> {
        let found = self
            .0
            .get(&payload)
            .ok_or_else(|| Error::corrupt("a package file that was not unpacked"))?;
        if offset == WHOLE_PACKAGE {
            return Ok(Box::new(found.package.reader().take(size)));
        }
        let data = found
            .data
            .as_ref()
            .ok_or_else(|| Error::corrupt("a package file whose contents were not kept"))?;
        let file = data
            .try_clone()
            .map_err(|error| Error::io("cannot read from the store", error))?;
        Ok(Box::new(Part {
            file,
            offset,
            left: size,
        }))
    }
}

/// A part of a data archive.
struct Part {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let wanted = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(part) = buf.get_mut(..wanted).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        let n = self.file.read_at(part, self.offset)?;
        let read = u64::try_from(n).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(read);
        self.left = self.left.saturating_sub(read);
        Ok(n)
    }
}
