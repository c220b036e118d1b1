//! Package files unpacked by several threads and written by one, in order, straight into a patched image, while another
//! already works with those that are there.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use dormouse_advisories::VerifiedPayload;
use dormouse_block::{Digest, Error, GuestPath, Result};
use dormouse_overlay::Staged;
use dormouse_remedy::deb::{Limits, Unpacked, unpack};
use dormouse_remedy::{Plan, PlannedPackage, UnpackedPackages};

use crate::patch::{Bench, lock, mount_for};
use crate::payloads::{identity, read_some};

/// Bytes handed over at a time.
const STEP: usize = 64 << 10;
/// Parts of one package file that may wait to be written, so that packages of many small files are unpacked ahead too:
/// at most 64 MiB each.
const WAITING: usize = 1024;
/// Packages beside those of the threads that may be unpacked and not yet written, so that a large one keeps no thread from
/// the small ones after it.
const AHEAD: usize = 6;

/// What an unpacking thread hands over.
enum Part {
    /// A file begins.
    File {
        path: GuestPath,
        offset: u64,
        size: u64,
    },
    /// Its next bytes.
    Bytes(Vec<u8>),
    /// The package file is at its end.
    End(Box<Unpacked>),
    /// It does not unpack.
    Failed(Error),
}

/// A file of a package: the package file, and where its bytes begin in the data archive.
pub(crate) type FileKey = (Digest, u64);

/// The package files of one plan on their way into an image.
pub(crate) struct Staging {
    /// The package files themselves.
    pub(crate) packages: BTreeMap<Digest, VerifiedPayload>,
    progress: Mutex<Progress>,
    moved_on: Condvar,
}

/// How far the staging is.
#[derive(Default)]
struct Progress {
    /// What is in the package files that are written, by digest.
    unpacked: BTreeMap<Digest, Arc<Unpacked>>,
    /// Where each file's bytes are: the mount and the editor's handle.
    files: BTreeMap<FileKey, (usize, Staged)>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was to be staged is.
    Whole,
    /// A package file failed, or nobody wants the rest.
    Broken,
}

/// Says that nothing more is staged when it goes, however that comes.
struct Ending<'a>(&'a Staging, End);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

impl Staging {
    /// Nothing is staged yet.
    pub(crate) fn new(packages: BTreeMap<Digest, VerifiedPayload>) -> Self {
        Self {
            packages,
            progress: Mutex::default(),
            moved_on: Condvar::new(),
        }
    }

    /// Nothing is ever staged: the packages wait in the guest as they are.
    pub(crate) fn nothing(packages: BTreeMap<Digest, VerifiedPayload>) -> Self {
        let staging = Self::new(packages);
        staging.end(End::Whole);
        staging
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, how: End) {
        self.progress().end.get_or_insert(how);
        self.moved_on.notify_all();
    }

    /// Nobody wants the rest.
    pub(crate) fn abandon(&self) {
        self.end(End::Broken);
    }

    fn is_abandoned(&self) -> bool {
        self.progress().end == Some(End::Broken)
    }

    /// Where the bytes of this file of a package are, if they are staged.
    pub(crate) fn staged(&self, key: &FileKey) -> Option<(usize, Staged)> {
        self.progress().files.get(key).copied()
    }

    /// The staged file that holds the byte at this place of a package's data archive, and where it begins there.
    pub(crate) fn around(&self, key: FileKey) -> Option<(u64, (usize, Staged))> {
        // The place may lie within a file: the one that begins last before it.
        let progress = self.progress();
        let ((payload, start), staged) = progress.files.range(..=key).next_back()?;
        (*payload == key.0).then_some((*start, *staged))
    }

