//! A new copy-on-write layer over a cold disk: the transaction in which all changes are made.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dormouse_block::{Error, Result, Source};
use dormouse_disk::FormatName;

use crate::layer::Layer;
use crate::layout::{Backing, MAX_BACKING_NAME};
use crate::output::{self, Container, Spread, serially};
use crate::{ColdDisk, Device};

/// What the new image file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// A layer that names the base as its backing file, and needs it. Only the active state of an image can be named.
    #[default]
    Overlay,
    /// An image that needs no other file: what the base holds is copied into it when it is committed.
    Standalone {
        /// How the copied clusters are stored.
        packing: Packing,
    },
    /// The same in another format. The changes are kept in a nameless file until it is committed.
    Image {
        /// The format.
        container: Container,
        /// When it is made, in seconds since 1970-01-01 UTC, for formats that say so.
        made: u64,
    },
}

/// How clusters copied from the base are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// As they are.
    #[default]
    Plain,
    /// Compressed with deflate, which every reader of qcow2 knows.
    Deflate,
    /// Compressed with zstd.
    Zstd,
}

/// What to do when the target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Leave it and fail.
    #[default]
    Keep,
    /// Put the new image in its place, at the moment of commit.
    Replace,
}

/// How to write an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OverlayOptions {
    /// What the new file is.
    pub output: Output,
    /// What to do when the target exists.
    pub existing: Existing,
}

/// An image that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it stands now.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A qcow2 layer being written beside its target, under the target's name with `.partial` added. Reads see the writes;
/// the base is never opened for writing. Dropping it removes the partial file; [`Overlay::commit`] publishes it.
///
/// ```no_run
/// use dormouse_disk::{Image, PointInfo};
/// use dormouse_overlay::{ColdDisk, Device, Evidence, Overlay, OverlayOptions};
///
/// # fn patch(image: Box<dyn Image>) -> dormouse_block::Result<()> {
/// let cold = ColdDisk::prove(&*image, "active", &Evidence::default())?;
/// let overlay = Overlay::create(cold, "out.qcow2".as_ref(), &OverlayOptions::default())?;
/// overlay.write_at(1 << 20, b"patched")?;
/// overlay.commit()?;
/// # Ok(()) }
/// ```
pub struct Overlay {
    cold: ColdDisk,
    partial: Partial,
    options: OverlayOptions,
    target: PathBuf,
    backing: Option<Backing>,
    size: u64,
    layer: Mutex<Layer>,
    /// The partial file, where it is not the layer itself.
    image: Option<File>,
}

/// The file that disappears unless it is published.
struct Partial {
    path: PathBuf,
    published: bool,
}

