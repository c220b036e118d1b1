//! Package files unpacked by several threads and written by one, in order, straight into a patched image.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_advisories::{Repository, VerifiedPayload};
use dormouse_block::{Error, GuestPath, Result};
use dormouse_remedy::Plan;
use dormouse_remedy::PlannedPackage;
use dormouse_remedy::deb::{Limits, Unpacked, unpack};

use crate::patch::{Bench, StagedSet, lock, mount_for, verified};
use crate::payloads::{identity, read_some};

/// Bytes handed over at a time.
const STEP: usize = 64 << 10;
/// Parts of one package file that may wait to be written, so that packages of many small files are unpacked ahead too:
/// at most 128 MiB each.
const WAITING: usize = 2048;

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

/// Unpacks every package file of `plan` with up to `jobs` threads and stages its files on the editors of `bench`.
/// Files are written in the plan's order, whatever thread is first, so that the same plan gives the same bytes.
///
/// # Errors
/// A package file that is missing, not what its index says, or does not unpack; a filesystem that is full.
pub(crate) fn stage_all(
    bench: &Bench,
    plan: &Plan,
    repositories: &[Repository],
    jobs: usize,
) -> Result<StagedSet> {
    let packages = verified(plan, repositories)?;
    let mut set = StagedSet {
        unpacked: BTreeMap::new(),
        files: BTreeMap::new(),
        packages: packages.clone(),
    };
    let mut senders = Vec::new();
    let mut receivers = VecDeque::new();
    for planned in &plan.packages {
        let (sender, receiver) = sync_channel(WAITING);
        senders.push(Mutex::new(Some(sender)));
        receivers.push_back((planned, receiver));
    }
    let next = AtomicUsize::new(0);
    let jobs = jobs.clamp(1, plan.packages.len().max(1));
    // One package more than there are threads may be unpacked and not yet written.
    let (begin, written) = sync_channel::<()>(jobs.saturating_add(1));
    std::thread::scope(|scope| {
        let written = written;
        for _ in 0..jobs {
            let begin = begin.clone();
            let (next, senders, packages) = (&next, &senders, &packages);
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
                    if let (Some(sender), Some(package)) = (sender, packages.get(&planned.payload))
                    {
                        produce(planned, package, &sender);
                    }
                }
            });
        }
        // They go with this closure: that ends the threads when one package fails.
        let mut receivers = receivers;
        while let Some((planned, receiver)) = receivers.pop_front() {
            consume(bench, planned, &receiver, &mut set)?;
            // A thread that ended kept its turn; there is always one to take back for each package.
            let _ = written.recv();
        }
        Ok(())
    })?;
    Ok(set)
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

fn consume(
    bench: &Bench,
    planned: &PlannedPackage,
    receiver: &Receiver<Part>,
    set: &mut StagedSet,
) -> Result<()> {
    let ended = || Error::corrupt(format!("the unpacking of {} ended early", planned.name));
    loop {
        match receiver.recv().map_err(|_| ended())? {
            Part::File { path, offset, size } => {
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
                let staged = lock(editor).stage(size, &mut content)?;
                set.files.insert((planned.payload, offset), (mount, staged));
            }
            Part::End(unpacked) => {
                set.unpacked.insert(planned.payload, Arc::new(*unpacked));
                return Ok(());
            }
            Part::Failed(error) => return Err(error),
            Part::Bytes(_) => return Err(ended()),
        }
    }
}

/// One file's bytes as they come.
struct Content<'a> {
    receiver: &'a Receiver<Part>,
    part: Vec<u8>,
    at: usize,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        if self.at >= self.part.len() {
            match self.receiver.recv() {
                Ok(Part::Bytes(part)) => {
                    self.part = part;
                    self.at = 0;
                }
                Ok(Part::Failed(error)) => return Err(std::io::Error::other(error)),
                _ => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
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