    /// Unpacks every package file of `plan` with up to `jobs` threads and stages its files on the editors of `bench`.
    /// Files are written in the plan's order, whatever thread is first, so that the same plan gives the same bytes.
    ///
    /// # Errors
    /// A package file that does not unpack; a filesystem that is full; `Cancelled` once it is abandoned.
    pub(crate) fn stage_all(&self, bench: &Bench, plan: &Plan, jobs: usize) -> Result<()> {
        let mut ending = Ending(self, End::Broken);
        let mut senders = Vec::new();
        let mut receivers = VecDeque::new();
        for planned in &plan.packages {
            let (sender, receiver) = sync_channel(WAITING);
            senders.push(Mutex::new(Some(sender)));
            receivers.push_back((planned, receiver));
        }
        let next = AtomicUsize::new(0);
        let jobs = jobs.clamp(1, plan.packages.len().max(1));
        let (begin, written) = sync_channel::<()>(jobs.saturating_add(AHEAD));
        std::thread::scope(|scope| {
            let written = written;
            for _ in 0..jobs {
                let begin = begin.clone();
                let (next, senders, packages) = (&next, &senders, &self.packages);
                scope.spawn(move || {
                    // Threads take packages in order, and the writer waits for them in order: whoever is waited for runs.
                    while begin.send(()).is_ok() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(planned), Some(slot)) =
                            (plan.packages.get(index), senders.get(index))
                        else {
                            return;
                        };
                        let sender = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                        if let (Some(sender), Some(package)) =
                            (sender, packages.get(&planned.payload))
                        {
                            produce(planned, package, &sender);
                        }
                    }
                });
            }
            // They go with this closure: that ends the threads when one package fails.
            let mut receivers = receivers;
            while let Some((planned, receiver)) = receivers.pop_front() {
                self.consume(bench, planned, &receiver)?;
                // A thread that ended kept its turn; there is always one to take back for each package.
                let _ = written.recv();
            }
            Ok(())
        })?;
        ending.1 = End::Whole;
        Ok(())
    }

    fn consume(
        &self,
        bench: &Bench,
        planned: &PlannedPackage,
        receiver: &Receiver<Part>,
    ) -> Result<()> {
        let ended = || Error::corrupt(format!("the unpacking of {} ended early", planned.name));
        loop {
            match receiver.recv().map_err(|_| ended())? {
                Part::File { path, offset, size } => {
                    if self.is_abandoned() {
                        return Err(Error::cancelled());
                    }
                    let mount = mount_for(&bench.guest, &path)?;
                    let editor = bench
                        .editors
                        .get(mount)
                        .and_then(Option::as_ref)
                        .ok_or_else(|| {
                            Error::unsupported(format!(
                                "the filesystem that {path} is on cannot be edited"
                            ))
                        })?;
                    let mut content = Content {
                        receiver,
                        part: Vec::new(),
                        at: 0,
                        left: size,
                    };
                    // Whoever reads what is staged waits for a file that is being written, and not for its unpacking.
                    content.fill().map_err(crate::payloads::not_unpacked)?;
                    let staged = lock(editor).stage(size, &mut content)?;
                    let key = (planned.payload, offset);
                    self.progress().files.insert(key, (mount, staged));
                }
                Part::End(unpacked) => {
                    let unpacked = Arc::new(*unpacked);
                    self.progress().unpacked.insert(planned.payload, unpacked);
                    self.moved_on.notify_all();
                    return Ok(());
                }
                Part::Failed(error) => return Err(error),
                Part::Bytes(_) => return Err(ended()),
            }
        }
    }
}

impl UnpackedPackages for Staging {
    fn unpacked(&self, payload: &Digest) -> Result<Option<Arc<Unpacked>>> {
        let mut progress = self.progress();
        loop {
            if let Some(unpacked) = progress.unpacked.get(payload) {
                return Ok(Some(unpacked.clone()));
            }
            match progress.end {
                Some(End::Whole) => return Ok(None),
                Some(End::Broken) => return Err(Error::cancelled()),
                None => {
                    progress = self
                        .moved_on
                        .wait(progress)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// The reader has gone: another package failed and nobody wants the rest.
fn gone<T>(_: T) -> Error {
    Error::cancelled()
}

fn produce(planned: &PlannedPackage, package: &VerifiedPayload, sender: &SyncSender<Part>) {
    let reader = BufReader::with_capacity(STEP, package.reader());
    let unpacked = unpack(
        reader,
        Some(&identity(planned)),
        &Limits::default(),
        &mut |head, content| {
            sender
                .send(Part::File {
                    path: head.path.clone(),
                    offset: head.offset,
                    size: head.size,
                })
                .map_err(gone)?;
            let mut left = head.size;
            while left > 0 {
                let mut part = vec![0; usize::try_from(left).unwrap_or(STEP).min(STEP)];
                let mut filled = 0;
                while let Some(rest) = part.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    let n = read_some(content, rest)?;
                    if n == 0 {
                        return Err(Error::corrupt("a file of a package ends before its size"));
                    }
                    filled = filled.saturating_add(n);
                }
                left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(left));
                sender.send(Part::Bytes(part)).map_err(gone)?;
            }
            Ok(())
        },
    );
    let last = match unpacked {
        Ok(unpacked) => Part::End(Box::new(unpacked)),
        Err(error) => Part::Failed(error),
    };
    // When nobody listens any more there is nothing left to say.
    let _ = sender.send(last);
}

/// One file's bytes as they come.
struct Content<'a> {
    receiver: &'a Receiver<Part>,
    part: Vec<u8>,
    at: usize,
    left: u64,
}

impl Content<'_> {
    /// Waits for bytes, unless some are there or all were read.
    fn fill(&mut self) -> std::io::Result<()> {
        if self.left > 0 && self.at >= self.part.len() {
            match self.receiver.recv() {
                Ok(Part::Bytes(part)) => {
                    self.part = part;
                    self.at = 0;
                }
                Ok(Part::Failed(error)) => return Err(std::io::Error::other(error)),
                _ => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(())
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.fill()?;
        let rest = self.part.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(n);
        self.left = self
            .left
            .saturating_sub(u64::try_from(n).unwrap_or(self.left));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_when_nothing_more_comes() {
        let payload = Digest::of(b"a package");
        let broken = Staging::new(BTreeMap::new());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| broken.unpacked(&payload));
            drop(Ending(&broken, End::Broken));
            let error = waiting.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), dormouse_block::ErrorKind::Cancelled);
        });
        assert!(broken.is_abandoned());
        // Of an end that came first no later one makes another.
        broken.end(End::Whole);
        assert!(broken.is_abandoned());
        let nothing = Staging::nothing(BTreeMap::new());
        assert!(nothing.unpacked(&payload).unwrap().is_none());
    }
}