impl Partial {
    fn bring_to_disk(&self) -> Result<()> {
        File::open(&self.path)
            .and_then(|file| file.sync_all())
            .map_err(|error| {
                Error::io("cannot bring the image to the disk", error).in_file(self.path.display())
            })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // Nothing more can be done about a file that cannot be removed; its name says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Overlay {
    /// The name under which the layer for `target` is written. A file of that name left by a run that was killed can
    /// be removed by whoever knows that no run is alive.
    #[must_use]
    pub fn partial_path(target: &Path) -> PathBuf {
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }

    /// Begins a new layer over `cold`, to be published as `target`.
    ///
    /// # Errors
    /// `Unsupported` when its image is encrypted, and when an internal snapshot, or a base that QEMU cannot read, is to be
    /// named as a backing file, `Denied` when the target (or a partial
    /// file for it) exists, `Limit` when the disk is larger than qcow2 can map, `Io` when the host cannot create it.
    pub fn create(cold: ColdDisk, target: &Path, options: &OverlayOptions) -> Result<Self> {
        if let Some(why) = cold.encrypted() {
            return Err(Error::unsupported(format!(
                "{why}, and what is written from it would not be"
            )));
        }
        let backing = match options.output {
            Output::Overlay if cold.is_active() => {
                if let Some(why) = cold.unreadable_below() {
                    return Err(Error::unsupported(format!(
                        "{why}, so no machine could start from an overlay on it; a whole image can be written"
                    )));
                }
                Some(backing_of(&cold, target)?)
            }
            Output::Overlay => {
                return Err(Error::unsupported(format!(
                    "restore point {} lies inside its image, so no layer can name it as its backing file; a standalone \
                     image can be written",
                    cold.point().id
                )));
            }
            Output::Standalone { .. } | Output::Image { .. } => None,
        };
        if options.existing == Existing::Keep && target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        // qcow2 counts in sectors of 512 bytes; what a ragged raw disk lacks of its last one reads as zeroes.
        let size = cold
            .base()
            .len()
            .checked_next_multiple_of(512)
            .ok_or_else(|| Error::limit("the disk is too large"))?;
        let path = Self::partial_path(target);
        // Whoever may not read the base may not read its bytes here either.
        let mode = mode_of(&cold)?;
        let file = create(&path, mode)?;
        let partial = Partial {
            path,
            published: false,
        };
        let (file, image) = match options.output {
            Output::Image { .. } => (nameless(&partial.path, mode)?, Some(file)),
            _ => (file, None),
        };
        let layer = Layer::new(file, partial.path.clone(), size)?;
        Ok(Self {
            cold,
            partial,
            options: *options,
            target: target.to_owned(),
            backing,
            size,
            layer: Mutex::new(layer),
            image,
        })
    }

    /// The disk below.
    #[must_use]
    pub fn cold(&self) -> &ColdDisk {
        &self.cold
    }

    /// Bytes of guest data written into the layer so far, whole clusters.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.layer().data_bytes()
    }

    /// Completes the image, brings it to the disk, and gives it its name.
    ///
    /// # Errors
    /// As [`Overlay::commit_verified`].
    pub fn commit(self) -> Result<Published> {
        self.commit_verified(|_| Ok(()))
    }

    /// Like [`Overlay::commit`], letting `verify` look at the complete image before it gets its name: it is given the
    /// path of the partial file, and its error stops everything.
    ///
    /// # Errors
    /// As [`Overlay::commit_with`].
    pub fn commit_verified(self, verify: impl FnOnce(&Path) -> Result<()>) -> Result<Published> {
        self.commit_with(&serially, |partial, _| verify(partial))
    }

    /// Brings what was written so far to the disk, so that less is left to be brought there at the end. A whole image of
    /// another format is written at the end only.
    ///
    /// # Errors
    /// `Io` when the host cannot.
    pub fn bring_to_disk(&self) -> Result<()> {
        match self.image {
            Some(_) => Ok(()),
            None => self.partial.bring_to_disk(),
        }
    }

    /// Like [`Overlay::commit_verified`], with what compresses clusters and grains: the image is the same whoever
    /// does it. `verify` is given what brings the image to the disk, too, so that it may do so while it looks; it is
    /// there before it gets its name in any case.
    ///
    /// # Errors
    /// `Io` when the host cannot write, sync or rename, `Denied` when the target exists by now, `Limit` when the
    /// format cannot hold the disk, and whatever `verify` or reading the base returns. The partial file is removed
    /// then.
    pub fn commit_with(
        mut self,
        spread: &Spread<'_>,
        verify: impl FnOnce(&Path, &(dyn Fn() -> Result<()> + Sync)) -> Result<()>,
    ) -> Result<Published> {
        let bytes = match (self.options.output, self.image.take()) {
            (Output::Image { container, made }, Some(file)) => {
                let path = &self.partial.path;
                output::write(&self, container, made, file, path, spread)?
            }
            (output, _) => {
                let layer = self.layer.get_mut().unwrap_or_else(PoisonError::into_inner);
                if let Output::Standalone { packing } = output {
                    layer.absorb(&**self.cold.base(), packing, spread)?;
                }
                layer.complete(self.backing.as_ref())?
            }
        };
        let partial = &self.partial;
        verify(&partial.path, &|| partial.bring_to_disk())?;
        partial.bring_to_disk()?;
        publish(&self.partial.path, &self.target, self.options.existing)?;
        self.partial.published = true;
        Ok(Published {
            path: self.target.clone(),
            bytes,
        })
    }

