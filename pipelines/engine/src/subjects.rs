//! The subjects of a statement: host files and restore points by their digests.

use std::path::Path;

use dormouse_block::{Digest, Error, HostFile, Result, Source, digest_of};
use dormouse_evidence::Subject;

use crate::machine::within;
use crate::work::Work;
use crate::{MachineFile, OpenMachine, StageName};

/// The digest of a host file in its present state, read once per state of the file.
///
/// # Errors
/// `Io` when it cannot be read.
pub(crate) fn file_digest(work: &Work<'_>, path: &Path) -> Result<Digest> {
    let file = HostFile::open(path)?;
    if let Some(digest) = work.state.database.file_digest(file.identity(), "file")? {
        return Ok(digest);
    }
    let digest = read_digest(work, &file)?;
    remember_digest(work, &file, digest)?;
    Ok(digest)
}

/// The digest of a host file, read now.
pub(crate) fn read_digest(work: &Work<'_>, file: &HostFile) -> Result<Digest> {
    let digest = digest_of(&Stoppable { inner: file, work })?;
    work.observer.bytes(StageName::Attest, file.len());
    Ok(digest)
}

/// Keeps the digest of a host file for [`file_digest`].
pub(crate) fn remember_digest(work: &Work<'_>, file: &HostFile, digest: Digest) -> Result<()> {
    work.state
        .database
        .remember_digest(file.identity(), "file", digest)
}

/// Reads until the caller asks to stop.
struct Stoppable<'a, S> {
    inner: S,
    work: &'a Work<'a>,
}

impl<S: Source> Source for Stoppable<'_, S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.work.check()?;
        self.inner.read_exact_at(offset, buf)
    }
}

/// Every host file of the machine as a subject, named by its path in the library.
///
/// # Errors
/// `Io` when one cannot be read.
pub(crate) fn chain(
    work: &Work<'_>,
    library: &Path,
    files: &[MachineFile],
) -> Result<Vec<Subject>> {
    files
        .iter()
        .map(|file| {
            let digest = file_digest(work, &file.path)?;
            Ok(Subject::new(
                format!("source:{}", within(Some(library), &file.path)),
                digest,
            ))
        })
        .collect()
}

/// The name of the subject that is all a guest sees on its disk at a point.
#[must_use]
pub(crate) fn point_name(machine: &str, point: &str) -> String {
    format!("point:{machine}@{point}")
}

/// The name of the subject that is the saved memory of a point.
#[must_use]
pub(crate) fn memory_name(machine: &str, point: &str) -> String {
    format!("memory:{machine}@{point}")
}

/// The name of the subject that is all a guest sees on one of several disks at a point.
#[must_use]
pub(crate) fn disk_name(disk: &str, machine: &str, point: &str) -> String {
    format!("disk:{disk}:{machine}@{point}")
}

/// All that the guest sees on its disks at a point, as subjects: the point itself where there is one disk, each disk by its
/// name where there are several.
///
/// # Errors
/// What cannot be read.
pub(crate) fn point_subjects(
    work: &Work<'_>,
    machine: &OpenMachine,
    point: &str,
) -> Result<Vec<Subject>> {
    let one = machine.has_one_disk(point);
    machine
        .disks(point)?
        .into_iter()
        .map(|(disk, source)| {
            work.observer.bytes(StageName::Attest, source.len());
            let digest = digest_of(&Stoppable {
                inner: source,
                work,
            })?;
            let name = if one {
                point_name(&machine.name, point)
            } else {
                disk_name(&disk, &machine.name, point)
            };
            Ok(Subject::new(name, digest))
        })
        .collect()
}

/// The digest of the saved memory of a point; `None` when it has none.
///
/// # Errors
/// What cannot be read.
pub(crate) fn memory_digest(
    work: &Work<'_>,
    machine: &OpenMachine,
    point: &str,
) -> Result<Option<Digest>> {
    let Some(source) = machine.memory(point)? else {
        return Ok(None);
    };
    work.observer.bytes(StageName::Attest, source.len());
    digest_of(&Stoppable {
        inner: source,
        work,
    })
    .map(Some)
}

/// Opens what a statement about `machine`'s points was made of, to compute its digests again.
///
/// # Errors
/// A subject whose machine cannot be opened.
pub fn parse_point(name: &str) -> Result<(&str, &str)> {
    name.rsplit_once('@')
        .ok_or_else(|| Error::corrupt(format!("'{name}' is not machine@point")))
}