    fn layer(&self) -> MutexGuard<'_, Layer> {
        // A write that panicked half-way leaves the map consistent; its caller will not commit.
        self.layer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, offset: u64, wanted: usize) -> Result<()> {
        u64::try_from(wanted)
            .ok()
            .and_then(|wanted| offset.checked_add(wanted))
            .filter(|end| *end <= self.size)
            .map(|_| ())
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "{wanted} bytes are wanted of a disk of {}",
                    self.size
                ))
                .at_offset(offset)
            })
    }
}

impl Source for Overlay {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(offset, buf.len())?;
        self.layer().read(&**self.cold.base(), offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.layer().next_data(&**self.cold.base(), offset)
    }
}

impl Device for Overlay {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        self.layer().write(&**self.cold.base(), offset, bytes)
    }
}

fn create(path: &Path, mode: u32) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(path),
            _ => Error::io("cannot create", error).in_file(path.display()),
        })
}

/// A file beside `partial` that is gone when its handle is, however the run ends.
fn nameless(partial: &Path, mode: u32) -> Result<File> {
    let mut name = partial.as_os_str().to_owned();
    name.push(".layer.partial");
    let path = PathBuf::from(name);
    let file = create(&path, mode)?;
    std::fs::remove_file(&path)
        .map_err(|error| Error::io("cannot unlink", error).in_file(path.display()))?;
    Ok(file)
}

fn exists(path: &Path) -> Error {
    Error::denied("exists already").in_file(path.display())
}

/// The base as the new image's header names it: relative when it lies in the target's folder or below, so that the
/// two can be moved together.
fn backing_of(cold: &ColdDisk, target: &Path) -> Result<Backing> {
    use std::os::unix::ffi::OsStrExt;

    let base = cold
        .files()
        .first()
        .ok_or_else(|| Error::unsupported("the disk has no file that could be named"))?;
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| Error::io("cannot resolve", error).in_file(path.display()))
    };
    let path = real(&base.path)?;
    let folder = real(folder_of(target))?;
    let name = path.strip_prefix(&folder).unwrap_or(&path);
    let mut name = name.as_os_str().as_bytes().to_vec();
    // A colon before the first slash would name a protocol.
    let first = name.iter().find(|byte| matches!(byte, b':' | b'/'));
    if first == Some(&b':') {
        name.splice(..0, *b"./");
    }
    if name.len() > MAX_BACKING_NAME {
        return Err(Error::limit(format!(
            "the path of the base is longer than the {MAX_BACKING_NAME} bytes that qcow2 allows"
        ))
        .in_file(path.display()));
    }
    Ok(Backing {
        name,
        format: qemu_name(base.format),
    })
}

/// The permissions of the base without those to execute; its owner can always read and write the new file.
fn mode_of(cold: &ColdDisk) -> Result<u32> {
    let mut mode = 0o666;
    for file in cold.files() {
        let metadata = std::fs::metadata(&file.path)
            .map_err(|error| Error::io("cannot look at", error).in_file(file.path.display()))?;
        mode &= metadata.permissions().mode();
    }
    Ok(mode | 0o600)
}

/// QEMU's name of a format, where it has another.
fn qemu_name(format: FormatName) -> &'static str {
    match format.as_str() {
        "vhd" => "vpc",
        name => name,
    }
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Renames the complete file into place and brings the folder's entry to the disk.
fn publish(partial: &Path, target: &Path, existing: Existing) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let fail = |error: std::io::Error| Error::io("cannot publish", error).in_file(target.display());
    match existing {
        Existing::Replace => std::fs::rename(partial, target).map_err(fail)?,
        Existing::Keep => match renameat_with(CWD, partial, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists(target)),
            // The filesystem knows no such rename: a second name for the file, made only if it is free, is as good.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::hard_link(partial, target).map_err(|error| match error.kind() {
                    std::io::ErrorKind::AlreadyExists => exists(target),
                    _ => fail(error),
                })?;
                std::fs::remove_file(partial).map_err(fail)?;
            }
            Err(errno) => return Err(fail(errno.into())),
        },
    }
    let folder = File::open(folder_of(target)).map_err(fail)?;
    folder.sync_all().map_err(fail)
}
